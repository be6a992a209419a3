"""Search in a feature cache: pictures by a sentence, sentences by a picture."""
