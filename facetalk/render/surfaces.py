"""The meshes of a glTF file as arrays, within limits that a small file cannot talk its way out of.

Files may name the same data any number of times, so a kilobyte could stand for gigabytes. What is read is
bounded by the file's own bytes, or by a generous constant where the file is small.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from facetalk.arrays import Float32, Int32, Int64
from facetalk.mesh.gltf_json import Fields
from facetalk.mesh.gltf_read import GlbFile
from facetalk.mesh.materials import MATERIALS, Material
from facetalk.mesh.mesh import vertex_normals
from facetalk.render.images import ImageReader, Pictures

MAX_MATERIALS = 255
"""Materials of a file: a face's is one byte, and there is one more for faces without."""
MAX_TARGETS = 4096
"""Morph targets of a mesh; faces use some fifty, shape banks of studios a few hundred."""
FREE_VERTICES = 2**22
"""Vertices that any file may have; larger files one for each byte, where a vertex takes at least four."""
FREE_INDICES = 2**24
"""Vertex numbers of faces that any file may have; larger files one for each byte."""
FREE_SHAPE_VALUES = 2**27
"""Numbers of morph targets (six for each moved vertex of each) that any file may have, 0.5 GiB; larger files
two for each byte."""
FREE_SHAPE_READS = 2**29
"""Elements of morph targets that are looked at in any file; larger files one for each byte."""

_TRIANGLES = 4
_PLAIN_TINT = 0.6
_FAR_UV = 1e6


@dataclasses.dataclass
class Surface:
    """Vertices that one or more primitives share.

    Attributes:
        positions: (V, 3) of the mesh.
        normals: (V, 3).
        colors: (V, 3) linear RGB in [0, 1].
        uv: (V, 2) places on pictures, v downwards; zeros where the file has none.
        moved: rows that any morph target changes.
        shapes: (K, 6 * moved) changes of positions, then of normals.
        faces: (F, 3) vertex numbers of each primitive.
        materials: number of the material of each primitive.
    """

    positions: Float32
    normals: Float32
    colors: Float32
    uv: Float32
    moved: Int64
    shapes: Float32
    faces: list[Int32]
    materials: list[int]


