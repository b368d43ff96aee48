"""Sound to features: loading any recording, Wav2Vec 2.0 at the motion frame rate, training the small built-in
encoder."""

from __future__ import annotations

from facetalk.audio.encoder import AudioEncoder
from facetalk.audio.load import AudioReader, load_audio

__all__ = ["AudioEncoder", "AudioReader", "load_audio"]
