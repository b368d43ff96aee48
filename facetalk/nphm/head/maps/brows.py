"""Brows made of hairs: strokes on a strip that follows the brow, as the texels of the skin see it."""

from __future__ import annotations

import functools

import numpy as np

from facetalk.arrays import AnyFloat, Float32, Int64
from facetalk.nphm.head.albedo import brow_curves, brow_width, nearest, smooth

__all__ = ["brow_hairs"]

_LONG, _HIGH = 480, 120
"""Texels of the strip along and across the brow."""
_REACH = 0.036
"""Half of what it covers across, head units (9 mm)."""
_HAIRS, _SAMPLES = 620, 40


def brow_hairs(points: AnyFloat, landmarks: AnyFloat) -> Float32:
    """How much (N,) of template points (N, 3) is covered by hairs of a brow, 0 to 1."""
    out = np.zeros(len(points), np.float32)
    for side, curve in enumerate(brow_curves(landmarks)):
        distance, index = nearest(points, curve, _REACH)
        near = np.flatnonzero(distance < _REACH)
        if not len(near):
            continue
        along, across = _place(points[near], curve, index[near])
        strip = _strip(side)
        out[near] = np.maximum(out[near], _sampled(strip, along, across))
    return out


def _place(points: AnyFloat, curve: AnyFloat, index: Int64) -> tuple[AnyFloat, AnyFloat]:
    """Fraction of the brow's length, beyond its ends as well, and how far above its middle, head units."""
    before, after = np.maximum(index - 1, 0), np.minimum(index + 1, len(curve) - 1)
    tangent = curve[after] - curve[before]
    steps = (after - before).astype(np.float64)
    length2 = np.maximum((tangent**2).sum(axis=1), 1e-18)
    off = points - curve[index]
    share = (off * tangent).sum(axis=1) / length2 * steps
    along = (index + share) / (len(curve) - 1)
    # What leaves the curve at a right angle, upwards on the front of the head.
    rest = off - tangent * ((off * tangent).sum(axis=1) / length2)[:, None]
    across = np.sign(rest[:, 1]) * np.linalg.norm(rest, axis=1)
    return along, across


def _sampled(strip: Float32, along: AnyFloat, across: AnyFloat) -> Float32:
    x = (along * 0.84 + 0.08) * _LONG - 0.5
    y = (0.5 + 0.5 * across / _REACH) * _HIGH - 0.5
    inside = (x >= 0) & (x < _LONG - 1) & (y >= 0) & (y < _HIGH - 1)
    i, j = np.where(inside, x, 0).astype(int), np.where(inside, y, 0).astype(int)
    s, t = np.where(inside, x - i, 0.0), np.where(inside, y - j, 0.0)
    value = (strip[j, i] * (1 - s) + strip[j, i + 1] * s) * (1 - t) + (
        strip[j + 1, i] * (1 - s) + strip[j + 1, i + 1] * s
    ) * t
    return np.where(inside, value, 0.0).astype(np.float32)


@functools.cache
def _strip(side: int) -> Float32:
    """(_HIGH, _LONG) coverage by hairs, from the outside inwards, the lower edge first.

    Near the nose hairs stand up, further out they lie along the brow, those above come down to its middle
    and those below go up to it.
    """
    rng = np.random.default_rng(40 + side)
    start = 1.0 - rng.beta(1.35, 1.25, _HAIRS) * 0.98  # fraction of the length, 1 at the nose
    width = brow_width(start) * np.interp(start, [0.0, 0.12, 0.9, 1.0], [0.35, 0.8, 1.0, 0.75])
    height = np.clip(rng.normal(0.0, 0.62, _HAIRS), -1.3, 1.3)
    # The end at the nose is ragged, and round rather than cut.
    start -= 0.07 * np.abs(height) ** 1.5 * smooth(start, 0.8, 1.0) + rng.uniform(0.0, 0.05, _HAIRS)
    # Directions: 0 is outwards along the brow, 90 degrees up.
    upright = np.interp(start, [0.0, 0.55, 0.82, 1.0], [2.0, 14.0, 38.0, 72.0])
    angle = np.deg2rad(
        upright - 22.0 * height * np.interp(start, [0.6, 1.0], [1.0, 0.35]) + rng.normal(0, 7, _HAIRS)
    )
    length = np.interp(start, [0.0, 0.5, 1.0], [0.022, 0.032, 0.026]) * rng.uniform(0.7, 1.15, _HAIRS)
    bend = rng.normal(-0.25, 0.2, _HAIRS) - 0.2 * np.sign(height)
    t = np.linspace(0.0, 1.0, _SAMPLES)
    turned = angle[:, None] + bend[:, None] * t
    step = length[:, None] / _SAMPLES
    span = 0.215  # about a brow's length, head units
    x = start[:, None] - np.cumsum(np.cos(turned) * step, axis=1) / span
    y = (height * width)[:, None] - 0.004 * np.sin(upright * np.pi / 180)[:, None]
    y = y + np.cumsum(np.sin(turned) * step, axis=1)
    column, row = (x * 0.84 + 0.08) * _LONG - 0.5, (0.5 + 0.5 * y / _REACH) * _HIGH - 0.5
    strong = rng.uniform(0.55, 1.0, _HAIRS) * (1.0 - 0.5 * smooth(start, 0.86, 0.98))
    strength = strong[:, None] * np.minimum(1.0, 2.2 * (1.05 - t))
    strip = np.zeros((_HIGH, _LONG), np.float32)
    i0, j0 = np.rint(column).astype(int), np.rint(row).astype(int)
    for dj in (-2, -1, 0, 1, 2):
        for di in (-2, -1, 0, 1, 2):
            i, j = i0 + di, j0 + dj
            cover = strength * np.exp(-((i - column) ** 2 + (j - row) ** 2) / 1.3)
            ok = (i >= 0) & (i < _LONG) & (j >= 0) & (j < _HIGH)
            np.maximum.at(strip, (j[ok], i[ok]), cover[ok].astype(np.float32))
    return strip
