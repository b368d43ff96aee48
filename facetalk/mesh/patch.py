"""A box of a mesh taken out and replaced by a finer mesh, sewn in without a gap.

Both are marching cubes of one field, and the box's sides are planes of both lattices. There the finer mesh
ends in nearly the same curves as the hole. Its rim is laid onto the hole's, and faces at both are split
where the other one has a vertex, so that nothing hangs. Behind nearly closed lips the coarser lattice may
have other curves than the finer one; there both meshes are closed by flat walls.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from facetalk.arrays import AnyFloat, Bool, Float32, Float64, Int64

__all__ = ["Patched", "loops", "open_edges", "patched"]

_SAME = 0.1
"""Vertices of the rims that lie closer than this share of the hole's mean edge become one."""
_FARTHEST = 2.0
"""Rims farther apart than so many mean edges of the hole are not those of one surface."""


def open_edges(faces: Int64) -> Int64:
    """(E, 2) directed edges that no face goes along the other way."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    return edges[~_among(edges[:, ::-1], edges)]


def _among(edges: Int64, others: Int64) -> Bool:
    """(E,) which directed edges are among others."""
    if not len(others):
        return np.zeros(len(edges), bool)
    count = max(int(edges.max(initial=0)), int(others.max())) + 1
    known = np.sort(others[:, 0] * count + others[:, 1])
    key = edges[:, 0] * count + edges[:, 1]
    return np.asarray(known[np.minimum(np.searchsorted(known, key), len(known) - 1)] == key)


@dataclass(frozen=True)
class Patched:
    """A mesh with a box replaced.

    Attributes:
        vertices: (V, 3); those of the mesh that are left come first, in their order.
        faces: (F, 3).
        number: which vertex each of the mesh's became, -1 where it is gone.
        walls: the middles of flat walls.
    """

    vertices: Float32
    faces: Int64
    number: Int64
    walls: Int64


def patched(vertices: Float32, faces: Int64, box: AnyFloat, fine: tuple[Float32, Int64]) -> Patched | None:
    """The mesh with what lies in a box replaced.

    Args:
        vertices: (V, 3) of the mesh.
        faces: (F, 3).
        box: (2, 3) corners; no face crosses its sides.
        fine: vertices and faces of the same surface inside the box, open at its sides alone.

    Returns:
        the mesh, or None where the outer rims do not fit together.
    """
    slack = 1e-4 * float(np.min(box[1] - box[0]))
    within = ((vertices > box[0] - slack) & (vertices < box[1] + slack)).all(axis=1)
    corners = within[faces].sum(axis=1)
    kept, taken = faces[corners < 3], faces[corners == 3]
    touching = kept[corners[corners < 3] == 2]
    border = np.concatenate([touching[:, [0, 1]], touching[:, [1, 2]], touching[:, [2, 0]]])
    border = border[within[border].all(axis=1)]
    inner = np.concatenate([taken[:, [0, 1]], taken[:, [1, 2]], taken[:, [2, 0]]])
    around, rim = border[_among(border[:, ::-1], inner)], open_edges(fine[1])
    holes, rims = loops(around), loops(rim[:, ::-1])
    if holes is None or rims is None:
        return None
    sewing = _Sewing(vertices, fine[0], _Side(kept, around, 0), _Side(fine[1], rim, len(vertices)))
    left = [loop + len(vertices) for loop in rims]
    extents = [float(np.linalg.norm(np.ptp(vertices[ring], axis=0))) for ring in holes]
    for turn, number in enumerate(np.argsort(extents)[::-1].tolist()):
        ring = holes[number]
        partner = _partner(sewing.points, ring, left)
        if partner is not None and sewing.sew(ring, left[partner]):
            left.pop(partner)
        elif turn == 0:  # the outside of the face
            return None
        else:
            sewing.close(ring, None)
    for ring in left:
        sewing.close(None, ring)
    return sewing.result(len(vertices))


def loops(edges: Int64) -> list[Int64] | None:
    """Closed rings of vertices along directed edges; None where rings touch."""
    follower = dict(edges.tolist())
    if len(follower) != len(edges) or set(follower) != set(follower.values()):
        return None
    out = []
    while follower:
        first, at = follower.popitem()
        ring = [first]
        while at != first:
            ring.append(at)
            at = follower.pop(at)
        out.append(np.array(ring))
    return out


def _partner(points: Float64, ring: Int64, others: Sequence[Int64]) -> int | None:
    """Which of other rings lies where a ring does, if any."""
    apart = [float(np.median(cKDTree(points[other]).query(points[ring])[0])) for other in others]
    best = int(np.argmin(apart)) if apart else -1
    return best if best >= 0 and apart[best] < _FARTHEST * _mean_edge(points[ring]) else None


def _mean_edge(ring: Float64) -> float:
    return float(np.linalg.norm(ring - np.roll(ring, -1, axis=0), axis=1).mean())


class _Side:
    """Faces of one of the meshes: those at its rim, which change, as lists.

    Args:
        faces: (F, 3).
        edges: (E, 2) directed edges of its rim.
        offset: of its vertices' numbers among those of both.
    """

    def __init__(self, faces: Int64, edges: Int64, offset: int) -> None:
        rim = np.zeros(int(max(faces.max(initial=0), edges.max(initial=0))) + 1, bool)
        rim[edges] = True
        near = rim[faces].sum(axis=1) >= 2
        self.rest = faces[~near] + offset
        self.faces: list[list[int]] = (faces[near] + offset).tolist()
        wanted = set(map(tuple, (edges + offset).tolist()))
        self._owner = {
            edge: number
            for number, (a, b, c) in enumerate(self.faces)
            for edge in ((a, b), (b, c), (c, a))
            if edge in wanted
        }

    def split(self, edge: tuple[int, int], middle: list[int]) -> None:
        """Put vertices on an edge of the rim: its face becomes a fan from the corner across."""
        if not middle:
            return
        number = self._owner.pop(edge)
        face = self.faces[number]
        across = face[(face.index(edge[0]) + 2) % 3]
        path = [edge[0], *middle, edge[1]]
        self.faces[number] = [path[0], path[1], across]
        self.faces.extend([start, end, across] for start, end in itertools.pairwise(path[1:]))
        if (edge[1], across) in self._owner:
            self._owner[edge[1], across] = len(self.faces) - 1

    def close(self, ring: list[int], middle: int) -> None:
        """Cover a ring that runs as the hole's rings do."""
        self.faces.extend([b, a, middle] for a, b in zip(ring, ring[1:] + ring[:1], strict=True))


