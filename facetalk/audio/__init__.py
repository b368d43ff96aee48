"""Sound to features: loading any recording, Wav2Vec 2.0 at the motion frame rate, training the small built-in
encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from facetalk.audio.load import AudioReader, load_audio
from facetalk.optional import names_of

if TYPE_CHECKING:
    from facetalk.audio.encoder import AudioEncoder

__all__ = ["AudioEncoder", "AudioReader", "load_audio"]

# The encoder needs torch; recordings are read without.
__getattr__ = names_of(__name__, {"AudioEncoder": "facetalk.audio.encoder"})
