"""Which region of a picture a word or phrase speaks of."""
