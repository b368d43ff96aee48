"""Cropped hair of the built-in head: where on the template it grows, how strands lie, what colour they have.

The morphable head has none, and a skull without any looks like a mannequin's. Hair of a few millimetres is
painted and has no shape of its own, so every format shows it and nothing of the geometry changes.
"""

from __future__ import annotations

import functools

import numpy as np

from facetalk.arrays import AnyFloat, Float32, Float64
from facetalk.nphm.head.albedo import Palette, mix, smooth
from facetalk.nphm.head.noise import in_space

__all__ = ["covered", "hair_cover", "hair_depth", "strands", "uneven", "with_hair"]

_COVER = 0.9
"""Of the scalp by cropped hair, where it is thickest."""
_AXIS_Z, _RADIUS = -0.15, 0.3
"""The vertical axis that angles go around, and how far from it the hairline about lies, head units."""
# Angle from the front in degrees, and height of the hairline there on the mean head: forehead, temple,
# sideburn, around the ear, nape.
_HAIRLINE = np.array([
    (0, 0.368), (18, 0.376), (34, 0.372), (44, 0.342), (52, 0.272), (60, 0.205), (67, 0.150), (73, 0.060),
    (79, -0.030), (88, -0.035), (93, 0.030), (98, 0.095), (106, 0.118), (115, 0.085), (123, -0.010),
    (133, -0.110), (146, -0.190), (163, -0.225), (180, -0.235),
])  # fmt: skip
_ROUND = 5.0
"""Half of the degrees over which the hairline's corners are rounded."""
_SOFT = 0.05
"""Half of the width over which hair sets in, head units."""
_WIDE, _SLENDER = 0.0036, 0.14
"""Width of strands, head units (0.9 mm, what a texel shows), and what part of their length that is."""
_TUFT = 0.011
"""Width of tufts, head units (2.8 mm)."""
_CROWN = np.array([0.0, 0.50, -0.30])


def hair_depth(points: AnyFloat) -> Float32:
    """How far (N,) points (N, 3) on the mean head's skull lie within the hairline, head units."""
    x, (degrees, heights) = np.asarray(points, np.float32), _hairline()
    around = np.degrees(np.arctan2(np.abs(x[:, 0]), x[:, 2] - _AXIS_Z))
    places = np.stack([_RADIUS * np.radians(around), x[:, 1]], axis=1)
    curve = np.stack([_RADIUS * np.radians(degrees), heights], axis=1)
    far = np.concatenate([
        np.sqrt(((part[:, None] - curve) ** 2).sum(axis=2).min(axis=1))
        for part in np.array_split(places, max(1, len(places) // 4096))
    ])  # fmt: skip
    return np.where(x[:, 1] > np.interp(around, degrees, heights), far, -far).astype(np.float32)


@functools.cache
def _hairline() -> tuple[Float64, Float64]:
    """Degrees from the front and heights of the hairline there, its corners rounded."""
    degrees = np.arange(-_ROUND, 180.0 + _ROUND + 0.5, 0.5)
    corners = np.interp(180.0 - np.abs(180.0 - np.abs(degrees)), *_HAIRLINE.T)
    taper = np.hanning(int(4 * _ROUND) + 1)
    return np.arange(0.0, 180.5, 0.5), np.convolve(corners, taper / taper.sum(), mode="valid")


def hair_cover(depth: AnyFloat, points: AnyFloat) -> tuple[Float32, Float32]:
    """Where hair grows on template points (N, 3) of the mean head.

    Args:
        depth: (N,) of :func:`hair_depth`.
        points: (N, 3).

    Returns:
        (N,) 0 outside the hairline and 1 inside, ragged; and (N,) how thick it is there, at most 1: thinner
        at its edge, the temples and the nape.
    """
    x = np.asarray(points, np.float32)
    ragged = depth + 0.008 * in_space(x, 0.022, 51) + 0.005 * in_space(x, 0.008, 52)
    # Ears stand out of the head beside it.
    ears = smooth(np.abs(x[:, 0]), 0.305, 0.325) * (1.0 - smooth(x[:, 1], 0.09, 0.12)) * (x[:, 1] > -0.15)
    thick = (0.6 + 0.4 * smooth(depth, 0.0, 0.12)) * (0.8 + 0.2 * smooth(x[:, 1], -0.05, 0.25))
    return (smooth(ragged, -_SOFT, _SOFT) * (1.0 - ears)).astype(np.float32), thick.astype(np.float32)


def strands(points: AnyFloat) -> Float32:
    """-1 to 1 (N,), dark and light of tufts, and of strands that lie away from the crown."""
    off = np.asarray(points, np.float64) - _CROWN
    # A strand is long away from the crown and narrow across; its direction wanders.
    around = np.arctan2(off[:, 0], off[:, 2]) + 0.03 * in_space(points, 0.04, 53)
    far = np.linalg.norm(off, axis=1)
    ring = np.stack([_RADIUS * np.sin(around), _RADIUS * np.cos(around), _SLENDER * far], axis=1)
    fine = 0.6 * in_space(ring, _WIDE, 54) + 0.6 * in_space(points, 0.6 * _WIDE, 57)
    tufts = 0.3 * in_space(ring, _TUFT, 58) + 0.12 * in_space(points, 0.03, 56)
    return np.clip(1.5 * (fine + tufts), -1.0, 1.0).astype(np.float32)


def uneven(grows: Float32, strand: Float32) -> Float32:
    """The first that :func:`hair_cover` tells (N,), strand by strand where hair sets in."""
    return np.asarray(smooth(2.0 * grows - 1.0 + 0.75 * strand * (1.0 - 0.7 * grows), -0.9, 0.9), np.float32)


def with_hair(color: AnyFloat, points: AnyFloat, palette: Palette) -> AnyFloat:
    """Colours (N, 3) of the skin at template points with hair over them, as coarse as vertices are."""
    grows, thick = hair_cover(hair_depth(points), points)
    return covered(color, grows * thick, np.zeros(len(points), np.float32), palette)


def covered(color: AnyFloat, cover: Float32, strand: Float32, palette: Palette) -> AnyFloat:
    """Colours (N, 3) of skin under a cover (N,) of hair whose strands are as dark or light as (N,) says."""
    color = mix(color, palette.of("scalp"), 0.7 * cover)
    tone = palette.of("brow") * np.float32(0.68) * (1.0 + 0.62 * strand[:, None])
    return mix(color, tone, _COVER * cover * (0.88 + 0.12 * strand))
