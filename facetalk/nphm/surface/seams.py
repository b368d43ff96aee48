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
_FARTHEST_M = 0.0025
"""How far a vertex is taken there at most."""


def closed(mesh: Mesh, rig: Mesh, moves: Float32, open_: Paint, shut: Paint, seams: Sequence[Seam]) -> Mesh:
    """Close lips and lids: first by the rig's own ways, then, where its edges meet, onto the rig.

    Vertices take the way of the closest point that faces as they do. What lies farther than 5 mm from a seam
    that has met is only taken along by the first step, which open mouths and eyes share.

    Args:
        mesh: of a field that stands where the rig stands without closed seams, metres.
        rig: the frame with closed seams.
        moves: (V, 3) by which its vertices were moved to close them, metres.
        open_, shut: the rig's surface without closed seams, and with.
        seams: edges that have to meet.
    """
    vertices, normals = mesh.vertices.copy(), mesh.normals.copy()
    moved = np.linalg.norm(moves, axis=1) > _LEAST_M
    if moved.any():
        rows = np.flatnonzero(cKDTree(rig.vertices[moved] - moves[moved]).query(vertices)[0] < _FOLLOW_M)
        vertices[rows] += open_.carried(vertices[rows], normals[rows], moves)
    share = np.zeros(len(mesh), np.float32)
    for seam in seams:
        gap = seam.gaps(rig.vertices)
        met = np.clip((_APART_M - gap) / (_APART_M - _MET_M), 0.0, 1.0)
        far, nearest = cKDTree(rig.vertices[seam.vertex]).query(vertices, distance_upper_bound=_REACH_M)
        near = np.flatnonzero(far < _REACH_M)
        part = met[nearest[near]] * np.clip((_REACH_M - far[near]) / (_REACH_M - _EDGE_M), 0.0, 1.0)
        share[near] = np.maximum(share[near], part)
    rows = np.flatnonzero(share)
    if len(rows):
        amount = (share * share * (3.0 - 2.0 * share))[rows, None]
        there = shut.carried(vertices[rows], normals[rows], np.concatenate([rig.vertices, rig.normals], 1))
        step = amount * (there[:, :3] - vertices[rows])
        length = np.maximum(np.linalg.norm(step, axis=1, keepdims=True), np.float32(1e-12))
        turned = normals[rows] + amount * (there[:, 3:] - normals[rows])
        vertices[rows] += step * np.minimum(np.float32(_FARTHEST_M) / length, np.float32(1.0))
        size = np.linalg.norm(turned, axis=1, keepdims=True)
        normals[rows] = np.where(size > 1e-6, turned / np.maximum(size, np.float32(1e-12)), normals[rows])
    return dataclasses.replace(mesh, vertices=vertices, normals=normals)
