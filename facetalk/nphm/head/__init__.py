"""The built-in head: its networks as one object, its rig, its canonical mesh and its colours."""
