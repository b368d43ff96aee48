"""What the parts of a head are made of, and colours between files (sRGB) and light (linear)."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

from facetalk.arrays import Float32, UInt8

Color = tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class Material:
    """How a part of the head answers light.

    Attributes:
        name: name of the material in files.
        roughness: glTF roughness, 0 (mirror) to 1 (matt).
        specular: reflectance at normal incidence (0.028 skin, 0.04 most plastics).
        subsurface: 0 none, 1 skin.
        coat: weight of a wet layer that mirrors the lamps, 0 to 1.
        color: sRGB colour (0 to 255) of meshes that have no colours of their own.
    """

    name: str
    roughness: float = 0.5
    specular: float = 0.04
    subsurface: float = 0.0
    coat: float = 0.0
    color: Color = (200.0, 200.0, 200.0)


SKIN = Material("skin", roughness=0.56, specular=0.024, subsurface=1.0, color=(214.0, 164.0, 138.0))
EYES = Material("eyes", roughness=0.12, specular=0.03, coat=1.0, color=(236.0, 233.0, 229.0))
TEETH = Material(
    "teeth", roughness=0.42, specular=0.022, subsurface=1.0, coat=0.16, color=(236.0, 228.0, 210.0)
)
MATERIALS = {m.name: m for m in (SKIN, EYES, TEETH)}
"""The materials by their names in files."""

MATERIAL_OF_PART: tuple[Material, ...] = (SKIN, EYES, TEETH, TEETH)
"""Material of each number in ``Mesh.part``.

The numbers are those of :class:`facetalk.nphm.head.parts.Part`; parts beyond them are skin.
"""


def srgb_to_linear(colors: ArrayLike) -> Float32:
    """Linear light in [0, 1] of sRGB bytes (IEC 61966-2-1)."""
    s = np.arange(256) / 255.0
    table = np.where(s <= 0.04045, s / 12.92, ((s + 0.055) / 1.055) ** 2.4).astype(np.float32)
    return table[np.asarray(colors, dtype=np.uint8)]


def linear_to_srgb(values: ArrayLike) -> UInt8:
    """sRGB bytes of linear light (IEC 61966-2-1), clipped to [0, 1]."""
    v = np.clip(np.asarray(values, dtype=np.float64), 0.0, 1.0)
    s = np.where(v <= 0.0031308, 12.92 * v, 1.055 * v ** (1.0 / 2.4) - 0.055)
    return np.rint(255.0 * s).astype(np.uint8)
