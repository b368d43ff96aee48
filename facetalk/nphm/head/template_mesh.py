"""The template mesh of the built-in head: one artist's topology that every identity wears.

Its geometry is the morphable head's own, vertex by vertex: the mean head, a displacement for every identity
coefficient and one for every expression weight, so at a coefficient's identity the mesh is the morphable
head's and not a network's idea of it. Three seams are closed when an identity is bound, since the
displacements of an expression do not know the face that they are added to: lips meet at rest, and at a full
blink upper lids meet the lower ones and stay in front of the eyeball.
``csrc/cpu/head/shape.cpp`` does the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetalk.arrays import Float32, Int32, UInt8
from facetalk.mesh.mesh import CanonicalMesh
from facetalk.nphm.head.parts import Part

__all__ = ["BLINKS", "BLOCK", "LEVELS", "Seam", "TemplateMesh"]

BLOCK = 64
"""Vertices that share an offset and a scale in the quantised displacements of an identity coefficient."""
LEVELS = 3
"""Levels of detail; the first one has all vertices, the others use some of them."""
BLINKS = ("eyeBlink_L", "eyeBlink_R")
_SEAMS = ("lips", "lid_left", "lid_right")
_CLEAR = 0.0012
"""How far in front of the eyeball a closed lid has to be at least, head units (0.3 mm)."""
_MOST_CLEARED = 0.006
"""How far a lid is pushed at most to get there (1.5 mm)."""
_WAY = (0.25, 0.5, 0.75, 1.0)
"""Weights of a blink at which lids are kept in front of the eyeball."""


@dataclass(frozen=True)
class Seam:
    """Two edges that have to meet, and who follows when they are made to.

    Attributes:
        vertex: (K,) int32 vertices along the edges.
        other: (K, 2) int32 two neighbours on the opposite edge.
        blend: (K,) float32 where between them the opposite point lies, 0 to 1.
        target: (K,) float32 signed height of a vertex over its opposite point that is wanted, head units.
        rows, columns: (N,) int32 vertex and K-number of a weight.
        weights: (N,) float32 how far the vertex follows, per unit of height that is too much.
    """

    vertex: Int32
    other: Int32
    blend: Float32
    target: Float32
    rows: Int32
    columns: Int32
    weights: Float32

    def lifts(self, shape: Float32) -> Float32:
        """(V,) heights to add to vertices (V, 3) so that the edges meet."""
        excess = self._heights(shape) - self.target
        out = np.zeros(len(shape), np.float32)
        np.add.at(out, self.rows, self.weights * excess[self.columns])
        return out

    def gaps(self, shape: Float32) -> Float32:
        """(K,) how far apart the edges are in vertices (V, 3), in their unit; negative where they overlap."""
        return self._heights(shape) * np.where(self.target > 0.0, np.float32(-1.0), np.float32(1.0))

    def _heights(self, shape: Float32) -> Float32:
        """(K,) signed heights over the opposite points; who wants a positive one is a lower edge."""
        y = shape[:, 1]
        opposite = y[self.other[:, 0]] * (1.0 - self.blend) + y[self.other[:, 1]] * self.blend
        return np.asarray(y[self.vertex] - opposite, np.float32)


@dataclass(frozen=True)
class TemplateMesh:
    """A fixed mesh with the displacements of identities and expressions.

    Attributes:
        vertices: (V, 3) float32 canonical mean head, head space.
        corners: per level of detail (F, 3) int32 texture vertices of the triangles.
        uv: (U, 2) float32 texture coordinates; u counts on over tiles: face 0, back of the head and mouth 1,
            gums and tongue 2, teeth 3, lashes 6; eyeballs lie in tile 4.
        uv_vertex: (U,) int32 vertex of each texture vertex.
        part: (V,) uint8 :class:`facetalk.nphm.head.parts.Part`.
        colors: (V, 3) uint8 albedo of the default identity.
        region: (V,) uint8 :class:`facetalk.nphm.head.regions.Region`.
        landmarks: (68,) int32 Multi-PIE landmarks.
        identity_codes: (I, V, 3) uint8, ``identity_scale`` (I, B) and ``identity_offset`` (I, B, 3) float32
            of blocks of :data:`BLOCK` vertices: displacement = offset + scale * (code - 128).
        shape_starts, shape_rows, shape_values: (E + 1,), (N,) int32 and (N, 3) float32: expression ``e``
            moves vertices ``shape_rows[starts[e]:starts[e + 1]]``.
        lips, lid_left, lid_right: seams.
        lid_vertices: (L,) int32 vertices of lids that are kept in front of the eyeball.
    """

    vertices: Float32
    corners: tuple[Int32, ...]
    uv: Float32
    uv_vertex: Int32
    part: UInt8
    colors: UInt8
    region: UInt8
    landmarks: Int32
    identity_codes: UInt8
    identity_scale: Float32
    identity_offset: Float32
    shape_starts: Int32
    shape_rows: Int32
    shape_values: Float32
    lips: Seam
    lid_left: Seam
    lid_right: Seam
    lid_vertices: Int32

    def faces(self, level: int = 0) -> Int32:
        """(F, 3) int32 vertex numbers of a level of detail."""
        return self.uv_vertex[self.corners[level]]

    # Identities -----------------------------------------------------------------------------------------

    def shape(self, coefficients: Float32) -> Float32:
        """Canonical vertices (V, 3) of identity coefficients (I,), seams not yet closed."""
        moved = np.zeros((len(self.identity_scale[0]) * BLOCK, 3), np.float32)
        blocks = moved.reshape(-1, BLOCK, 3)
        padded = np.full_like(moved, 128.0)
        for weight, codes, scale, offset in zip(
            coefficients, self.identity_codes, self.identity_scale, self.identity_offset, strict=True
        ):
            if weight:
                padded[: len(codes)] = codes
                local = (padded.reshape(-1, BLOCK, 3) - np.float32(128.0)) * scale[:, None, None]
                blocks += np.float32(weight) * (local + offset[:, None])
        return self.vertices + moved[: len(self.vertices)]

    def basis(self) -> Float32:
        """(E, V, 3) displacements of the expressions, the same for every identity."""
        out = np.zeros((len(self.shape_starts) - 1, *self.vertices.shape), np.float32)
        for index, (start, end) in enumerate(zip(self.shape_starts[:-1], self.shape_starts[1:], strict=True)):
            out[index, self.shape_rows[start:end]] = self.shape_values[start:end]
        return out

    def round_eyes(self, vertices: Float32, mean: Float32, eyes: Float32) -> None:
        """Give eyeballs their place and size, in place: spheres (2, 4) ``mean`` become ``eyes``."""
        own = self.vertices[self.part == Part.EYEBALLS]
        side = np.linalg.norm(own - mean[0, :3], axis=1) >= np.linalg.norm(own - mean[1, :3], axis=1)
        side = side.astype(np.int64)
        scale = (eyes[:, 3] / mean[:, 3])[side, None]
        vertices[self.part == Part.EYEBALLS] = eyes[side, :3] + (own - mean[side, :3]) * scale

    def close(self, vertices: Float32, basis: Float32, rest: Float32, names: tuple[str, ...]) -> None:
        """Close lips at rest and lids at a full blink, in place.

        Args:
            vertices: (V, 3) canonical.
            basis: (E, V, 3).
            rest: (E,) weights of the canonical shape.
            names: names of the expressions.
        """
        neutral = vertices - np.tensordot(rest, basis, 1)
        vertices[:, 1] += self.lips.lifts(neutral)
        neutral = vertices - np.tensordot(rest, basis, 1)
        for name, seam in zip(BLINKS, (self.lid_left, self.lid_right), strict=True):
            if name in names:
                blink = basis[names.index(name)]
                blink[:, 1] += seam.lifts(neutral + blink)

    def clear_eyes(self, vertices: Float32, basis: Float32, eyes: Float32, names: tuple[str, ...]) -> None:
        """Keep lids in front of the eyeballs (2, 4) all the way of a blink, in place."""
        for name, eye in zip(BLINKS, eyes, strict=True):
            if name not in names:
                continue
            blink = basis[names.index(name)]
            rows = self.lid_vertices[(vertices[self.lid_vertices, 0] > 0) == (eye[0] > 0)]
            arm, move = vertices[rows] - eye[:3], blink[rows]
            lacking = np.zeros(len(rows), np.float32)
            for weight in _WAY:
                distance = np.linalg.norm(arm + np.float32(weight) * move, axis=1)
                lacking = np.maximum(lacking, (eye[3] + _CLEAR - distance) / np.float32(weight))
            end = arm + move
            outward = end / np.linalg.norm(end, axis=1, keepdims=True)
            blink[rows] += np.minimum(lacking, _MOST_CLEARED)[:, None] * outward

    def canonical(self, vertices: Float32, colors: UInt8, level: int = 0) -> CanonicalMesh:
        """A mesh of these vertices."""
        return CanonicalMesh(np.ascontiguousarray(vertices, np.float32), self.faces(level), self.part, colors)

    # Files ----------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, NDArray[Any]]:
        """What a file holds; displacements in half precision, and whom they move in 16 bit where it fits."""
        small = np.uint16 if len(self.vertices) <= 1 << 16 else np.int32
        out: dict[str, NDArray[Any]] = {
            "vertices": self.vertices, "uv": self.uv, "uv_vertex": self.uv_vertex,
            "part": self.part, "colors": self.colors,
            "region": self.region, "landmarks": self.landmarks, "identity_codes": self.identity_codes,
            "identity_scale": self.identity_scale.astype(np.float32),
            "identity_offset": self.identity_offset.astype(np.float16),
            "shape_starts": self.shape_starts, "shape_rows": self.shape_rows.astype(small),
            "shape_values": self.shape_values.astype(np.float16), "lid_vertices": self.lid_vertices,
        }  # fmt: skip
        out |= {f"corners_{level}": corners for level, corners in enumerate(self.corners)}
        for name in _SEAMS:
            out |= {f"{name}.{key}": value for key, value in vars(getattr(self, name)).items()}
        return out

    @classmethod
    def read(cls, tensors: Mapping[str, NDArray[Any]], coefficients: int, expressions: int) -> TemplateMesh:
        """The mesh of a file's tensors.

        Raises:
            ValueError: arrays that do not fit each other, or numbers of vertices that are not there.
            KeyError: one is missing.
        """
        arrays = {key: _widened(value) for key, value in tensors.items()}
        fields: dict[str, Any] = {
            name: Seam(**{key: arrays[f"{name}.{key}"] for key in Seam.__dataclass_fields__})
            for name in _SEAMS
        }
        plain = set(cls.__dataclass_fields__) - set(_SEAMS) - {"corners"}
        corners = tuple(arrays[f"corners_{level}"] for level in range(LEVELS))
        fields |= {key: arrays[key] for key in plain}
        mesh = cls(corners=corners, **fields)
        mesh._check(coefficients, expressions)
        return mesh

    def _check(self, coefficients: int, expressions: int) -> None:
        count, textured = len(self.vertices), len(self.uv)
        blocks = -(-count // BLOCK)
        moved = len(self.shape_rows)
        shapes = {
            "vertices": (count, 3), "uv": (textured, 2), "uv_vertex": (textured,),
            "part": (count,), "colors": (count, 3),
            "region": (count,), "landmarks": (68,), "identity_codes": (coefficients, count, 3),
            "identity_scale": (coefficients, blocks), "identity_offset": (coefficients, blocks, 3),
            "shape_starts": (expressions + 1,), "shape_rows": (moved,), "shape_values": (moved, 3),
        }  # fmt: skip
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"template {name} must have shape {shape}, has {getattr(self, name).shape}")
        starts = self.shape_starts
        if starts[0] != 0 or starts[-1] != moved or (np.diff(starts) < 0).any():
            raise ValueError("template shape_starts do not rise to the number of rows")
        numbers = [(self.uv_vertex, count), (self.landmarks, count), (self.shape_rows, count)]
        numbers += [(corners, textured) for corners in self.corners] + [(self.lid_vertices, count)]
        for name in _SEAMS:
            seam: Seam = getattr(self, name)
            known = len(seam.vertex)
            if seam.other.shape != (known, 2) or not len(seam.blend) == len(seam.target) == known:
                raise ValueError(f"template {name}: its arrays do not fit")
            if not len(seam.rows) == len(seam.columns) == len(seam.weights):
                raise ValueError(f"template {name}: its weights do not fit")
            numbers += [(seam.vertex, count), (seam.other, count), (seam.rows, count), (seam.columns, known)]
        for values, limit in numbers:
            if values.dtype != np.int32 or not len(values) or values.min() < 0 or values.max() >= limit:
                raise ValueError("the template mesh names vertices that are not there")
        for corners in self.corners:
            if corners.ndim != 2 or corners.shape[1] != 3:
                raise ValueError("template corners must have three columns")
        for kinds in (self.part, self.colors, self.region, self.identity_codes):
            if kinds.dtype != np.uint8:
                raise ValueError("template parts, regions and codes must be bytes")
        if self.part.max() >= len(Part):
            raise ValueError("the template mesh has parts that move by no rule")


def _widened(value: NDArray[Any]) -> NDArray[Any]:
    """What a file holds in few bits, in 32."""
    if value.dtype.kind == "f":
        return value.astype(np.float32)
    return value.astype(np.int32) if value.dtype == np.uint16 else value
