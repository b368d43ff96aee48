"""How a head moves with its voice: prosody of a sound, and the pose that goes with it."""
