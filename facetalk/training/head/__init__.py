"""Training of the head: identity codes, both deformations, and the figures of the result."""
