"""Finding the surfaces of frames: what is learned of an identity, the plan, and its execution."""
