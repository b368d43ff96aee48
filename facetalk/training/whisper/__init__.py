"""Training of the adapter that takes what Whisper hears to a model's features."""
