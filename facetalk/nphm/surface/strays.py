"""What of an extracted head is no part of one: told by the rig, which stands in the same place."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from facetalk.arrays import Bool, Float32, Int64
from facetalk.mesh.mesh import Mesh
from facetalk.mesh.strays import cut, kept, pieces

__all__ = ["SMALL_M2", "without_strays"]

SMALL_M2 = 3e-4
"""Area below which a piece is small, 300 mm2: an eyeball has 1800, a tooth that stands alone about 100."""
_NEAR_M = 0.002
"""How near to the rig's eyeballs, teeth and tongue a piece lies that is one of them, by its median vertex."""
_STRAY_M = 0.004
"""How far from every point of the rig surface between open lips is none."""


def without_strays(mesh: Mesh, rig: Mesh, alone: Bool, lips: Float32 | None) -> tuple[Mesh, Int64]:
    """Take out small pieces that are no eye, tooth or tongue, pockets, and slivers between open lips.

    A piece goes if its area is below 300 mm2, unless it encloses volume and lies, by its median vertex,
    within 2 mm of the rig's eyeballs, teeth or tongue. Before that, vertices go that are in front of the
    corners of open lips, between them, and farther than 4 mm from the rig.

    Args:
        mesh: of a field, without colours, metres.
        rig: the frame where the field stands.
        alone: (V,) vertices of the rig's eyeballs, teeth and tongue, which may stand alone.
        lips: marks (M, 3) of the inner edges of open lips; None where they are closed.

    Returns:
        the mesh, and the new number of each vertex (V,), -1 where it is gone.
    """
    number = np.arange(len(mesh))
    if not len(mesh.faces):
        return mesh, number
    if lips is not None:
        low, high = lips.min(axis=0), lips.max(axis=0)
        between = ((mesh.vertices > low) & (mesh.vertices < [*high[:2], np.inf])).all(axis=1)
        points = np.concatenate([rig.vertices, rig.vertices[rig.faces].mean(axis=1)])
        far = np.zeros(len(mesh), bool)
        far[between] = (
            cKDTree(points).query(mesh.vertices[between], distance_upper_bound=_STRAY_M)[0] > _STRAY_M
        )
        if far.any():
            mesh, number = cut(mesh, far)
    found = pieces(mesh)
    go = found.area < SMALL_M2
    tree = cKDTree(rig.vertices)
    for piece in np.flatnonzero(go & (found.volume > 0.0)):
        off, nearest = tree.query(mesh.vertices[found.of_vertex == piece])
        go[piece] = not (np.median(off) < _NEAR_M and np.median(alone[nearest]) > 0.5)
    left, again = kept(mesh, ~go[found.of_vertex[mesh.faces[:, 0]]])
    return left, np.where(number >= 0, again[number], -1)
