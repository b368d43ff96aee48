"""Training of what the tongue does with speech."""
