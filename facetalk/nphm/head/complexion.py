"""What a person looks like beside the shape: colours of the template mesh, and palettes.

Tones lie on a line of human skin colours from light to dark; hair and eyes go with them only loosely, as they
do among people. Nothing about anyone is known or claimed: directions drawn by chance pick, and the same code
gets the same look.
"""

from __future__ import annotations

import functools
import math
import zlib

import numpy as np

from facetalk.arrays import AnyFloat, Float32, Float64, Int64, UInt8
from facetalk.nphm.head.albedo import PALETTE, Palette, eyeball, mix, nearest, paint, smooth
from facetalk.nphm.head.hair import with_hair
from facetalk.nphm.head.parts import SurfaceClass
from facetalk.nphm.head.regions import Region
from facetalk.nphm.head.template_mesh import TemplateMesh

__all__ = ["chance_of", "lid_margins", "paint_template", "palette_of"]

_CLASS_OF = {
    Region.SKIN: SurfaceClass.SKIN, Region.MOUTH: SurfaceClass.MOUTH_CAVITY,
    Region.EYE_SOCKET: SurfaceClass.SKIN, Region.UPPER_GUM: SurfaceClass.UPPER_GUM,
    Region.LOWER_GUM: SurfaceClass.UPPER_GUM, Region.TONGUE: SurfaceClass.LOWER_GUM_TONGUE,
    Region.UPPER_TEETH: SurfaceClass.UPPER_TEETH, Region.LOWER_TEETH: SurfaceClass.LOWER_TEETH,
    Region.EYEBALL: SurfaceClass.EYEBALL, Region.LASH: SurfaceClass.SKIN, Region.NECK_CAP: SurfaceClass.SKIN,
}  # fmt: skip

_SKIN = ((238, 196, 174), (222, 174, 148), (205, 156, 126), (172, 128, 102), (128, 94, 76), (88, 64, 54))
_IRIS = (
    ((104, 128, 138), (128, 112, 84)), ((92, 118, 108), (132, 112, 74)), ((112, 96, 62), (120, 84, 48)),
    ((92, 62, 38), (110, 72, 40)), ((64, 42, 28), (78, 50, 30)),
)  # fmt: skip
_HAIR = ((150, 116, 78), (104, 74, 52), (74, 52, 42), (44, 34, 30), (26, 22, 22))
_INSIDE = (
    ((Region.UPPER_TEETH, Region.LOWER_TEETH), (252, 245, 230)),
    ((Region.UPPER_GUM, Region.LOWER_GUM), (206, 116, 114)),
    ((Region.TONGUE,), (222, 128, 122)),
)
_FLESH = np.array([150, 84, 76], np.float32)
_SPREAD = 0.75
"""About the standard deviation of coefficients that are drawn with their tails drawn in."""
_PLAIN = 0.4
"""Share of the coefficients, the first and largest, that no colour goes by."""


def palette_of(coefficients: Float32) -> Palette:
    """Colours of identity coefficients (I,), those of the default identity at zeros.

    They go by directions among the finest shapes, which were drawn once: heads that are nearly the same have
    nearly the same colours, and colours say nothing of a shape that anyone sees.
    """
    if not coefficients.any():
        return PALETTE
    tone, *jitter, hairs, eyes = _directions(len(coefficients)) @ coefficients.astype(np.float64) / _SPREAD
    dark = 0.5 * (1.0 + math.erf(tone / math.sqrt(2.0)))
    skin = _between(_SKIN, dark * (len(_SKIN) - 1.0)) + 3.0 * np.array(jitter)
    hair = _between(_HAIR, float(np.clip(4.0 * (0.25 + 0.75 * dark) + 0.8 * hairs, 0.0, 4.0)))
    iris, inner = (
        _tone(_between(tones, float(np.clip(0.6 + 4.0 * dark + 1.2 * eyes, 0.0, len(_IRIS) - 1.0))))
        for tones in zip(*_IRIS, strict=True)
    )
    red = skin * (np.array([0.975, 0.82, 0.82]) * (1 - 0.5 * dark) + 0.5 * dark * 0.93)
    return Palette(
        skin=_tone(skin),
        blush=_tone(red),
        lids=_tone(0.88 * skin * np.array([1.0, 0.88, 0.9])),
        lips=_tone(0.84 * skin * (np.array([1.0, 0.72, 0.77]) + 0.10 * dark)),
        brow=_tone(hair),
        lash=_tone(0.6 * hair),
        scalp=_tone(0.5 * skin + 0.5 * hair),
        iris=iris,
        iris_inner=inner,
        limbus=_tone(0.4 * np.array(iris)),
    )