class _Sewing:
    """Both meshes while they become one; vertices of the finer one are numbered after the others."""

    def __init__(self, vertices: Float32, finer: Float32, outer: _Side, inner: _Side) -> None:
        self.points = np.concatenate([vertices, finer]).astype(np.float64)
        self._outer, self._inner = outer, inner
        self._same: dict[int, int] = {}
        self._walls: list[int] = []

    def sew(self, hole: Int64, rim: Int64) -> bool:
        """Join a ring of the hole and one of the finer mesh that runs the same way; False: they differ."""
        corners = self.points[hole]
        places = _along(corners, self.points[rim])
        if places is None:
            return False
        first, at = places
        rim = np.roll(rim, -first)
        ends = np.concatenate([[0.0], np.cumsum(_lengths(corners))])
        total, same = ends[-1], _SAME * ends[-1] / len(hole)
        # The rim is laid onto the hole's edges; what comes to lie on a vertex of either becomes that vertex.
        ring: list[tuple[float, int]] = [(float(s), int(v)) for s, v in zip(ends[:-1], hole, strict=True)]
        spots = np.mod(at, total)
        segment = np.clip(np.searchsorted(ends, spots, side="right") - 1, 0, len(hole) - 1)
        share = ((spots - ends[segment]) / np.maximum(ends[segment + 1] - ends[segment], 1e-12))[:, None]
        laid = (1 - share) * corners[segment] + share * np.roll(corners, -1, axis=0)[segment]
        number = rim.copy()
        last = None
        for i, (spot, k) in enumerate(zip(spots.tolist(), segment.tolist(), strict=True)):
            if spot - ends[k] < same:
                number[i] = hole[k]
            elif ends[k + 1] - spot < same:
                number[i] = hole[(k + 1) % len(hole)]
            elif last is not None and abs(at[i] - last[0]) < 0.2 * same:
                number[i] = last[1]
            else:
                last = (at[i], int(number[i]))
                ring.append((spot, int(number[i])))
        ring.sort()
        order = {v: i for i, (_, v) in enumerate(ring)}
        everything = [v for _, v in ring]
        inner = []
        following = np.roll(number, -1).tolist()
        for p, q, a, b in zip(
            rim.tolist(), np.roll(rim, -1).tolist(), number.tolist(), following, strict=True
        ):
            middle = [] if a == b else _between(everything, order[a], order[b])
            if len(middle) > len(hole) // 4:
                return False
            inner.append(((q, p), middle[::-1]))
        for edge, middle in inner:
            self._inner.split(edge, middle)
        for a, b in zip(hole.tolist(), np.roll(hole, -1).tolist(), strict=True):
            self._outer.split((a, b), _between(everything, order[a], order[b]))
        self.points[rim] = laid
        self._same.update(zip(rim.tolist(), number.tolist(), strict=True))
        return True

    def close(self, hole: Int64 | None, rim: Int64 | None) -> None:
        """Close a ring of either mesh by a flat wall."""
        side, ring = (self._outer, hole) if rim is None else (self._inner, rim[::-1])
        assert ring is not None
        side.close(ring.tolist(), len(self.points))
        self._walls.append(len(self.points))
        self.points = np.concatenate([self.points, self.points[ring].mean(axis=0, keepdims=True)])

    def result(self, count: int) -> Patched | None:
        """Both, without vertices that nothing uses; None where something is left open."""
        number = np.arange(len(self.points))
        number[list(self._same.keys())] = list(self._same.values())
        seam = number[np.array(self._outer.faces + self._inner.faces, np.int64).reshape(-1, 3)]
        seam = seam[(seam != np.roll(seam, -1, axis=1)).all(axis=1)]
        rest = number[np.concatenate([self._outer.rest, self._inner.rest])]
        # Faces at the seam have open edges where the rest goes on, and nowhere else.
        left = open_edges(seam)
        on_seam = np.zeros(len(self.points), bool)
        on_seam[left] = True
        beside = rest[on_seam[rest].sum(axis=1) >= 2]
        edges = np.concatenate([beside[:, [1, 0]], beside[:, [2, 1]], beside[:, [0, 2]]])
        if not _among(left, edges).all():
            return None
        faces = np.concatenate([rest, seam])
        used = np.zeros(len(self.points), bool)
        used[faces] = True
        renumbered = np.where(used, np.cumsum(used) - 1, -1)
        walls = renumbered[np.array(self._walls, np.int64)]
        return Patched(self.points[used].astype(np.float32), renumbered[faces], renumbered[:count], walls)


