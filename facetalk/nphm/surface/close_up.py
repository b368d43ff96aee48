"""Eyes and lips of an extracted mesh, where its lattice is too coarse to be looked at closely."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.spatial import cKDTree

from facetalk.arrays import Float32, Int32
from facetalk.mesh.borrow import Paint
from facetalk.mesh.mesh import Mesh
from facetalk.nphm.surface.project import Distance, project
from facetalk.units import HEAD_UNIT_METRES

__all__ = ["settle"]

_AROUND_M = 0.015
"""How far from the marks of eyes and lips vertices are moved."""


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
