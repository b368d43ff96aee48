"""What an encoder makes of bad recordings, of sound that is no speech, and of sound that goes on."""
