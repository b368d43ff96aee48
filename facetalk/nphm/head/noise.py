"""Noise for surfaces: soft in space, and bands of it on a picture. The same seed gives the same."""

from __future__ import annotations

import functools

import numpy as np

from facetalk.arrays import AnyFloat, Float32, Int32
from facetalk.mesh.strips import in_strips, strips_of

__all__ = ["band", "in_space"]

_SIDE = 64
"""Cells after which the noise in space begins again."""
_STRIDES = np.array([_SIDE * _SIDE, _SIDE, 1], np.int32)


def in_space(points: AnyFloat, cell: float, seed: int) -> Float32:
    """Value noise (N,) of about -1 to 1 at points (N, 3), which changes over a length of ``cell``."""
    at = np.asarray(points, np.float32) * np.float32(1.0 / cell) + np.float32(_SIDE)
    low = np.floor(at).astype(np.int32)
    t = at - low
    t = t * t * (np.float32(3.0) - np.float32(2.0) * t)
    lattice = _lattice(seed)
    # The same as a remainder, for which processors take far longer.
    near, far = (low & _SIDE - 1) * _STRIDES, ((low + 1) & _SIDE - 1) * _STRIDES
    x, y, z = t.T

    def along_x(rest: Int32) -> Float32:
        first, second = lattice[near[:, 0] + rest], lattice[far[:, 0] + rest]
        out: Float32 = first + (second - first) * x
        return out

    def along_y(plane: Int32) -> Float32:
        first, second = along_x(near[:, 1] + plane), along_x(far[:, 1] + plane)
        return first + (second - first) * y

    first, second = along_y(near[:, 2]), along_y(far[:, 2])
    return first + (second - first) * z


@functools.lru_cache(maxsize=64)
def _lattice(seed: int) -> Float32:
    """Values of the cells, a megabyte: a picture asks for them strip by strip."""
    return np.random.default_rng(seed).uniform(-1.0, 1.0, _SIDE**3).astype(np.float32)


def band(shape: tuple[int, int], wavelengths: tuple[float, float], seed: int) -> Float32:
    """Noise (h, w) of unit variance on a picture, of wavelengths between two, in texels.

    It has no seam where the picture ends.
    """
    height, width = shape
    white = np.random.default_rng(seed).standard_normal(shape, np.float32)
    spectrum = np.fft.rfft2(white)
    up, along = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    short, long = wavelengths
    centre, spread = 0.5 * (1.0 / short + 1.0 / long), 0.5 * (1.0 / short - 1.0 / long)

    def pass_through(rows: slice) -> None:
        frequency = np.hypot(up[rows], along)
        spectrum[rows] *= np.exp(-(((frequency - centre) / max(spread, 1e-6)) ** 2))

    for _ in in_strips(pass_through, strips_of(height, width // 2)):
        pass
    out = np.fft.irfft2(spectrum, shape).astype(np.float32)
    return out / max(float(out.std()), 1e-12)
