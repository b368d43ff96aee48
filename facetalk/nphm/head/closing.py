"""Lips and lids of an extracted mesh, closed as those of the rig are.

A field has the seams of the data, where lips are half a millimetre apart at rest and lids may stay open at a
full blink; the rig closes both for each identity. And where lips are pressed together the data's run through
each other: no place there is of one of them alone, and a backward deformation finds a hole.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree

from facetalk.arrays import Float32
from facetalk.mesh.borrow import Paint
from facetalk.mesh.mesh import Mesh
from facetalk.nphm.head.template_mesh import Seam

__all__ = ["closed"]

_LEAST_M = 1e-6
"""Shorter ways are none."""
_FOLLOW_M = 0.003
"""How far from vertices of the rig that a seam moves others may lie that go with them."""
_MET_M, _APART_M = 0.0004, 0.0012
"""Gaps of a seam's edges of the rig at which they meet, and at which they are apart."""
_EDGE_M, _REACH_M = 0.0025, 0.005
"""How far from a seam that has met vertices lie on the rig, and how far away they are left alone."""
_FARTHEST_M = 0.004
"""How far a vertex is taken there at most."""
_LIPS_TURN_M, _LIDS_TURN_M = 0.005, 0.002
"""How much farther a point of the rig may be that faces as a vertex does: a lip's underside, not its
front.
"""


def closed(
    mesh: Mesh, rig: Mesh, moves: Float32, open_: Paint, shut: Paint, lips: Seam, lids: Sequence[Seam]
) -> Mesh:
    """Close lips and lids: first by the rig's own ways, then, where its edges meet, onto the rig.

    Vertices take the way of the closest point that faces as they do. What lies farther than 5 mm from a seam
    that has met is only taken along by the first step, which open mouths and eyes share.

    Args:
        mesh: of a field that stands where the rig stands without closed seams, metres.
        rig: the frame with closed seams.
        moves: (V, 3) by which its vertices were moved to close them, metres.
        open_, shut: the rig's surface without closed seams, and with.
        lips, lids: edges that have to meet.
    """
    assert mesh.colors is not None and mesh.part is not None
    vertices, normals = mesh.vertices.copy(), mesh.normals.copy()
    colors, part = mesh.colors.copy(), mesh.part.copy()
    moved = np.linalg.norm(moves, axis=1) > _LEAST_M
    if moved.any():
        rows = np.flatnonzero(cKDTree(rig.vertices[moved] - moves[moved]).query(vertices)[0] < _FOLLOW_M)
        vertices[rows] += open_.carried(vertices[rows], normals[rows], moves)
    places = np.concatenate([rig.vertices, rig.normals], axis=1)
    for seams, turn in (([lips], _LIPS_TURN_M), (lids, _LIDS_TURN_M)):
        share = np.max([_share(seam, rig, vertices) for seam in seams], axis=0)
        rows = np.flatnonzero(share)
        if not len(rows):
            continue
        amount = (share * share * (3.0 - 2.0 * share))[rows, None].astype(np.float32)
        there = shut.carried(vertices[rows], normals[rows], places, turn=turn)
        step = amount * (there[:, :3] - vertices[rows])
        length = np.maximum(np.linalg.norm(step, axis=1, keepdims=True), np.float32(1e-12))
        vertices[rows] += step * np.minimum(np.float32(_FARTHEST_M) / length, np.float32(1.0))
        turned = normals[rows] + amount * (there[:, 3:] - normals[rows])
        size = np.linalg.norm(turned, axis=1, keepdims=True)
        normals[rows] = np.where(size > 1e-6, turned / np.maximum(size, np.float32(1e-12)), normals[rows])
        colors[rows], part[rows] = shut.at(vertices[rows], normals[rows])
    return dataclasses.replace(mesh, vertices=vertices, normals=normals, colors=colors, part=part)


def _share(seam: Seam, rig: Mesh, vertices: Float32) -> Float32:
    """(N,) how much of the way to the rig vertices go, 0 to 1."""
    share = np.zeros(len(vertices), np.float32)
    met = np.clip((_APART_M - seam.gaps(rig.vertices)) / (_APART_M - _MET_M), 0.0, 1.0)
    far, nearest = cKDTree(rig.vertices[seam.vertex]).query(vertices, distance_upper_bound=_REACH_M)
    near = np.flatnonzero(far < _REACH_M)
    share[near] = met[nearest[near]] * np.clip((_REACH_M - far[near]) / (_REACH_M - _EDGE_M), 0.0, 1.0)
    return share