class SurfaceReader:
    """Reads meshes, and keeps count of what they take.

    Args:
        file: the file.

    Attributes:
        materials: of the file, and one more for primitives without.
        pictures: of each of them.

    Raises:
        InputError: a material is wrong, or there are more than MAX_MATERIALS.
    """

    def __init__(self, file: GlbFile) -> None:
        self._file = file
        entries = file.root.children("materials")
        if len(entries) > MAX_MATERIALS:
            raise file.root.wrong(f"has {len(entries)} materials; at most {MAX_MATERIALS} are drawn")
        self.materials = [_material(entry) for entry in entries] + [Material("plain")]
        images = ImageReader(file)
        self.pictures = [images.of(entry) for entry in entries] + [Pictures()]
        self._tints = [_tint(entry) for entry in entries] + [np.full(3, _PLAIN_TINT, np.float32)]
        self._left = {
            "vertices": max(FREE_VERTICES, file.size),
            "vertex numbers": max(FREE_INDICES, file.size),
            "numbers of morph targets": max(FREE_SHAPE_VALUES, 2 * file.size),
            "elements of morph targets": max(FREE_SHAPE_READS, file.size),
        }

    def mesh(self, mesh: Fields) -> list[Surface]:
        """The triangles of a mesh.

        Raises:
            InputError: a field is wrong, data does not fit together, or is more than the file may have.
        """
        shared: dict[str, Surface] = {}
        for primitive in mesh.children("primitives"):
            attributes = primitive.child("attributes")
            mode = primitive.integer("mode", high=6, default=_TRIANGLES)
            if mode != _TRIANGLES or "POSITION" not in attributes:
                continue
            number = len(self.materials) - 1
            if "material" in primitive:
                number = primitive.index("material", number)
            tint = self._tints[number]
            key = f"{primitive.get('attributes')} {primitive.get('targets')} {tint.tolist()}"
            if key not in shared:
                shared[key] = self._surface(primitive, attributes, tint)
            surface = shared[key]
            surface.faces.append(self._faces(primitive, len(surface.positions)))
            surface.materials.append(number)
        for surface in shared.values():
            if not surface.normals.size:
                surface.normals = vertex_normals(surface.positions, np.concatenate(surface.faces))
        return list(shared.values())

    def _spend(self, what: str, amount: int, entry: Fields) -> None:
        self._left[what] -= amount
        if self._left[what] < 0:
            raise entry.wrong(f"asks for more {what} than a file of {self._file.size} bytes may have")

    def _faces(self, primitive: Fields, vertices: int) -> Int32:
        if "indices" not in primitive:
            self._spend("vertex numbers", vertices, primitive)
            return np.arange(vertices // 3 * 3, dtype=np.int32).reshape(-1, 3)
        number = primitive.integer("indices", high=2**31)
        count, columns = self._file.shape(number)
        if columns != 1 or not self._file.has_data(number):
            raise primitive.wrong("has indices that are no list of numbers")
        self._spend("vertex numbers", count, primitive)
        indices = self._file.array(number)
        if indices.dtype.kind != "u":
            raise primitive.wrong("has indices that are not unsigned whole numbers")
        # Compared as they are, before anything narrower could turn them around.
        if len(indices) and int(indices.max()) >= vertices:
            raise primitive.wrong(f"has a face that names vertex {int(indices.max())} of {vertices}")
        return indices[: len(indices) // 3 * 3].reshape(-1, 3).astype(np.int32)

    def _vectors(self, entry: Fields, name: str, count: int, columns: tuple[int, ...] = (3,)) -> Float32:
        """(count, columns) float32 values of the accessor that a field names."""
        number = entry.integer(name, high=2**31)
        shape = self._file.shape(number)
        if shape[0] != count or shape[1] not in columns:
            raise entry.wrong(f"has {name} of shape {shape}; {count} vertices need ({count}, {columns[0]})")
        return self._file.array(number).astype(np.float32)

    def _surface(self, primitive: Fields, attributes: Fields, tint: Float32) -> Surface:
        position = attributes.integer("POSITION", high=2**31)
        count, _ = self._file.shape(position)
        if not self._file.has_data(position):
            raise attributes.wrong("has positions without data")
        self._spend("vertices", count, attributes)
        positions = self._vectors(attributes, "POSITION", count)
        normals = np.zeros(0, np.float32)
        if "NORMAL" in attributes:
            normals = self._vectors(attributes, "NORMAL", count)
        colors = np.ones_like(positions)
        if "COLOR_0" in attributes:
            colors = self._vectors(attributes, "COLOR_0", count, (3, 4))[:, :3]
        with np.errstate(over="ignore"):
            colors = np.clip(colors * tint, 0.0, 1.0)
        uv = np.zeros((count, 2), np.float32)
        if "TEXCOORD_0" in attributes:
            uv = np.clip(self._vectors(attributes, "TEXCOORD_0", count, (2,)), -_FAR_UV, _FAR_UV)
        moved, shapes = self._shapes(primitive, count)
        return Surface(positions, normals, colors, uv, moved, shapes, [], [])

    def _shapes(self, primitive: Fields, count: int) -> tuple[Int64, Float32]:
        """Rows that move, and (K, 6 * rows) changes: posing is one small product a frame."""
        targets = primitive.children("targets")
        if len(targets) > MAX_TARGETS:
            raise primitive.wrong(f"has {len(targets)} morph targets; at most {MAX_TARGETS} are read")
        names = ("POSITION", "NORMAL")
        changes = [
            (number, place, name)
            for number, target in enumerate(targets)
            for place, name in enumerate(names)
            if name in target and self._file.has_data(target.integer(name, high=2**31))
        ]
        moved = np.zeros(count, bool)
        for number, _, name in changes:
            self._spend("elements of morph targets", count, targets[number])
            moved |= self._vectors(targets[number], name, count).any(axis=1)
        rows = np.flatnonzero(moved)
        self._spend("numbers of morph targets", len(targets) * 6 * len(rows), primitive)
        shapes = np.zeros((len(targets), 2, len(rows), 3), np.float32)
        for number, place, name in changes:
            shapes[number, place] = self._vectors(targets[number], name, count)[rows]
        return rows, shapes.reshape(len(targets), 6 * len(rows))


def _material(entry: Fields) -> Material:
    name = entry.text("name", default="plain")
    known = MATERIALS.get(name)
    roughness = entry.child("pbrMetallicRoughness").number("roughnessFactor", default=1.0, most=1e6)
    if known is not None and abs(known.roughness - roughness) < 1e-3:
        return known
    return Material(name, roughness=roughness)


def _tint(entry: Fields) -> Float32:
    factor = entry.child("pbrMetallicRoughness").numbers(
        "baseColorFactor", 4, default=(1.0, 1.0, 1.0, 1.0), most=1e6
    )
    return np.asarray(factor[:3], dtype=np.float32)
