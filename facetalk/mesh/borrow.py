"""Colours and parts for a mesh that has none, from one in the same place, and vertices to show them.

Marching cubes at 128 samples an axis has vertices 2 mm apart, and an iris is 12 mm wide: whatever colours its
vertices have, an eye is a smear. So faces are split where the paint changes. Vertices are put on edges: the
surface stays what it was.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from facetalk.arrays import AnyFloat, Bool, Float32, Float64, Int64, UInt8
from facetalk.mesh.materials import linear_to_srgb, srgb_to_linear
from facetalk.mesh.mesh import Mesh

__all__ = ["Paint", "painted"]

_NEIGHBOURS = 8
_MORE_NEIGHBOURS = 40
"""Where a point may be chosen that is not the nearest."""
_BLOCK = 2048
"""Points at once, whose faces stay in the cache."""
_FACING = 0.2
"""Least cosine between normals of surfaces that look at the same viewer: lips and lids have another side."""
_FINEST_M = 0.0005
"""The rig's own vertices lie about as close at an iris."""
_ROUNDS = 4
_SEEN = 10.0
"""Difference of colours, of 255, along an edge that is split."""


class Paint:
    """The painted surface of a mesh.

    Args:
        mesh: with colours and parts, at least one face.
        shown: (V,) vertices that lie on the surface; faces with others lend nothing. None: all.
        hidden: (F,) faces that lend nothing either. None: none.
    """

    def __init__(self, mesh: Mesh, shown: Bool | None = None, hidden: Bool | None = None) -> None:
        assert mesh.colors is not None and mesh.part is not None
        lends = np.ones(len(mesh.faces), bool) if shown is None else shown[mesh.faces].all(axis=1)
        faces = mesh.faces[lends if hidden is None else lends & ~hidden]
        self._corners = mesh.vertices[faces].astype(np.float64)
        self._faces = faces
        # Normals and not the winding of faces, which is lost in slivers.
        self._normals = mesh.normals[faces].astype(np.float64)
        self._light = srgb_to_linear(mesh.colors)[faces]
        self._part = mesh.part[faces].min(axis=1)
        self._tree = cKDTree(self._corners.mean(axis=1))

    def at(self, points: Float32, normals: Float32) -> tuple[UInt8, UInt8]:
        """Colours (N, 3), sRGB, and parts (N,) at the closest points of the surface that face the same way.

        Colours are interpolated over the face, in linear light. Where nothing faces the same way, the closest
        point is taken.

        Args:
            points, normals: (N, 3) near the surface.
        """
        chosen, weights = self._closest(points, normals)
        light = np.einsum("nc,ncx->nx", weights, self._light[chosen])
        return linear_to_srgb(light), self._part[chosen]

    def carried(self, points: Float32, normals: Float32, values: Float32, *, turn: float = 0.0) -> Float32:
        """Values of the mesh's vertices (V, k) where :meth:`at` would take colours from: (N, k).

        Args:
            points, normals: (N, 3) near the surface.
            values: (V, k).
            turn: how much farther a point may be, in the mesh's unit, whose normal is the asked one and not
                one across to it.
        """
        chosen, weights = self._closest(points, normals, turn)
        return np.einsum("nc,ncx->nx", weights, values[self._faces[chosen]]).astype(np.float32)

    def _closest(self, points: Float32, normals: Float32, turn: float = 0.0) -> tuple[Int64, Float64]:
        """Faces (N,) and weights (N, 3) of their corners."""
        chosen, weights = np.zeros(len(points), np.int64), np.zeros((len(points), 3))
        for start in range(0, len(points), _BLOCK):
            rows = slice(start, start + _BLOCK)
            chosen[rows], weights[rows] = self._some(points[rows], normals[rows], turn)
        return chosen, weights

    def _some(self, points: Float32, normals: Float32, turn: float) -> tuple[Int64, Float64]:
        count = min(_NEIGHBOURS if turn == 0.0 else _MORE_NEIGHBOURS, len(self._corners))
        near = self._tree.query(points, k=count)[1].reshape(len(points), count)
        flat = near.ravel()
        weights = _closest(np.repeat(points.astype(np.float64), count, axis=0), self._corners[flat])
        weights = weights.reshape(len(points), count, 3)
        place = np.einsum("nkc,nkcx->nkx", weights, self._corners[near])
        off = place - points[:, None]
        distance = np.sqrt(np.einsum("nkx,nkx->nk", off, off))
        theirs = np.einsum("nkc,nkcx->nkx", weights, self._normals[near])
        length = np.sqrt(np.einsum("nkx,nkx->nk", theirs, theirs))
        facing = np.einsum("nkx,nx->nk", theirs, normals)
        away = facing < _FACING * length
        distance += turn * (1.0 - facing / np.maximum(length, 1e-12))
        best = (distance + np.where(away, 1e3 * (1.0 + distance.max()), 0.0)).argmin(axis=1)
        rows = np.arange(len(points))
        return near[rows, best], weights[rows, best]


