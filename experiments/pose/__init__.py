"""How the head moves with voices, beside what is published of people."""
