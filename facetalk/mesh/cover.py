"""Which faces of a mesh lie close behind others: eyeballs behind lids."""

from __future__ import annotations

import numpy as np

from facetalk.arrays import Bool
from facetalk.mesh.mesh import Mesh

__all__ = ["covered"]

_STEP = 256
"""Faces at once, whose pairs with others stay in the cache."""


def covered(mesh: Mesh, below: Bool, above: Bool, reach: float) -> Bool:
    """(F,) which faces meet others when they are moved along their normals.

    A ray from the middle of each, by Moeller and Trumbore, "Fast, Minimum Storage Ray-Triangle Intersection",
    1997.

    Args:
        mesh: with normals.
        below: (F,) faces that are asked about.
        above: (F,) those that may cover them.
        reach: length of the rays, in the mesh's unit.
    """
    found = np.zeros(len(mesh.faces), bool)
    asked, lids = np.flatnonzero(below), mesh.faces[above]
    if not len(asked) or not len(lids):
        return found
    start = mesh.vertices[mesh.faces[asked]].mean(axis=1).astype(np.float64)
    way = mesh.normals[mesh.faces[asked]].mean(axis=1).astype(np.float64)
    way *= reach / np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-12)
    end = start + way
    corners = mesh.vertices[lids].astype(np.float64)
    low, high = corners.min(axis=1), corners.max(axis=1)
    for first in range(0, len(asked), _STEP):
        rows = slice(first, first + _STEP)
        box = np.stack([start[rows], end[rows]])
        close = ((low <= box.max(axis=(0, 1))) & (high >= box.min(axis=(0, 1)))).all(axis=1)
        origin = corners[close, 0]
        one, two = corners[close, 1] - origin, corners[close, 2] - origin
        normal = np.cross(one, two)
        # The triple products of the paper, as products of matrices.
        moment = np.cross(start[rows], way[rows])
        across = -way[rows] @ normal.T
        across[across == 0.0] = 1e-30
        along = (start[rows] @ normal.T - np.einsum("kx,kx->k", origin, normal)) / across
        u = (moment @ two.T - way[rows] @ np.cross(two, origin).T) / across
        v = (way[rows] @ np.cross(one, origin).T - moment @ one.T) / across
        hit = (along > 0.0) & (along < 1.0) & (u >= 0.0) & (v >= 0.0) & (u + v <= 1.0)
        found[asked[rows]] = hit.any(axis=1)
    return found
