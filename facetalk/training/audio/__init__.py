"""Training of the audio encoder, and the sound it is trained on."""
