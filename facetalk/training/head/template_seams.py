"""Edges of the template mesh that have to meet, lips and lids, and how far the skin around follows them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra

from facetalk.arrays import AnyFloat, Bool, Float32, Int32, Int64, UInt8
from facetalk.data.heads.ict import MorphableHead
from facetalk.multi_pie import LOWER_LIP_LINE, UPPER_LIP_LINE
from facetalk.nphm.head.regions import Region
from facetalk.nphm.head.template_mesh import Seam

__all__ = ["Seams"]

_MM = 0.004
_HAIR = 5  # vertices
_LIP_GAP = -0.1 * _MM
_LID_OVERLAP = 0.35 * _MM


class Seams:
    """Finds the edges that have to meet, and how far the skin around follows them."""

    def __init__(
        self, head: MorphableHead, neutral: Float32, faces: Int32, region: UInt8, shapes: Float32,
        landmarks: Int32,
    ) -> None:  # fmt: skip
        self.head, self.neutral, self.region, self.shapes = head, neutral, region, shapes
        self.landmarks = landmarks
        sheet = np.isin(region, (Region.SKIN, Region.MOUTH, Region.EYE_SOCKET))
        chosen = faces[sheet[faces].all(1)]
        edges = np.concatenate([chosen[:, [0, 1]], chosen[:, [1, 2]], chosen[:, [2, 0]]])
        edges = np.unique(np.sort(edges, axis=1), axis=0)
        length = np.linalg.norm(neutral[edges[:, 0]] - neutral[edges[:, 1]], axis=1)
        graph = coo_matrix((length, (edges[:, 0], edges[:, 1])), shape=(len(neutral),) * 2)
        self.graph = (graph + graph.T).tocsr()

    def path(self, stops: tuple[int, ...]) -> Int64:
        """Vertices along the shortest way over edges through landmarks."""
        out: list[int] = [int(self.landmarks[stops[0]])]
        for a, b in pairwise(stops):
            start, end = int(self.landmarks[a]), int(self.landmarks[b])
            _, before = dijkstra(self.graph, indices=start, return_predecessors=True)
            way = [end]
            while way[-1] != start:
                way.append(int(before[way[-1]]))
            out += way[::-1][1:]
        return np.array(out)

    def _opposite(self, own: Int64, other: Int64, shape: Float32) -> tuple[Int32, Float32]:
        """For vertices of one edge the two neighbours on the other one that lie around the same x."""
        x = shape[other, 0]
        order = np.argsort(x, kind="stable")
        after = np.clip(np.searchsorted(x[order], shape[own, 0]), 1, len(other) - 1)
        a, b = other[order[after - 1]], other[order[after]]
        span = shape[b, 0] - shape[a, 0]
        blend = np.clip((shape[own, 0] - shape[a, 0]) / np.where(np.abs(span) < 1e-6, 1.0, span), 0.0, 1.0)
        return np.stack([a, b], 1).astype(np.int32), blend.astype(np.float32)

    def _spread(self, path: Int64, shape: Float32, width: float, reach: float) -> tuple[Float32, Float32]:
        """Weights (V, K) over a path's vertices and the distance (V,) from it, along the skin."""
        distance = dijkstra(self.graph, indices=path, limit=reach).T
        near = np.exp(-((np.where(np.isfinite(distance), distance, 1e3) / width) ** 2))
        closest = distance.min(1)
        # Relative to the nearest, so that far vertices still have someone to follow.
        finite = np.isfinite(closest)
        shifted = np.where(np.isfinite(distance), distance, 1e3) - np.where(finite, closest, 0.0)[:, None]
        near = np.exp(-((shifted / width) ** 2)) * finite[:, None]
        return (near / np.maximum(near.sum(1, keepdims=True), 1e-12)).astype(np.float32), closest

    def lips(self) -> Seam:
        """Upper and lower lip along the line where they touch, each going half of the way."""
        shape = self.neutral
        upper, lower = self.path(UPPER_LIP_LINE), self.path(LOWER_LIP_LINE)
        inner_u, inner_l = np.setdiff1d(upper, lower), np.setdiff1d(lower, upper)
        own = np.concatenate([inner_u, inner_l])
        other_u, blend_u = self._opposite(inner_u, lower, shape)
        other_l, blend_l = self._opposite(inner_l, upper, shape)
        corner = shape[upper[[0, -1]]]
        from_corner = np.minimum(
            np.linalg.norm(shape[own] - corner[0], axis=1), np.linalg.norm(shape[own] - corner[1], axis=1)
        )
        sign = np.r_[np.ones(len(inner_u)), -np.ones(len(inner_l))]
        target = sign * _LIP_GAP * np.clip(from_corner / (5 * _MM), 0.0, 1.0)
        rows, columns, weights = [], [], []
        spread_u, far_u = self._spread(inner_u, shape, 2.5 * _MM, 25 * _MM)
        spread_l, far_l = self._spread(inner_l, shape, 2.5 * _MM, 25 * _MM)
        for mine, theirs, spread, start in (
            (far_u, far_l, spread_u, 0), (far_l, far_u, spread_l, len(inner_u))
        ):  # fmt: skip
            ours = np.isfinite(mine) & (mine <= theirs)
            amount = 0.5 * np.exp(-((np.where(ours, mine, 1e3) / (6 * _MM)) ** 2))
            table = spread * (amount * ours)[:, None]
            row, column = np.nonzero(table > 2e-3)
            rows.append(row)
            columns.append(column + start)
            weights.append(-table[row, column])
        return _seam(
            own, np.concatenate([other_u, other_l]), np.r_[blend_u, blend_l], target, rows, columns, weights
        )

    def lid(self, upper: tuple[int, ...], lower: tuple[int, ...], blink: str) -> Seam:
        """The upper lid's edge at a full blink, which the whole lid follows as far as it moves."""
        move = self.shapes[self.head.expression_names.index(blink)]
        shape = self.neutral + move
        above, below = self.path(upper), self.path(lower)
        own = np.setdiff1d(above, below)
        # Pairs lie above each other while the eye is open.
        other, blend = self._opposite(own, below, self.neutral)
        ends = self.neutral[above[[0, -1]]]
        from_corner = np.linalg.norm(self.neutral[own][:, None] - ends, axis=2).min(1)
        target = -_LID_OVERLAP * np.clip(from_corner / (4 * _MM), 0.0, 1.0)
        spread, far = self._spread(own, shape, 3 * _MM, 40 * _MM)
        travel = np.linalg.norm(move, axis=1)
        along = spread @ travel[own]
        amount = np.where(np.isfinite(far), np.clip(travel / np.maximum(along, 0.2 * _MM), 0.0, 1.0), 0.0)
        lower_far = dijkstra(self.graph, indices=np.setdiff1d(below, above), limit=40 * _MM).min(0)
        amount *= far < lower_far
        amount = np.where(amount > 0.05, amount, 0.0)
        table = spread * amount[:, None]
        for hair in np.flatnonzero(self.region == Region.LASH).reshape(-1, _HAIR):
            # A hair goes where its root does, if that is in this upper lid.
            root = self.neutral[hair[:2]].mean(0)
            up, down = (np.linalg.norm(self.neutral[path] - root, axis=1) for path in (above, below))
            if up.min() < 3 * _MM and up.min() < down.min() + 0.5 * _MM:
                table[hair] = table[above[up.argmin()]]
        row, column = np.nonzero(table > 2e-3)
        return _seam(own, other, blend, target, [row], [column], [-table[row, column].astype(np.float32)])

    def lid_vertices(self, eyes: Float32) -> Int32:
        """Skin that a blink takes over the eyeball."""
        move = np.zeros(len(self.neutral))
        for name in ("eyeBlink_L", "eyeBlink_R"):
            move = np.maximum(
                move, np.linalg.norm(self.shapes[self.head.expression_names.index(name)], axis=1)
            )
        sheet = np.isin(self.region, (Region.SKIN, Region.EYE_SOCKET))
        return np.flatnonzero((move > 0.5 * _MM) & sheet & self._front(eyes)).astype(np.int32)

    def _front(self, eyes: Float32) -> Bool:
        """In front of the middle of an eyeball and not farther than a lid from it."""
        out = np.zeros(len(self.neutral), bool)
        for eye in eyes:
            arm = self.neutral - eye[:3]
            distance = np.linalg.norm(arm, axis=1)
            out |= (distance < 1.5 * eye[3]) & (arm[:, 2] > 0.3 * eye[3]) & (distance > 0.96 * eye[3])
        return out


def _seam(
    own: Int64, other: Int32, blend: Float32, target: Float32, rows: list[Int64], columns: list[Int64],
    weights: Sequence[AnyFloat],
) -> Seam:  # fmt: skip
    return Seam(
        own.astype(np.int32), other.astype(np.int32), blend.astype(np.float32), target.astype(np.float32),
        np.concatenate(rows).astype(np.int32), np.concatenate(columns).astype(np.int32),
        np.concatenate(weights).astype(np.float32),
    )  # fmt: skip