def painted(
    mesh: Mesh,
    paint: Paint,
    *,
    always: int | None = None,
    finest: float = _FINEST_M,
    unseen: Int64 | None = None,
) -> Mesh:
    """Paint a mesh, with more vertices where the paint changes.

    Args:
        mesh: to paint; its vertices come first in the result, in their order.
        paint: of a mesh that stands in the same place.
        always: a part that gets more vertices everywhere: an iris may lie between white vertices.
        finest: about the length of edges where there are more vertices, in the mesh's unit.
        unseen: vertices whose edges get none.
    """
    colors, part = paint.at(mesh.vertices, mesh.normals)
    vertices, normals, faces = mesh.vertices, mesh.normals, mesh.faces.astype(np.int64)
    hidden = np.zeros(len(mesh), bool) if unseen is None else np.isin(np.arange(len(mesh)), unseen)
    for _ in range(_ROUNDS):
        edges, of_face = _edges(faces)
        first, second = edges.T
        length = np.linalg.norm(vertices[first] - vertices[second], axis=1)
        differ = np.abs(colors[first].astype(np.int16) - colors[second]).max(axis=1, initial=0)
        asked = (differ > _SEEN) | (part[first] != part[second])
        if always is not None:
            asked |= part[first] == always
        split = asked & (length > 2.0 * finest) & ~(hidden[first] | hidden[second])
        # Two new vertices on a face make slivers; a third one makes four faces of its shape.
        plump = ~hidden[faces].any(axis=1)
        split[np.unique(of_face[plump & (split[of_face].sum(axis=1) >= 2)])] = True
        if not split.any():
            break
        number = np.full(len(edges), -1, np.int64)
        number[split] = len(vertices) + np.arange(int(split.sum()))
        first, second = edges[split].T
        middle = 0.5 * (vertices[first] + vertices[second])
        between = normals[first] + normals[second]
        between /= np.maximum(np.linalg.norm(between, axis=1, keepdims=True), np.float32(1e-12))
        tint, kind = paint.at(middle, between)
        vertices, normals = np.concatenate([vertices, middle]), np.concatenate([normals, between])
        colors, part = np.concatenate([colors, tint]), np.concatenate([part, kind])
        hidden = np.concatenate([hidden, np.zeros(len(middle), bool)])
        faces = _split(faces, number[of_face])
    return dataclasses.replace(
        mesh, vertices=vertices, normals=normals, faces=faces.astype(np.int32), colors=colors, part=part
    )


def _edges(faces: Int64) -> tuple[Int64, Int64]:
    """Edges (E, 2), and (F, 3) the one of them that goes on from each corner of a face."""
    pairs = np.stack([faces, np.roll(faces, -1, axis=1)], axis=2).reshape(-1, 2)
    pairs.sort(axis=1)
    count = int(faces.max(initial=0)) + 1
    keys, of_face = np.unique(pairs[:, 0] * count + pairs[:, 1], return_inverse=True)
    return np.stack([keys // count, keys % count], axis=1), of_face.reshape(-1, 3)


def _split(faces: Int64, middles: Int64) -> Int64:
    """Faces with new vertices (F, 3) on the edges after their corners, -1 where there is none."""
    out = [faces[(middles < 0).all(axis=1)]]
    for turn in range(3):
        a, b, c = np.roll(faces, -turn, axis=1).T
        ab, bc, ca = np.roll(middles, -turn, axis=1).T
        one = (ab >= 0) & (bc < 0) & (ca < 0)
        out += [_faces(one, a, ab, c), _faces(one, ab, b, c)]
        two = (ab >= 0) & (bc >= 0) & (ca < 0)
        out += [_faces(two, a, ab, c), _faces(two, ab, bc, c), _faces(two, ab, b, bc)]
    a, b, c = faces.T
    ab, bc, ca = middles.T
    full = (middles >= 0).all(axis=1)
    out += [_faces(full, *corners) for corners in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))]
    return np.concatenate(out)


def _faces(mine: Any, *corners: Int64) -> Int64:
    return np.stack([corner[mine] for corner in corners], axis=1)


def _closest(points: AnyFloat, triangles: AnyFloat) -> AnyFloat:
    """Weights (N, 3) of a triangle's corners (N, 3, 3) at the point of it that is closest to a point (N, 3).

    It lies inside or on the nearest of three edges, as by the regions of Ericson, "Real-Time Collision
    Detection", 2005, section 5.1.5.
    """
    a, b, c = triangles[:, 0], triangles[:, 1], triangles[:, 2]
    ab, ac, ap = b - a, c - a, points - a
    d00, d01, d11 = _dot(ab, ab), _dot(ab, ac), _dot(ac, ac)
    d20, d21 = _dot(ap, ab), _dot(ap, ac)
    area = np.maximum(d00 * d11 - d01 * d01, 1e-30)
    v, w = (d11 * d20 - d01 * d21) / area, (d00 * d21 - d01 * d20) / area
    u = 1.0 - v - w
    best = np.stack([u, v, w], axis=1)
    outside = np.minimum(np.minimum(u, v), w) < 0.0
    least = np.where(outside, np.inf, 0.0)
    for start, end, one, two in ((a, b, 0, 1), (b, c, 1, 2), (c, a, 2, 0)):
        along = end - start
        t = np.clip(_dot(points - start, along) / np.maximum(_dot(along, along), 1e-30), 0.0, 1.0)
        off = start + t[:, None] * along - points
        gap = _dot(off, off)
        closer = outside & (gap < least)
        least[closer] = gap[closer]
        best[closer] = 0.0
        best[closer, one], best[closer, two] = 1.0 - t[closer], t[closer]
    return best


def _dot(a: AnyFloat, b: AnyFloat) -> AnyFloat:
    return np.asarray(np.einsum("nx,nx->n", a, b))
