"""The eyeball's picture: pupil, iris with its fibres, limbus, and a white with vessels."""

from __future__ import annotations

import numpy as np

from facetalk.arrays import AnyFloat, Float32, UInt8
from facetalk.mesh.strips import in_strips, strips_of
from facetalk.mesh.textures import Maps
from facetalk.nphm.head.albedo import IRIS_DEG, PUPIL, PUPIL_DEG, SCLERA, SCLERA_EDGE, Palette, mix, smooth
from facetalk.nphm.head.maps.layout import bytes_of, eye_angle

__all__ = ["paint_eyes"]


def paint_eyes(palette: Palette, seed: int, side: int) -> Maps:
    """Maps of both eyeballs, which share them.

    Args:
        palette: of the person.
        seed: of the person's fibres and vessels.
        side: pixels along a side.
    """

    def strip(rows: slice) -> UInt8:
        return bytes_of(_colors(palette, seed, side, *eye_angle(side, rows)))

    out = np.concatenate(list(in_strips(strip, strips_of(side * side))))
    return Maps(out.reshape(side, side, 3))


def _colors(palette: Palette, seed: int, side: int, angle: AnyFloat, turn: AnyFloat) -> AnyFloat:
    """(N, 3) of texels at polar angles (N,) in degrees and turns (N,): chance is the same for all of them."""
    soft = 0.6 * 48.0 / (0.24 * 2 * side) + 0.15  # degrees: a texel and a little
    rng = np.random.default_rng(seed + 11)
    out = _white(angle, turn, rng)
    iris = _iris(palette, angle, turn, rng)
    inside = 1.0 - smooth(angle, IRIS_DEG - 2.2, IRIS_DEG + 0.5)
    out = mix(
        out,
        palette.of("limbus") * np.float32(0.9),
        0.75 * (1.0 - smooth(angle, IRIS_DEG - 0.6, IRIS_DEG + 2.2)),
    )
    out = mix(out, iris, inside)
    edge = PUPIL_DEG + 0.25 * _around(turn, rng, 40, 0.7)
    return mix(out, PUPIL, 1.0 - smooth(angle - edge, -soft, soft))


def _iris(palette: Palette, angle: AnyFloat, turn: AnyFloat, rng: np.random.Generator) -> AnyFloat:
    """Fibres from the pupil to the rim, brighter and darker, with a collarette a third of the way out."""
    depth = np.clip((angle - PUPIL_DEG) / (IRIS_DEG - PUPIL_DEG), 0.0, 1.0)
    wander = 0.035 * np.sin(9.0 * depth + 5.0 * _around(turn, rng, 9, 1.0))
    fibres = 0.5 * _around(turn + wander, rng, 150, 0.75) + 0.5 * _around(turn + 1.5 * wander, rng, 64, 0.85)
    spokes = _around(turn, rng, 22, 1.0)
    collar = 0.30 + 0.05 * _around(turn, rng, 16, 0.9)
    outer = smooth(depth - collar, -0.10, 0.16)
    color = mix(np.tile(palette.of("iris_inner"), (len(angle), 1)), palette.of("iris"), outer)
    light = 1.0 + (0.30 + 0.12 * outer) * fibres + 0.10 * spokes
    light += 0.20 * np.exp(-(((depth - collar) / 0.06) ** 2)) - 0.30 * (1.0 - smooth(depth, 0.0, 0.10))
    # Crypts: dark gaps between fibres beyond the collarette.
    crypts = np.maximum(0.0, _around(turn + wander, rng, 40, 0.9) - 0.45) * np.exp(
        -(((depth - collar - 0.18) / 0.13) ** 2)
    )
    light -= 0.55 * crypts
    color = color * np.clip(1.12 * light, 0.25, 1.9)[:, None]
    return mix(color, palette.of("limbus"), 0.9 * smooth(depth, 0.70, 1.0))


def _white(angle: AnyFloat, turn: AnyFloat, rng: np.random.Generator) -> AnyFloat:
    """Sclera: pinker towards the corners of the lids and the back, with thin winding vessels."""
    color = mix(np.tile(SCLERA, (len(angle), 1)), SCLERA_EDGE, 0.7 * smooth(angle, 38, 62))
    color = mix(color, SCLERA_EDGE, 0.16 * np.abs(np.cos(turn)) * smooth(angle, 24, 40))
    vessels = np.zeros(len(angle), np.float32)
    white = np.flatnonzero((angle > 27.0) & (angle < 80.0))  # the rest is iris, or behind the lids
    for _ in range(34):
        start = rng.uniform(-np.pi, np.pi)
        reach, bend = rng.uniform(27.0, 44.0), rng.normal(0.0, 0.05, 3)
        way = (turn[white] - start + np.pi) % (2.0 * np.pi) - np.pi
        side = np.flatnonzero(np.abs(way) < 0.5)
        near, way = white[side], way[side]
        t = np.clip((angle[near] - reach) / 30.0, 0.0, 1.6)
        path = bend[0] * np.sin(9.0 * t + 6.0 * start) + bend[1] * np.sin(21.0 * t) + bend[2] * t
        off = np.abs(way - path) * angle[near]  # degrees, about
        wide = 0.35 + 0.55 * t
        line = np.exp(-((off / wide) ** 2)) * smooth(t, 0.0, 0.35) * rng.uniform(0.25, 0.75)
        vessels[near] = np.maximum(vessels[near], line.astype(np.float32))
    return mix(color, np.array([186, 84, 78], np.float32), 0.55 * vessels)


def _around(turn: AnyFloat, rng: np.random.Generator, count: int, roughness: float) -> Float32:
    """Noise of -1 to 1 around a circle with ``count`` values, each by chance, smooth between."""
    values = rng.uniform(-1.0, 1.0, count) * roughness
    at = (turn / (2.0 * np.pi)) % 1.0 * count
    low = np.floor(at).astype(int)
    t = at - low
    t = t * t * (3.0 - 2.0 * t)
    out: Float32 = (values[low % count] * (1.0 - t) + values[(low + 1) % count] * t).astype(np.float32)
    return out
