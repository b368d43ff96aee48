"""Parts of a head: what moves on its own, and what its surface is made of.

Skin and the mouth's cavity move as one part, each row of teeth with its gum as another, so every surface
class belongs to one moving part. Numbers are stored in meshes and checkpoints: they never change.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

__all__ = ["CLASS_PART", "PART_NAMES", "Part", "SurfaceClass"]


class Part(IntEnum):
    """Parts that move on their own; ``CanonicalMesh.part`` and ``Mesh.part`` hold these numbers."""

    SKIN = 0
    EYEBALLS = 1
    UPPER_TEETH = 2
    LOWER_TEETH = 3


class SurfaceClass(IntEnum):
    """Kinds of surface, which the part field tells apart and the albedo paints."""

    SKIN = 0
    MOUTH_CAVITY = 1
    EYEBALL = 2
    UPPER_TEETH = 3
    UPPER_GUM = 4
    LOWER_TEETH = 5
    LOWER_GUM_TONGUE = 6


PART_NAMES: tuple[str, ...] = tuple(part.name.lower() for part in Part)
"""Names of the parts in files, by number."""

CLASS_PART = np.array(
    [
        Part.SKIN,
        Part.SKIN,
        Part.EYEBALLS,
        Part.UPPER_TEETH,
        Part.UPPER_TEETH,
        Part.LOWER_TEETH,
        Part.LOWER_TEETH,
    ],
    np.uint8,
)
"""(classes,) moving part of each surface class."""
