"""Finding the surface of a frame: what is learned of an identity, the plan, and its execution on either device."""