def _lengths(ring: Float64) -> Float64:
    return np.asarray(np.linalg.norm(np.roll(ring, -1, axis=0) - ring, axis=1))


def _between(ring: list[int], start: int, end: int) -> list[int]:
    """Members of a ring after one place and before another."""
    return ring[start + 1 : end] if start < end else ring[start + 1 :] + ring[:end]


def _along(corners: Float64, points: Float64) -> tuple[int, Float64] | None:
    """How far along a ring of corners each of other points, in their order, comes to lie.

    Returns:
        which of the points to begin with, and the lengths along the ring in the order from there, never
        falling; None where they do not go round once.
    """
    edge, length = np.roll(corners, -1, axis=0) - corners, _lengths(corners)
    ends = np.concatenate([[0.0], np.cumsum(length)])
    arm = points[:, None] - corners
    share = np.clip(np.einsum("nkx,kx->nk", arm, edge) / np.maximum(length**2, 1e-24), 0.0, 1.0)
    apart = np.linalg.norm(arm - share[..., None] * edge, axis=2)
    nearest = apart.argmin(axis=1)
    rows = np.arange(len(points))
    at = ends[nearest] + share[rows, nearest] * length[nearest]
    total = ends[-1]
    if apart[rows, nearest].max() > _FARTHEST * total / len(corners):
        return None
    steps = np.mod(np.diff(np.append(at, at[0])) + 0.5 * total, total) - 0.5 * total
    if abs(steps.sum() - total) > 1e-6 * total or np.abs(steps).max() > 0.25 * total:
        return None
    # Where the curves wiggle a point may fall back a little: it goes no farther back than the one before.
    first = int(at.argmin())
    ordered = np.roll(at, -first)
    unrolled = ordered[0] + np.concatenate([[0.0], np.cumsum(np.roll(steps, -first)[:-1])])
    forward = np.maximum.accumulate(unrolled)
    return first, np.minimum(forward, ordered[0] + total * (1.0 - 1e-9))
