"""A voice, and files of it."""

from __future__ import annotations

import io
import struct

import numpy as np
import soundfile

from facetalk.units import SAMPLE_RATE


def voice(seconds: float, rate: int = SAMPLE_RATE, seed: int = 0) -> np.ndarray:
    """Pulses of 110 Hz in syllables, with some noise: (N,) float32."""
    time = np.arange(round(seconds * rate)) / rate
    sound = sum(np.sin(2 * np.pi * 110 * k * time) / k for k in range(1, 12))
    swing = np.clip(np.sin(2 * np.pi * 2.5 * time), 0.02, None)
    noise = np.random.default_rng(seed).normal(0, 1e-3, len(time))
    return np.asarray(0.15 * swing * sound + noise, np.float32)


def wav(samples: np.ndarray, rate: int = SAMPLE_RATE, size: int | None = None) -> bytes:
    """A WAV file, with the size of its sound replaced if ``size`` is given."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="PCM_16")
    data = bytearray(file.getvalue())
    if size is not None:
        at = data.index(b"data") + 4
        data[at : at + 4] = struct.pack("<I", size)
    return bytes(data)
