"""Which triangle covers which texel of a picture."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from facetalk.arrays import Float32, Int32, Int64
from facetalk.mesh.strips import in_strips, strips_of

__all__ = ["covered"]


class _Found(NamedTuple):
    """Texels (N,) at triangles (N,), by the weights (N,) there of their second and third corners."""

    texel: Int32
    triangle: Int32
    v: Float32
    w: Float32

    def some(self, rows: Int64) -> _Found:
        return _Found(self.texel[rows], self.triangle[rows], self.v[rows], self.w[rows])


def covered(triangles: Float32, shape: tuple[int, int]) -> tuple[Int32, Float32, Int32]:
    """Triangle (N,), weights of its corners (N, 3), and number (N,) of texels that triangles (F, 3, 2) cover.

    A texel belongs to the first triangle that holds its middle, or else to the nearest of those that come
    within three quarters of a texel of it, so that no triangle, however small, is left without.

    Args:
        triangles: corners in [0, 1], v upwards.
        shape: height and width of the picture; rows from the top.
    """
    height, width = shape
    p = triangles.astype(np.float64) * [width, height]
    a, ab, ac = p[:, 0], p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]
    twice = ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]
    twice = np.where(np.abs(twice) < 1e-9, 1e-9, twice)
    # Weights of the corners are linear in the place: value at the picture's corner and slopes, per triangle.
    slopes = np.stack([ac[:, 1], -ac[:, 0], -ab[:, 1], ab[:, 0]], axis=1) / twice[:, None]
    start_v = 0.5 * (slopes[:, 0] + slopes[:, 1]) - (slopes[:, :2] * a).sum(axis=1)
    start_w = 0.5 * (slopes[:, 2] + slopes[:, 3]) - (slopes[:, 2:] * a).sum(axis=1)
    low = np.clip(np.floor(p.min(axis=1) - 0.75), 0, [width - 1, height - 1]).astype(np.int32)
    high = np.clip(np.ceil(p.max(axis=1) + 0.75), 1, [width, height]).astype(np.int32)
    wide, tall = (high - low).T
    # Beyond an edge: the distance in texels is the smallest weight over its slope, at most this.
    steep = np.maximum(
        np.hypot(slopes[:, 0], slopes[:, 1]),
        np.maximum(np.hypot(slopes[:, 2], slopes[:, 3]),
                   np.hypot(slopes[:, 0] + slopes[:, 2], slopes[:, 1] + slopes[:, 3])),
    ).astype(np.float32)  # fmt: skip

    def look(some: slice) -> tuple[_Found, _Found, Float32]:
        """Texels that some of the triangles hold, those that they come near, and how near (N,)."""
        # Row by row of each triangle's box, then texel by texel of each row: repeating costs most.
        rows = tall[some]
        of_row = np.repeat(np.arange(some.start, some.stop, dtype=np.int32), rows)
        y = (np.arange(len(of_row)) - np.repeat(np.cumsum(rows) - rows, rows) + low[of_row, 1]).astype(
            np.int32
        )
        v0 = start_v[of_row] + slopes[of_row, 1] * y + slopes[of_row, 0] * low[of_row, 0]
        w0 = start_w[of_row] + slopes[of_row, 3] * y + slopes[of_row, 2] * low[of_row, 0]
        length = wide[of_row]
        row = np.repeat(np.arange(len(of_row), dtype=np.int32), length)
        inner = np.arange(len(row), dtype=np.int32) - (np.cumsum(length) - length).astype(np.int32)[row]
        step = inner.astype(np.float32)
        v = v0.astype(np.float32)[row] + slopes[of_row, 0].astype(np.float32)[row] * step
        w = w0.astype(np.float32)[row] + slopes[of_row, 2].astype(np.float32)[row] * step
        texel = ((height - 1 - y) * width + low[of_row, 0]).astype(np.int32)[row] + inner
        least = np.minimum(np.minimum(v, w), 1.0 - v - w)
        found = _Found(texel, of_row[row], v, w)
        off = np.flatnonzero(least < 0.0)
        beyond = -least[off] / steep[found.triangle[off]]
        near = beyond < 0.75
        return found.some(np.flatnonzero(least >= 0.0)), found.some(off[near]), beyond[near]

    owner = np.full(height * width, -1, np.int32)
    inside = np.zeros((height * width, 2), np.float32)

    def put(found: _Found) -> None:
        """Write them down; of one texel the last stays."""
        owner[found.texel] = found.triangle
        inside[found.texel] = np.stack([found.v, found.w], axis=1)

    beside: list[_Found] = []
    far: list[Float32] = []
    for held, near, beyond in in_strips(look, strips_of(len(p), (wide.astype(np.int64) * tall).tolist())):
        put(held.some(np.flatnonzero(owner[held.texel] < 0)[::-1]))
        beside.append(near)
        far.append(beyond)
    if beside:
        all_near, distance = _Found(*map(np.concatenate, zip(*beside, strict=True))), np.concatenate(far)
        left = np.flatnonzero(owner[all_near.texel] < 0)
        put(all_near.some(left[np.lexsort((left, distance[left], all_near.texel[left]))[::-1]]))
    texels = np.flatnonzero(owner >= 0)
    v, w = inside[texels].T
    weights = np.maximum(np.stack([1.0 - v - w, v, w], axis=1), 0.0)
    weights /= weights.sum(axis=1, keepdims=True)
    return owner[texels], weights.astype(np.float32), texels.astype(np.int32)
