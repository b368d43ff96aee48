"""Heads to train on: the ICT-FaceKit reader and points sampled from it."""
