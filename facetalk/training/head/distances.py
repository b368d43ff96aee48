"""Signed distances of a morphable head of any identities, measured where a network learns them.

They are those of :meth:`facetalk.data.heads.ict.MorphableHead.signed_distance`, found in another way: of
every part, the triangles around the vertex that is nearest to a point are looked at, and their side is its
sign. So heads without end can be measured, a new one in every row of every step, where libigl takes minutes
for a hundred of them. Far behind the lips, where sheets cross and are open, sides say too little; such
places are told, and left to distances of libigl's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facetalk.arrays import Int64
from facetalk.data.heads.ict import MorphableHead, Solid
from facetalk.data.heads.samples import SurfaceSampler
from facetalk.nphm.head.parts import Part
from facetalk.units import HEAD_UNIT_MM

__all__ = ["STEP", "DistanceSource", "Distances"]

# Standard deviations of how far points lie off the surface (0.3, 1, 3 and 10 mm), and their shares.
_SIGMAS, _SHARES = (0.0012, 0.004, 0.012, 0.04), (0.45, 0.28, 0.17, 0.10)
STEP = 0.8 / HEAD_UNIT_MM
"""From a point to its partner: short enough to tell slopes, and long enough to tell them from rounding."""
_CUT, _ANYWHERE = 0.05, 0.10
"""Shares of points on the neck's cut, and anywhere around the head."""
_BELOW = 0.12
"""Vertices farther below the neck's cut are left out; nothing of the surface is there."""
_DEEPEST = 7.5 / HEAD_UNIT_MM
"""Depth inside gums, tongue and teeth from which an open sheet may have been seen from behind."""
_DOUBT = 0.5 / HEAD_UNIT_MM
"""How much farther than the surface places that are never in sight have to be, to make no difference."""
_FRONT = 0.4
"""Closeness to the lips from which what lies in the mouth is measured to."""
_RING = 14
"""Triangles around a vertex that are looked at; more meet only at poles."""
_TIE, _TOUCH = 1e-3, 1e-10
"""Triangles as near as the nearest one, but for rounding: those that share the nearest edge or corner."""


@dataclass(frozen=True)
class Distances:
    """R heads with N points each; the second half of the points are partners of the first half.

    Attributes:
        points: (R, N, 3) around the canonical heads.
        distances: (R, N) signed, head units, negative inside.
        known: (R, N) 1 where they can be relied on, 0 in the depth of the mouth.
    """

    points: Tensor
    distances: Tensor
    known: Tensor


