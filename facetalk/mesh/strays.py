"""Pieces of an extracted mesh that are no part of a head: specks, pockets inside, slivers in open mouths.

Where a backward deformation jumps, between lips and lids, it may find surface that nothing was carried to.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from facetalk.arrays import Bool, Float64, Int64
from facetalk.mesh.mesh import Mesh
from facetalk.mesh.patch import loops, open_edges

__all__ = ["Pieces", "cut", "kept", "pieces"]

_TRIES = 8
"""Rounds in which rims that touch are cut back."""


@dataclasses.dataclass(frozen=True)
class Pieces:
    """The connected pieces of a mesh.

    Attributes:
        of_vertex: (V,) number of the piece of each vertex.
        area: (P,) in the mesh's unit, squared.
        volume: (P,) enclosed, cubed; negative where a piece is a pocket, whose faces look inwards.
    """

    of_vertex: Int64
    area: Float64
    volume: Float64


def pieces(mesh: Mesh) -> Pieces:
    """Find the connected pieces of a mesh."""
    faces = mesh.faces
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]]])
    graph = coo_matrix((np.ones(len(edges), np.int8), (edges[:, 0], edges[:, 1])), shape=(len(mesh),) * 2)
    count, label = connected_components(graph, directed=False)
    corner = mesh.vertices[faces].astype(np.float64)
    across = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    of_face = label[faces[:, 0]]
    area = np.bincount(of_face, 0.5 * np.linalg.norm(across, axis=1), minlength=count)
    volume = np.bincount(of_face, np.einsum("nx,nx->n", corner[:, 0], across) / 6.0, minlength=count)
    return Pieces(label.astype(np.int64), area.astype(np.float64), volume.astype(np.float64))


def kept(mesh: Mesh, faces: Bool) -> tuple[Mesh, Int64]:
    """The mesh with some faces (F,) alone, and the new number of each vertex (V,), -1 where it is gone."""
    used = np.zeros(len(mesh), bool)
    used[mesh.faces[faces]] = True
    number = np.where(used, np.cumsum(used) - 1, -1)
    colors, part = (None if rows is None else rows[used] for rows in (mesh.colors, mesh.part))
    corners = number[mesh.faces[faces]].astype(np.int32)
    return Mesh(mesh.vertices[used], corners, mesh.normals[used], colors, part), number


def cut(mesh: Mesh, stray: Bool) -> tuple[Mesh, Int64]:
    """Take vertices (V,) out, with their faces, and close the rims with flat caps.

    Rims that touch each other are cut back until they do not; where they do to the end, nothing is taken out.
    What was open before stays open.

    Returns:
        the mesh, whose last vertices are the middles of caps, and the new number of each vertex, -1 where it
        is gone; without colours and parts.
    """
    faces = mesh.faces.astype(np.int64)
    before = open_edges(faces)
    gone = stray.copy()
    for _ in range(_TRIES):
        left = faces[~gone[faces].any(axis=1)]
        rim = _new(open_edges(left), before, len(mesh))
        rings = loops(rim[:, ::-1])
        if rings is not None:
            break
        start, times = np.unique(rim[:, 0], return_counts=True)
        end, ends = np.unique(rim[:, 1], return_counts=True)
        lonely = np.setxor1d(start, end)
        gone[start[times > 1]] = gone[end[ends > 1]] = gone[lonely] = True
    if rings is None:
        return Mesh(mesh.vertices, mesh.faces, mesh.normals), np.arange(len(mesh))
    whole = np.asarray(~gone[faces].any(axis=1))
    left_mesh, number = kept(Mesh(mesh.vertices, mesh.faces, mesh.normals), whole)
    if not rings:
        return left_mesh, number
    points, normals, corners = [left_mesh.vertices], [left_mesh.normals], [left_mesh.faces.astype(np.int64)]
    for index, ring in enumerate(rings):
        own = number[ring]
        # The reversed rim runs as the caps' own edges do.
        middle = np.full(len(own), len(left_mesh) + index)
        corners.append(np.stack([own, np.roll(own, -1), middle], axis=1))
        points.append(left_mesh.vertices[own].mean(axis=0, keepdims=True))
        mean = left_mesh.normals[own].mean(axis=0, keepdims=True)
        normals.append(mean / max(float(np.linalg.norm(mean)), 1e-12))
    capped = np.concatenate(corners).astype(np.int32)
    return Mesh(np.concatenate(points), capped, np.concatenate(normals)), number


def _new(edges: Int64, before: Int64, count: int) -> Int64:
    known = before[:, 0] * count + before[:, 1]
    return edges[~np.isin(edges[:, 0] * count + edges[:, 1], known)]
