"""Fundamental frequency of speech by YIN (de Cheveigné and Kawahara, "YIN, a fundamental frequency estimator
for speech and music", JASA 111, 2002), without its last step, in NumPy.

Faces for voices hear by it: of a recording that is there, by frames that may be long, and with the share of
their power that is aperiodic. :mod:`facetalk.pose.prosody` says why what moves the head has another tracker.
"""

from __future__ import annotations

import numpy as np

from facetalk.arrays import Float32, Float64
from facetalk.audio.periodicity import LAGS, vertex
from facetalk.units import SAMPLE_RATE

__all__ = ["HOP", "WINDOW", "pitch"]

HOP = SAMPLE_RATE // 100
"""Samples from one frame to the next, 10 ms."""
_HIGHEST_HZ = 500
_LAGS = SAMPLE_RATE // _HIGHEST_HZ, LAGS[1]
_SUM = SAMPLE_RATE * 40 // 1000
WINDOW = _SUM + _LAGS[1] + 1
"""Samples that a frame looks at."""
_THRESHOLD = 0.15
"""The paper's: the first dip below it is the period, so that multiples of the period are not taken for it."""
_BLOCK = 2048


def pitch(sound: Float32) -> tuple[Float32, Float32]:
    """Fundamental frequency and aperiodicity of every frame.

    Args:
        sound: (N,) 16 kHz mono.

    Returns:
        (F,) float32 fundamental frequency, Hz, 60 to 500, and (F,) aperiodicity: the share of the power that
        does not repeat, 0 for a periodic sound and about 1 for noise. Frame k looks at the samples from
        ``k * HOP`` on; F is 0 for a sound shorter than ``WINDOW``.
    """
    if len(sound) < WINDOW:
        return np.zeros(0, np.float32), np.zeros(0, np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(sound, WINDOW)[::HOP]
    parts = [_block(frames[i : i + _BLOCK].astype(np.float64)) for i in range(0, len(frames), _BLOCK)]
    hertz, aperiodicity = (np.concatenate(values).astype(np.float32) for values in zip(*parts, strict=True))
    return hertz, aperiodicity


def _block(frames: Float64) -> tuple[Float64, Float64]:
    difference = _difference(frames)
    lags = np.arange(1, difference.shape[1])
    mean = np.maximum(np.cumsum(difference[:, 1:], axis=1) / lags, 1e-12)
    normal = np.concatenate([np.ones((len(frames), 1)), difference[:, 1:] / mean], axis=1)
    inner = normal[:, _LAGS[0] : _LAGS[1]]
    dip = (inner <= normal[:, _LAGS[0] - 1 : _LAGS[1] - 1]) & (
        inner <= normal[:, _LAGS[0] + 1 : _LAGS[1] + 1]
    )
    early = dip & (inner < _THRESHOLD)
    at = np.where(early.any(axis=1), early.argmax(axis=1), inner.argmin(axis=1)) + _LAGS[0]
    rows = np.arange(len(frames))
    before, here, after = (normal[rows, at + step] for step in (-1, 0, 1))
    silent = difference[:, 1:].max(axis=1) < 1e-9
    return SAMPLE_RATE / (at + vertex(before, here, after)), np.where(silent, 1.0, np.maximum(here, 0.0))


def _difference(frames: Float64) -> Float64:
    """Sum of squares of a frame's beginning less itself, for each lag (the paper's equation 6)."""
    size = 1 << int(np.ceil(np.log2(frames.shape[1] + 1)))
    spectrum = np.fft.rfft(frames, size, axis=1)
    head = np.fft.rfft(frames[:, :_SUM], size, axis=1)
    product = np.fft.irfft(np.conj(head) * spectrum, size, axis=1)[:, : _LAGS[1] + 2]
    energy = np.concatenate([np.zeros((len(frames), 1)), np.cumsum(frames**2, axis=1)], axis=1)
    moved = energy[:, _SUM : _SUM + _LAGS[1] + 2] - energy[:, : _LAGS[1] + 2]
    return np.asarray(np.maximum(moved[:, :1] + moved - 2.0 * product, 0.0))
