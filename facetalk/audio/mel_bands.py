"""The mel bands of every log-mel spectrum here."""

from __future__ import annotations

import functools

import numpy as np

from facetalk.arrays import Float32
from facetalk.units import SAMPLE_RATE

__all__ = ["FFT", "MEL_BANDS", "WINDOW", "mel_filters"]

MEL_BANDS = 80
WINDOW, FFT = 400, 512
"""Samples of a spectrum, and to how many they are filled up."""
_LOW_HZ, _HIGH_HZ = 50.0, 7600.0


@functools.cache
def mel_filters() -> Float32:
    """(MEL_BANDS, 257) triangles of equal height on O'Shaughnessy's mel scale, 2595 log10(1 + f / 700)."""
    low, high = (2595.0 * np.log10(1.0 + hz / 700.0) for hz in (_LOW_HZ, _HIGH_HZ))
    edges = 700.0 * (10.0 ** (np.linspace(low, high, MEL_BANDS + 2) / 2595.0) - 1.0)
    hertz = np.fft.rfftfreq(FFT, 1.0 / SAMPLE_RATE)
    rising = (hertz - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - hertz) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)
