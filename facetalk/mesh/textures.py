"""Pictures on a mesh: texture coordinates, and maps of each material, painted when they are asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import cached_property

import numpy as np

from facetalk.arrays import Float32, Int32, UInt8
from facetalk.errors import InputError
from facetalk.mesh import png

__all__ = ["DEFAULT_SIZE", "KINDS", "SIZES", "Maps", "Texture", "checked_size"]

DEFAULT_SIZE = 1024
"""Pixels along a side of the skin's maps, unless somebody asks for others."""
KINDS = ("color", "normal", "roughness")
"""Of pictures, as :class:`Maps` calls them."""
SIZES = (256, 512, 1024, 2048, 4096)
"""Sizes that maps come in: powers of two, which every reader takes."""


@dataclasses.dataclass(frozen=True)
class Maps:
    """The pictures of one material, rows from the top.

    Attributes:
        color: (h, w, 3) uint8 sRGB albedo.
        normal: (h, w, 3) uint8 normals in tangent space, +y up in the picture, as glTF has them; or None.
        roughness: (h, w) uint8 factor of the material's roughness, 255 is 1; or None.
        encoded: what :attr:`files` says, where it is known already.
    """

    color: UInt8
    normal: UInt8 | None = None
    roughness: UInt8 | None = None
    encoded: Mapping[str, bytes] | None = None

    @cached_property
    def files(self) -> Mapping[str, bytes]:
        """The pictures as PNG files, by their kind; encoded once, as they go into file after file."""
        if self.encoded is not None:
            return self.encoded
        given = {kind: getattr(self, kind) for kind in KINDS}
        return {kind: png.encode(pixels, mark=True) for kind, pixels in given.items() if pixels is not None}


@dataclasses.dataclass(frozen=True)
class Texture:
    """Where on the pictures the corners of a mesh's faces lie.

    Attributes:
        uv: (U, 2) float32 in [0, 1] on the pictures of the material that a face is of; v counts upwards.
        vertex: (U,) int32 vertex of the mesh of each texture vertex.
        corners: (F, 3) int32 texture vertices of the mesh's faces, in their order.
        painter: what paints the maps by material, given the side of the skin's.
    """

    uv: Float32
    vertex: Int32
    corners: Int32
    painter: Callable[[int], Mapping[str, Maps]]

    def maps(self, size: int = DEFAULT_SIZE) -> Mapping[str, Maps]:
        """Maps by the name of the material, kept by who paints them.

        Args:
            size: pixels along a side of the skin's, of :data:`SIZES`.
        """
        return self.painter(checked_size(size))

    def matches(self, faces: Int32) -> bool:
        """Whether its corners are those of a mesh's faces (F, 3)."""
        return self.corners.shape == faces.shape and bool((self.vertex[self.corners] == faces).all())


def checked_size(size: int) -> int:
    """A size of maps.

    Raises:
        InputError: it is none of :data:`SIZES`.
    """
    if isinstance(size, bool) or not isinstance(size, int | np.integer) or size not in SIZES:
        raise InputError(f"the size of textures must be one of {', '.join(map(str, SIZES))}, got {size!r}")
    return int(size)
