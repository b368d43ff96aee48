"""How much sound and how many voices a motion model needs, under one budget of training steps."""
