"""Eyes and lips of an extracted mesh, where its lattice is too coarse to be looked at closely."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import numpy as np
from scipy.spatial import cKDTree

from facetalk.arrays import Float32, Int32, Int64
from facetalk.mesh.borrow import Paint
from facetalk.mesh.mesh import Mesh
from facetalk.mesh.patch import patched
from facetalk.nphm.lattice import Bounds, lattice_axes
from facetalk.nphm.surface.options import ExtractionOptions, mesh_of
from facetalk.nphm.surface.project import Distance, project
from facetalk.units import HEAD_UNIT_METRES, HEAD_UNIT_MM

__all__ = ["refine", "settle"]

_CELL_MM = 0.85
"""Cells of the finer lattices are no larger, where the lattice is not refined more than threefold for it."""
_FINEST = 3
# How far the boxes reach beyond the marks, head units: to each side, up and down, behind and before them.
_REACH = ((0.024, 0.024), (0.03, 0.03), (0.03, 0.045))

_AROUND_M = 0.015
"""How far from the marks of eyes and lips vertices are moved."""


class Surfaces(Protocol):
    """What finds surfaces; :class:`facetalk.nphm.field.Field` does."""

    def surfaces(self, expressions: Any, resolution: Any, bounds: Any, *, options: Any, around: Any) -> Any:
        """Surfaces of frames, head space."""


def refine(
    mesh: Mesh,
    field: Surfaces,
    expression: Float32,
    marks: list[Float32],
    lattice: tuple[int, Bounds],
    options: ExtractionOptions,
) -> tuple[Mesh, Int64]:
    """Put what a finer lattice finds around eyes and lips in the place of what the lattice found there.

    The mesh stays closed. Where the rims do not fit, the coarser surface is kept.

    Args:
        mesh: marching cubes of the field, metres.
        field: that the mesh is of.
        expression: (E,) code of the frame.
        marks: points (M, 3) of each place, metres.
        lattice: samples an axis and bounds of the mesh's lattice, head space.
        options: by which it was found, with a cache where there is one.

    Returns:
        the mesh, and the middles of flat walls in it, which nobody sees: inside a nearly closed mouth.
    """
    resolution, bounds = lattice
    axes = [np.asarray(axis, np.float64) for axis in lattice_axes(resolution, bounds, least=2)]
    cell = float(np.mean([axis[-1] - axis[0] for axis in axes])) / (resolution - 1) * HEAD_UNIT_MM
    times = min(_FINEST, int(np.ceil(cell / _CELL_MM - 0.01)))
    if times < 2 or not len(mesh.faces):
        return mesh, np.zeros(0, np.int64)
    unit = np.float32(HEAD_UNIT_METRES)
    vertices, faces = mesh.vertices / unit, mesh.faces.astype(np.int64)
    walls = np.zeros(0, np.int64)
    done: list[Any] = []
    for points in marks:
        box, cells = _box(points / unit, axes)
        if any((box[0] < other[1]).all() and (box[1] > other[0]).all() for other in done):
            continue  # eyes of a code that is no head may lie anywhere
        found = field.surfaces(expression[None], times * cells + 1, box, options=options, around=bounds)
        fine = mesh_of(next(iter(found)), np.float32(1.0))
        sewn = patched(vertices, faces, box, (fine.vertices, fine.faces.astype(np.int64)))
        if sewn is not None:
            vertices, faces = sewn.vertices, sewn.faces
            walls = np.concatenate([sewn.number[walls], sewn.walls])
            done.append(box)
    if not done:
        return mesh, walls
    return Mesh(vertices * unit, faces.astype(np.int32)), walls[walls >= 0]


def _box(points: Float32, axes: list[Any]) -> tuple[Any, Any]:
    """The box (2, 3) of whole cells around points, and how many cells it has along each axis (3,)."""
    ends = []
    for axis, low, high, (before, behind) in zip(axes, points.min(0), points.max(0), _REACH, strict=True):
        first = int(np.clip(np.searchsorted(axis, low - before) - 1, 1, len(axis) - 3))
        last = int(np.clip(np.searchsorted(axis, high + behind), first + 1, len(axis) - 2))
        ends.append((axis[first], axis[last], last - first))
    return np.array([[e[0] for e in ends], [e[1] for e in ends]]), np.array([e[2] for e in ends])


def settle(
    mesh: Mesh, first: int, field: Distance, expression: Float32, marks: Float32, paint: Paint
) -> Mesh:
    """Bring the vertices of split faces near eyes and lips onto the field's surface.

    Faces that were split lie as flat as the lattice's cells left them; with their vertices on the surface
    they have its shape, as if the lattice were as fine there.

    Args:
        mesh: painted, metres.
        first: number of the first vertex that was put on an edge.
        field: that the mesh is of.
        expression: (E,) code of the frame.
        marks: (M, 3) points of eyes and lips, metres.
        paint: to paint what was moved anew.
    """
    rows: Int32 = np.unique(mesh.faces[(mesh.faces >= first).any(axis=1)])
    rows = rows[cKDTree(marks).query(mesh.vertices[rows])[0] < _AROUND_M]
    if not len(rows):
        return mesh
    unit = np.float32(HEAD_UNIT_METRES)
    assert mesh.colors is not None and mesh.part is not None
    vertices, normals = mesh.vertices.copy(), mesh.normals.copy()
    colors, part = mesh.colors.copy(), mesh.part.copy()
    points, normals[rows] = project(field, mesh.vertices[rows] / unit, expression, steps=1)
    vertices[rows] = points * unit
    colors[rows], part[rows] = paint.at(vertices[rows], normals[rows])
    return dataclasses.replace(mesh, vertices=vertices, normals=normals, colors=colors, part=part)
