"""Training data: head geometry, speech with phone times, and what a face does while it speaks."""
