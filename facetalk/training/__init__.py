"""Training of every part; nothing here is needed to use a model."""
