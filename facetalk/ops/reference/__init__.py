"""Each compiled operation again, in slow and obvious torch or NumPy: the standard that every backend is
tested against.

The field's twin is long and lives in `facetalk.ops.reference.field`; its names are here too.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from torch import Tensor

from facetalk.ops.reference.field import field, field_offsets

__all__ = ["field", "field_offsets", "masked_cross_attention", "surface_loops", "vertex_normals"]


def masked_cross_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    window: tuple[int | None, int | None] = (0, 0),
    scale: float | None = None,
) -> Tensor:
    """Attention with the whole (N, M) mask written out; arguments as in `ops.masked_cross_attention`."""
    left, right = window
    rows, keys, depth = query.shape[2], key.shape[2], query.shape[3]
    i = torch.arange(rows, device=query.device)[:, None]
    j = torch.arange(keys, device=query.device)[None]
    seen = torch.ones(rows, keys, dtype=torch.bool, device=query.device)
    if left is not None:
        seen &= j >= i - left
    if right is not None:
        seen &= j <= i + right
    scores = query @ key.transpose(-1, -2) * (1.0 / math.sqrt(depth) if scale is None else scale)
    weights = torch.where(seen, scores.masked_fill(~seen, -math.inf).softmax(dim=-1), 0.0)
    return (
        torch.nan_to_num(weights, nan=0.0) @ value
    )  # rows that see nothing: softmax of no terms is NaN, say 0


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Area-weighted vertex normals, face by face; arguments as in `ops.vertex_normals`, result float64."""
    points = vertices.double()
    total = torch.zeros_like(points)
    for face in faces.long():
        a, b, c = (points[..., corner, :] for corner in face)
        normal = torch.linalg.cross(b - a, c - a)
        for corner in face:
            total[..., corner, :] += normal
    length = total.norm(dim=-1, keepdim=True)
    return torch.where(length > 0, total / length, 0.0)


Edge = tuple[tuple[int, ...], int]
"""A grid edge: the sample where it starts, and the axis (0, 1, 2) along which it runs."""


def surface_loops(volume: np.ndarray, level: float = 0.0) -> tuple[dict[Edge, np.ndarray], list[list[Edge]]]:
    """Marching cubes without triangles: the cut edges and, cell by cell, the closed loops of the surface.

    A loop turns counter-clockwise seen from outside. Faces with alternating corner signs are cut by the
    asymptotic decider (Nielson and Hamann, IEEE Visualization 1991): the two inside corners are connected
    when the saddle of the face's bilinear interpolant is inside.

    Args:
        volume: (nx, ny, nz) samples; inside is below the level.
        level: the value on the surface.

    Returns:
        Position (3,) in index coordinates of each cut edge, and the loops as lists of cut edges.
    """
    values = volume.astype(np.float64) - level
    inside = values < 0
    points: dict[Edge, np.ndarray] = {}
    for index in itertools.product(*map(range, volume.shape)):
        for axis in range(3):
            other = tuple(n + (d == axis) for d, n in enumerate(index))
            if other[axis] < volume.shape[axis] and inside[index] != inside[other]:
                t = values[index] / (values[index] - values[other])
                points[index, axis] = np.asarray(index, float) + t * np.eye(3)[axis]
    loops = []
    for cell in itertools.product(*(range(n - 1) for n in volume.shape)):
        follow: dict[Edge, Edge] = {}
        for axis, side in itertools.product(range(3), (0, 1)):
            follow.update(_cut_face(values, inside, cell, axis, side))
        while follow:
            loop = [next(iter(follow))]
            while (after := follow.pop(loop[-1])) != loop[0]:
                loop.append(after)
            loops.append(loop)
    return points, loops


def _cut_face(
    values: np.ndarray, inside: np.ndarray, cell: tuple[int, ...], axis: int, side: int
) -> dict[Edge, Edge]:
    """Segments of one face of a cell, from where the rim enters the inside to where it leaves it."""
    u, v = (axis + 1) % 3, (axis + 2) % 3
    ring = []
    for a, b in ((0, 0), (1, 0), (1, 1), (0, 1)):
        corner = list(cell)
        corner[axis] += side
        corner[u] += a
        corner[v] += b
        ring.append(tuple(corner))
    if side == 0:
        ring.reverse()  # counter-clockwise seen from outside the cell
    entries: list[tuple[int, Edge]] = []
    exits: list[tuple[int, Edge]] = []
    for at in range(4):
        here, there = ring[at], ring[(at + 1) % 4]
        if inside[here] == inside[there]:
            continue
        start = min(here, there)
        direction = next(d for d in range(3) if here[d] != there[d])
        (exits if inside[here] else entries).append((at, (start, direction)))
    if len(entries) == 2:
        a, b, c, d = (values[corner] for corner in ring)
        saddle = (a * c - b * d) / (a + c - b - d)
        # Connected: each segment goes round the outside corner before the entry.
        step = -1 if saddle < 0 else 1
    else:
        step = 1
    segments = {}
    for at, entry in entries:
        wanted = ((at + step * n) % 4 for n in range(1, 4))
        found = dict(exits)
        segments[entry] = next(found[n] for n in wanted if n in found)
    return segments
