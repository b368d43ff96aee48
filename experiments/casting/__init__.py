"""Faces for voices: learning the timbre, and what the draw keeps apart."""
