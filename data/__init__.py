"""What both stages share: corpora, words, and the feature cache. Imports no torch and no other room of mrnn."""