class DistanceSource:
    """Draws points around canonical heads of any identities, and measures their distances.

    Args:
        head: the morphable head.
        sampler: of its surface.
        device: where that is done.
        pool: surface points to pick from.
        seed: of the pool.
    """

    def __init__(
        self,
        head: MorphableHead,
        sampler: SurfaceSampler,
        *,
        device: torch.device | str = "cpu",
        pool: int = 1 << 19,
        seed: int = 0,
    ) -> None:
        def placed(values: Any) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(values)).to(device)

        shape = head.canonical()
        above = (shape - head.neck_point) @ head.neck_normal > -_BELOW
        seen = ~_hidden(head, sampler)
        number = np.full(len(shape), -1, np.int64)
        places, self._solids = [], list[_Solid]()
        known = 0
        for solid in head.solids:
            faces = _own(head, solid)
            faces = faces[above[faces].all(1)]
            used = np.unique(faces)
            number[used] = known + np.arange(len(used))
            span = slice(known, known + len(used))
            reach = torch.inf if solid.name in ("skin", "sclera_left", "sclera_right") else _DEEPEST
            self._solids.append(_Solid(span, placed(_rings(number[faces], span)), placed(seen[used]), reach))
            places.append(used)
            known = span.stop
        chosen = np.concatenate(places)
        self._shape = placed(shape[chosen])
        self._basis = placed(head.identity_basis[:, chosen].reshape(head.identity_dim, -1))
        points = sampler.draw(pool, np.random.default_rng(seed))
        fits = (number[points.corners] >= 0).all(1)
        self._corners, self._share = placed(number[points.corners[fits]]), placed(points.weights[fits])
        self.part = placed(points.part[fits].astype(np.int64))
        self.lips, self.lids = (
            placed(points.of(v)[fits].astype(np.float32)) for v in (sampler.lips, sampler.lids)
        )
        eyes = np.concatenate([np.zeros((1, head.identity_dim)), 0.5 * np.eye(head.identity_dim)])
        fitted = [
            [np.column_stack(head.eyeballs(head.canonical(sign * row.astype(np.float32)))) for row in eyes]
            for sign in (1, -1)
        ]
        self._eyes = placed(np.float32(fitted[0][0]))
        self._eyes_basis = placed(np.float32(np.stack(fitted[0][1:]) - np.stack(fitted[1][1:])))
        self._neck_point, self._neck_normal = placed(head.neck_point), placed(head.neck_normal)
        self._sigmas = placed(np.array(_SIGMAS, np.float32))
        self._steps = placed(np.cumsum(np.array(_SHARES, np.float32))[:-1])
        skin = shape[head.vertex_part == Part.SKIN]
        low, high = skin.min(0) - 0.1, shape.max(0) + 0.1
        low[1] = max(low[1], head.neck_point[1] - 0.15)
        self._low, self._size = placed(np.float32(low)), placed(np.float32(high - low))

    def vertices(self, coefficients: Tensor) -> Tensor:
        """(R, C, 3) vertices that are measured to, of identities (R, I)."""
        return self._shape + (coefficients @ self._basis).unflatten(1, (-1, 3))

    def surface(self, chosen: Tensor, vertices: Tensor) -> Tensor:
        """(R, N, 3) points ``chosen`` (R, N) of the pool on heads with vertices (R, C, 3)."""
        corners = self._corners[chosen]  # (R, N, 3)
        row = torch.arange(len(vertices), device=vertices.device)[:, None, None]
        return (vertices[row, corners] * self._share[chosen][..., None]).sum(-2)

    def draw(self, coefficients: Tensor, count: int, generator: torch.Generator) -> Distances:
        """Points around the heads of coefficients (R, I), half of them near a partner.

        Args:
            coefficients: of identity, on the device.
            count: points a row, an even number.
            generator: what they are drawn by.
        """
        rows, half, device = len(coefficients), count // 2, coefficients.device
        cut, anywhere = round(_CUT * half), round(_ANYWHERE * half)
        near = half - cut - anywhere

        def uniform(*size: int) -> Tensor:
            return torch.rand(*size, generator=generator, device=device)

        def normal(*size: int) -> Tensor:
            return torch.randn(*size, generator=generator, device=device)

        vertices = self.vertices(coefficients)
        chosen = torch.randint(len(self._corners), (rows, near), generator=generator, device=device)
        sigma = self._sigmas[torch.bucketize(uniform(rows, near), self._steps)]
        blocks = [self.surface(chosen, vertices) + sigma[..., None] * normal(rows, near, 3) / 1.5**0.5]
        disc = uniform(rows, cut, 3) * disc_size(device) + disc_low(device)
        level = (disc - self._neck_point) @ self._neck_normal
        disc[..., 1] -= level / self._neck_normal[1]
        blocks.append(disc + 0.01 * normal(rows, cut, 1) * self._neck_normal)
        blocks.append(self._low + self._size * uniform(rows, anywhere, 3))
        first = torch.cat(blocks, dim=1)
        aside = torch.nn.functional.normalize(normal(rows, half, 3), dim=-1)
        points = torch.cat([first, first + STEP * aside], dim=1)
        return Distances(points, *self.measure(points, coefficients, vertices))

    def measure(
        self, points: Tensor, coefficients: Tensor, vertices: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Signed distances (R, N) of points (R, N, 3) to the heads of coefficients (R, I), cut at the neck.

        Returns:
            The distances, and 1 where they can be relied on, 0 elsewhere.
        """
        vertices = self.vertices(coefficients) if vertices is None else vertices
        flat = vertices.flatten(0, 1)
        first = (torch.arange(len(vertices), device=vertices.device) * vertices.shape[1])[:, None, None, None]
        result = torch.full_like(points[..., 0], torch.inf)
        doubtful = torch.full_like(result, torch.inf)
        skin = result
        for solid in self._solids:
            nearest = _nearest(points, vertices[:, solid.span])
            value = _to_triangles(points, flat[solid.rings[nearest] + first])  # of (R, N, ring, corner, 3)
            doubt = ~solid.seen[nearest]
            if solid.reach < torch.inf:
                deep = value < -solid.reach
                value = torch.where(doubt | deep, value.abs(), value)
                # Behind the skin's own surface it makes no difference.
                doubt |= deep & (skin > 0)
            else:
                skin = value if solid is self._solids[0] else skin
            doubtful = torch.minimum(doubtful, torch.where(doubt, value.abs(), torch.inf))
            result = torch.minimum(result, value)
        eyes = self._eyes + torch.tensordot(coefficients, self._eyes_basis, 1)  # (R, 2, 4)
        for side in range(2):
            offset, radius = points - eyes[:, side, None, :3], eyes[:, side, None, 3]
            ball = torch.linalg.vector_norm(offset, dim=-1) - 1.08 * radius
            result = torch.minimum(result, torch.maximum(ball, offset[..., 2] - 0.2 * radius))
        known = doubtful > result.abs() + _DOUBT
        return torch.maximum(result, (self._neck_point - points) @ self._neck_normal), known.to(result)


def disc_low(device: torch.device) -> Tensor:
    """Corner of the rectangle that the neck's cut lies in."""
    return torch.tensor([-0.4, 0.0, -0.65], device=device)


def disc_size(device: torch.device) -> Tensor:
    """Its size."""
    return torch.tensor([0.8, 0.0, 0.9], device=device)


@dataclass(frozen=True)
class _Solid:
    """A part: which of the vertices are its own, the triangles around each, which are ever in sight, and how
    deep its inside is at most."""

    span: slice
    rings: Tensor
    seen: Tensor
    reach: float


def _hidden(head: MorphableHead, sampler: SurfaceSampler) -> NDArray[np.bool_]:
    """(V,) vertices of the mouth that are never in sight, or far behind the lips, where sheets cross."""
    seen = np.zeros(len(head.neutral), bool)
    seen[head.faces[(head.visibility & 6) > 0]] = True
    behind = np.zeros(len(seen), bool)
    for name in ("mouth_socket", "gums_and_tongue"):
        behind[head.part_vertices(name)] = True
    teeth = np.zeros(len(seen), bool)
    teeth[head.part_vertices("teeth")] = True
    return (behind & ~(seen & (sampler.lips > _FRONT))) | (teeth & ~seen)


def _own(head: MorphableHead, solid: Solid) -> Int64:
    """Triangles of a part without the caps that close it."""
    corners = np.sort(solid.faces, axis=1) @ np.array([1, len(head.neutral), len(head.neutral) ** 2])
    known = np.sort(head.faces, axis=1) @ np.array([1, len(head.neutral), len(head.neutral) ** 2])
    return solid.faces[np.isin(corners, known)]


def _rings(faces: Int64, span: slice) -> Int64:
    """(V, ring, 3) corners of the triangles around each vertex of ``span``, the first one repeated."""
    count = span.stop - span.start
    corner = faces.flatten() - span.start
    order = np.argsort(corner, kind="stable")
    owner, triangle = corner[order], order // 3
    start = np.searchsorted(owner, np.arange(count))
    size = np.searchsorted(owner, np.arange(count), side="right") - start
    width = min(int(size.max()), _RING)
    slot = np.minimum(np.arange(width)[None], size[:, None] - 1)
    return faces[triangle[start[:, None] + slot]]


def _nearest(points: Tensor, vertices: Tensor) -> Tensor:
    """(R, N) the nearest of vertices (R, C, 3) to each point (R, N, 3)."""
    squares = vertices.square().sum(-1)[:, None]
    return torch.baddbmm(squares, points, vertices.mT, alpha=-2.0).argmin(-1)


def _to_triangles(points: Tensor, corners: Tensor) -> Tensor:
    """Signed distance (R, N) to the nearest of triangles (R, N, M, 3, 3), negative behind it.

    Where triangles share what is nearest, an edge or a corner, that one has the say which faces the point
    most; with the side of any other one, folds would cast wedges of the wrong sign.
    """
    a, b, c = corners.unbind(-2)
    p = points[..., None, :]
    normal = torch.linalg.cross(b - a, c - a)
    unit = torch.nn.functional.normalize(normal, dim=-1, eps=1e-20)
    height = ((p - a) * unit).sum(-1)
    inside = torch.ones_like(height, dtype=torch.bool)
    square = torch.full_like(height, torch.inf)
    for start, end in ((a, b), (b, c), (c, a)):
        edge, arm = end - start, p - start
        inside &= (torch.linalg.cross(normal, edge) * arm).sum(-1) >= 0
        along = (edge * arm).sum(-1) / edge.square().sum(-1).clamp_min(1e-20)
        square = torch.minimum(square, (arm - along.clamp(0.0, 1.0)[..., None] * edge).square().sum(-1))
    square = torch.where(inside, height.square(), square)
    least = square.amin(-1, keepdim=True)
    tied = square <= least * (1.0 + _TIE) + _TOUCH
    faced = torch.where(tied, height.abs(), -1.0).argmax(-1, keepdim=True)
    return least[..., 0].sqrt() * torch.where(height.gather(-1, faced)[..., 0] < 0, -1.0, 1.0)
