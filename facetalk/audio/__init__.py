"""Sound to features: loading any recording, Wav2Vec 2.0 at the motion frame rate, Whisper in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from facetalk.audio.load import AudioReader, load_audio
from facetalk.optional import names_of

if TYPE_CHECKING:
    from facetalk.audio.encoder import AudioEncoder
    from facetalk.audio.whisper_encoder import WhisperEncoder

__all__ = ["AudioEncoder", "AudioReader", "WhisperEncoder", "load_audio"]

# Encoders need torch; recordings are read without.
_ORIGINS = {
    "AudioEncoder": "facetalk.audio.encoder",
    "WhisperEncoder": "facetalk.audio.whisper_encoder",
}
__getattr__ = names_of(__name__, _ORIGINS)
