"""What an encoder makes of bad recordings, of sound that is no speech, and of sound that goes on."""

LOOK_AHEADS_MS = (60, 100, 180, 260, 500)
"""Of live sound."""
