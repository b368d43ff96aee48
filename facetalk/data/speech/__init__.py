"""Speech to train on: texts, synthesizers, recordings, alignment, corpora on disk."""
