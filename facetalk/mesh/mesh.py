"""Triangle meshes, as the rest of the package hands them on: posed in metres, or canonical in head space."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetalk.arrays import Float32, Int32, UInt8
from facetalk.mesh.textures import Texture


def _array(name: str, value: ArrayLike, dtype: type, columns: int | None) -> NDArray[Any]:
    """``value`` as a contiguous array of ``dtype``, checked to be (N, columns) or (N,)."""
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must hold numbers, got dtype {array.dtype}")
    if np.issubdtype(dtype, np.integer) and array.dtype.kind == "f":
        raise TypeError(f"{name} must hold integers, got dtype {array.dtype}")
    wanted = "(N,)" if columns is None else f"(N, {columns})"
    if array.ndim != (1 if columns is None else 2) or (columns is not None and array.shape[1] != columns):
        raise ValueError(f"{name} must have shape {wanted}, got {array.shape}")
    if array.dtype.kind in "iu" and array.size and np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        low, high = int(array.min()), int(array.max())
        if low < limits.min or high > limits.max:
            raise ValueError(f"{name} must fit {np.dtype(dtype)}, got values from {low} to {high}")
    return np.ascontiguousarray(array, dtype=dtype)


@dataclasses.dataclass
class Mesh:
    """A triangle mesh with normals and, optionally, colours and part numbers.

    Attributes:
        vertices: (V, 3) float32 positions, metres; +x the head's left, +y up, +z out of the face.
        faces: (F, 3) int32 vertex numbers, counter-clockwise seen from outside.
        normals: (V, 3) float32 unit normals; computed from the faces (area weighted) when not given.
        colors: (V, 3) uint8 sRGB colours, or None.
        part: (V,) uint8 part of the head that a vertex belongs to (0 = skin), or None.
        texture: pictures on its faces, which files have instead of the colours, or None.
    """

    vertices: Float32
    faces: Int32
    normals: Float32 = None  # type: ignore[assignment]  # computed from the faces
    colors: UInt8 | None = None
    part: UInt8 | None = None
    texture: Texture | None = None

    def __post_init__(self) -> None:
        """Check everything and compute missing normals."""
        self.vertices = _array("vertices", self.vertices, np.float32, 3)
        self.faces = _array("faces", self.faces, np.int32, 3)
        count = len(self.vertices)
        if not np.isfinite(self.vertices).all():
            row = int(np.flatnonzero(~np.isfinite(self.vertices).all(axis=1))[0])
            raise ValueError(f"vertices must be finite, got {self.vertices[row]} at vertex {row}")
        if self.faces.size and (self.faces.min() < 0 or self.faces.max() >= count):
            raise ValueError(
                f"faces must name vertices 0 to {count - 1}, got {self.faces.min()} to {self.faces.max()}"
            )
        if self.normals is None:
            self.normals = vertex_normals(self.vertices, self.faces)
        self.normals = _array("normals", self.normals, np.float32, 3)
        if self.colors is not None:
            self.colors = _array("colors", self.colors, np.uint8, 3)
        if self.part is not None:
            self.part = _array("part", self.part, np.uint8, None)
        for name in ("normals", "colors", "part"):
            value = getattr(self, name)
            if value is not None and len(value) != count:
                raise ValueError(f"{name} must have one row per vertex ({count}), got {len(value)}")
        if self.texture is not None and not self.texture.matches(self.faces):
            raise ValueError("texture must have the mesh's faces as its corners")

    def __len__(self) -> int:
        """Number of vertices."""
        return len(self.vertices)


@dataclasses.dataclass(frozen=True)
class CanonicalMesh:
    """A mesh in head space, ready to be posed.

    Attributes:
        vertices: (V, 3) float32, head space.
        faces: (F, 3) int32, counter-clockwise from outside; no face joins parts that move differently.
        part: (V,) uint8 moving part, see :class:`facetalk.nphm.head.parts.Part`.
        colors: (V, 3) uint8 sRGB albedo.
        texture: the same and more as pictures, or None.
    """

    vertices: Float32
    faces: Int32
    part: UInt8
    colors: UInt8
    texture: Texture | None = None


def vertex_normals(vertices: Float32, faces: Int32) -> Float32:
    """Unit, area-weighted vertex normals by the compiled core; (V, 3) or (T, V, 3) like ``vertices``."""
    # Imported late: a motion or a file can be read where the compiled core is missing.
    from facetalk.ops import vertex_normals as compiled

    return compiled(vertices, faces)