def chance_of(coefficients: Float32) -> int:
    """Seed of what chance does to a person's skin and eyes; 0 of the default identity."""
    if not coefficients.any():
        return 0
    # Rounded: a code that goes through its coefficients and back is the same person.
    return zlib.crc32(np.rint(coefficients.astype(np.float64) * 100.0).astype("<i4").tobytes())


def paint_template(mesh: TemplateMesh, landmarks: AnyFloat, palette: Palette = PALETTE) -> UInt8:
    """Albedo (V, 3) uint8 of a template mesh.

    Args:
        mesh: to be painted on the mean head, so that the paint fits every identity.
        landmarks: (68, 3) landmarks of the mean canonical head.
        palette: of the person.
    """
    x, region = mesh.vertices, mesh.region
    table = np.array([_CLASS_OF[Region(r)] for r in range(len(Region))], np.uint8)
    color = paint(x, table[region], landmarks, None, palette).astype(np.float32)
    skin = region == Region.SKIN
    color[skin] = with_hair(color[skin], x[skin], palette)
    color = _margins(mesh, color, palette)
    color = _inside(x, region, color)
    color[region == Region.EYE_SOCKET] = 0.75 * _FLESH
    color[region == Region.LASH] = palette.of("lash")
    color[region == Region.NECK_CAP] = 0.35 * palette.of("skin")
    eyes = np.flatnonzero(region == Region.EYEBALL)
    for half in (eyes[: len(eyes) // 2], eyes[len(eyes) // 2 :]):
        # Only the colours are wanted: they hang on the rings, not on the place.
        color[half] = eyeball(np.zeros(3), 1.0, np.array([0.0, 0.0, 1.0]), palette=palette)[2]
    return np.clip(np.rint(color), 0, 255).astype(np.uint8)


def _inside(x: AnyFloat, region: UInt8, color: AnyFloat) -> AnyFloat:
    """Teeth, gums, tongue and the mouth's walls, darker towards the throat: light hardly gets there."""
    out = color.copy()
    deep = smooth(-x[:, 2], -0.10, 0.08)[:, None] * np.array([0.72, 0.84, 0.86], np.float32)
    for kinds, tone in _INSIDE:
        mine = np.isin(region, kinds)
        out[mine] = np.array(tone, np.float32) * (1.0 - deep[mine])
    back = np.isin(region, (Region.UPPER_TEETH, Region.LOWER_TEETH))
    warm = np.array([0.08, 0.16, 0.22], np.float32)
    out[back] *= 1.0 - smooth(np.abs(x[back, 0]), 0.05, 0.1)[:, None] * warm
    tongue = np.flatnonzero(region == Region.TONGUE)
    # A furrow along the middle.
    furrow = 0.22 * np.exp(-((x[tongue, 0] / 0.01) ** 2))
    out[tongue] *= (1.0 - furrow)[:, None]
    return out


def _margins(mesh: TemplateMesh, color: AnyFloat, palette: Palette) -> AnyFloat:
    """A dark line at the roots of the lashes."""
    out = color.copy()
    near, distance = lid_margins(mesh)
    line = 0.7 * (1.0 - smooth(distance, 0.0015, 0.006))
    out[near] = mix(out[near], palette.of("lash"), line)
    return out


def lid_margins(mesh: TemplateMesh) -> tuple[Int64, AnyFloat]:
    """Vertices (N,) of skin near the eyes, and how far (N,) they are from the nearest root of a lash."""
    x, skin = mesh.vertices, np.isin(mesh.region, (Region.SKIN, Region.EYE_SOCKET))
    lids = nearest(x, x[mesh.landmarks[36:48]], 0.05)[0]
    near = np.flatnonzero(skin & (lids < 0.04))
    return near, nearest(x[near], x[mesh.region == Region.LASH], 1.0)[0]


@functools.cache
def _directions(count: int) -> Float64:
    """(6, count) unit directions for the skin's tone and three of its tints, hair and eyes."""
    rows = np.random.default_rng(6).standard_normal((6, count))
    rows[:, : int(_PLAIN * count)] = 0.0
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def _between(tones: tuple[tuple[int, int, int], ...], at: float) -> AnyFloat:
    low = min(int(at), len(tones) - 2)
    a, b = np.array(tones[low], np.float64), np.array(tones[low + 1], np.float64)
    return a + (b - a) * (at - low)


def _tone(values: AnyFloat) -> tuple[int, int, int]:
    rounded: Int64 = np.clip(np.rint(values), 0, 255).astype(np.int64)
    return int(rounded[0]), int(rounded[1]), int(rounded[2])
