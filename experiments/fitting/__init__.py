"""How well captures whose truth is known are fitted, and how fast."""
