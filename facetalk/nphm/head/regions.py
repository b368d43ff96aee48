"""Regions of the built-in head's template mesh: what a vertex shows, which colours and seams need to know.

Finer than :class:`facetalk.nphm.head.parts.SurfaceClass`, which is what the part field was trained to tell
apart. Numbers are stored in files: they never change.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Region"]


class Region(IntEnum):
    """What a vertex of the template mesh is of."""

    SKIN = 0
    MOUTH = 1
    EYE_SOCKET = 2
    UPPER_GUM = 3
    LOWER_GUM = 4
    TONGUE = 5
    UPPER_TEETH = 6
    LOWER_TEETH = 7
    EYEBALL = 8
    LASH = 9
    NECK_CAP = 10
