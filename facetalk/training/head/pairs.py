"""Pairs of posed and canonical points of a morphable head, which its deformations are taught and judged by.

Correspondences are exact: both ends of a pair are the same point of a triangle, moved off it by the same
amount along the triangle's own normals. They are drawn on the device of the network that learns from them,
without a look at a value in between, which is what a GPU would have to wait for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facetalk.arrays import Float32
from facetalk.data.heads.ict import MorphableHead
from facetalk.data.heads.samples import SurfaceSampler, speech_expressions
from facetalk.nphm.head.parts import Part
from facetalk.units import HEAD_UNIT_MM

__all__ = ["PairSource", "Pairs", "closing_expressions", "hidden_places", "strays", "visible_points"]

_ON_SURFACE = 1.0 / HEAD_UNIT_MM
"""Pairs no farther off the surface than this are what the figures of a training are about."""
# Standard deviations of how far pairs lie off the surface (0.2, 1, 3 mm, 20 mm outside, 12 mm inside), and
# their shares. Deep places show only when they are mapped outside, and then as holes.
_SIGMAS, _SHARES = (0.0008, 0.004, 0.012, 0.08, -0.05), (0.35, 0.22, 0.15, 0.13, 0.15)
_TIGHT = 0.55
"""Closeness to lips and lids from which vertices stand for the sheet that they belong to."""
_STRAYED = 3.0 / HEAD_UNIT_MM
"""A point whose nearest posed vertex lies this far from it on the canonical head is another sheet's."""
_BESIDE = 1.5 / HEAD_UNIT_MM
"""How much farther than the point's own sheet that vertex may be; vertices at lips are about as far apart."""
_GROUP = 4
"""Rows that share their triangles, whose displacements are what takes time to fetch."""
_POOL = 1 << 19
"""Surface points that are drawn once, to be picked from: ten a triangle, most of them at lips and lids."""


def hidden_places(head: MorphableHead) -> Float32:
    """(V,) 1 inside the eye sockets, 0.5 inside the mouth, 0 on the outside."""
    place = np.zeros(len(head.neutral), np.float32)
    for name in ("eye_socket_left", "eye_socket_right"):
        place[head.part_vertices(name)] = 1.0
    for name in ("mouth_socket", "gums_and_tongue", "teeth"):
        place[head.part_vertices(name)] = 0.5
    return place


def visible_points(points: Tensor, part: Tensor, place: Tensor, close: Tensor, landmarks: Tensor) -> Tensor:
    """Which posed points can be seen from the front between lids and lips; all of the outside can.

    Args:
        points: (R, N, 3) posed.
        part: (R, N) moving part.
        place: (R, N) ``hidden_places`` at the points.
        close: (R, N) closeness to lips and lids; the lips' inner edge always counts.
        landmarks: (R, 68, 3) posed.

    Returns:
        (R, N) bool.
    """
    x, y = points[..., 0].contiguous(), points[..., 1]

    def between(first: int, last: int, end: int, margin: float) -> Tensor:
        # Marks run along the upper line from one corner to the other, and back along the lower one.
        upper = landmarks[:, first : last + 1]
        lower = torch.cat([landmarks[:, first : first + 1], landmarks[:, last:end]], dim=1)
        top, bottom = _height(upper, x), _height(lower, x)
        marks = landmarks[:, first:end, 0]
        across = (x > marks.amin(1, keepdim=True)) & (x < marks.amax(1, keepdim=True))
        return across & (top - bottom > margin) & (y < top + margin) & (y > bottom - margin)

    eyes = between(36, 39, 42, 0.002) | between(42, 45, 48, 0.002)
    inside = between(60, 64, 68, 0.006) | ((close > 0.8) & (part == Part.SKIN))
    seen = torch.where(part == Part.EYEBALLS, eyes, place < 0.25)
    return torch.where((place >= 0.25) & (place < 0.75), inside, seen)


def _height(line: Tensor, x: Tensor) -> Tensor:
    """(R, N) heights at ``x`` (R, N) of lines through points (R, K, 3), level beyond their ends."""
    across, order = line[..., 0].sort(dim=1)
    up = line[..., 1].gather(1, order)
    after = torch.searchsorted(across, x).clamp(1, line.shape[1] - 1)
    x0, x1 = across.gather(1, after - 1), across.gather(1, after)
    y0, y1 = up.gather(1, after - 1), up.gather(1, after)
    return torch.lerp(y0, y1, ((x - x0) / (x1 - x0).clamp_min(1e-12)).clamp(0.0, 1.0))


def closing_expressions(head: MorphableHead, count: int, rng: np.random.Generator) -> Float32:
    """(count, E) expression weights: as speech has them, and every third about to close lips and lids.

    Those go through what lips do around m, b, p and f, from a little apart to pressed, and through every
    depth of a blink.
    """
    names = head.expression_names
    out = speech_expressions(head, count, rng)

    def add(row: Float32, name: str, value: float) -> None:
        found = [i for i, known in enumerate(names) if known in (name, name + "_L", name + "_R")]
        row[found] = value

    for row in out[::3]:
        jaw = 0.35 * rng.random() ** 2
        add(row, "jawOpen", jaw)
        add(row, "mouthClose", (0.02 + 0.85 * jaw) * rng.uniform(0.6, 1.05))
        for name in rng.permutation(_CLOSING)[: rng.integers(0, 3)]:
            add(row, str(name), 0.7 * rng.random())
        if rng.random() < 0.7:
            add(row, "eyeBlink", rng.choice([rng.random(), 1.0 - 0.2 * rng.random()]))
    return out


_CLOSING = np.array(
    ["mouthPress", "mouthPucker", "mouthFunnel", "mouthRollLower", "mouthRollUpper", "mouthSmile",
     "mouthStretch", "mouthShrugLower", "mouthLowerDown", "mouthUpperUp"]
)  # fmt: skip


@dataclass(frozen=True)
class Pairs:
    """R rows (a head with an expression) of N pairs, on one device.

    Attributes:
        rest: (R, N, 3) canonical ends.
        posed: (R, N, 3) posed ends.
        lips: (R, N) closeness to the lips, 1 at their inner line.
        lids: (R, N) closeness to the lids' margins.
        inner: (R, N) bool, beside the lips' line on the mouth's side: their own skin, teeth, gums.
        off: (R, N) how far they lie off the surface, head units, positive outside.
        counts: (R, N) 1 where a pair is taught: in sight, and not in another sheet's place.
        surface: (R, N) bool, taught pairs within a millimetre of the surface.
    """

    rest: Tensor
    posed: Tensor
    lips: Tensor
    lids: Tensor
    inner: Tensor
    off: Tensor
    counts: Tensor
    surface: Tensor

    @property
    def close(self) -> Tensor:
        """(R, N) closeness to lips or lids."""
        return torch.maximum(self.lips, self.lids)


class PairSource:
    """Draws pairs of any identities and expressions.

    Args:
        head: the morphable head.
        sampler: of its surface.
        device: where pairs are drawn.
        pool: surface points to pick from.
        seed: of the pool.
    """

    def __init__(
        self,
        head: MorphableHead,
        sampler: SurfaceSampler,
        *,
        device: torch.device | str = "cpu",
        pool: int = _POOL,
        seed: int = 0,
    ) -> None:
        def placed(values: Any) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(values)).to(device)

        self._identity_dim = head.identity_dim
        bases = np.concatenate([head.identity_basis, head.expression_basis]).transpose(
            1, 2, 0
        )  # (V, 3, I + E)
        self._shape, self._bases = placed(head.canonical()), placed(bases.reshape(len(bases), -1))
        self._canonical = placed(head.canonical_expression)
        points = sampler.draw(pool, np.random.default_rng(seed))
        self._corners, self._share, self._part = map(placed, (points.corners, points.weights, points.part))
        self._lips, self._lids = placed(points.of(sampler.lips)), placed(points.of(sampler.lids))
        self._place = placed(points.of(hidden_places(head)))
        self._sigmas = placed(np.array(_SIGMAS, np.float32))
        self._steps = placed(np.cumsum(np.array(_SHARES, np.float32))[:-1])
        tight = (np.maximum(sampler.lips, sampler.lids) > _TIGHT) & (head.vertex_part == Part.SKIN)
        sheet = np.flatnonzero(tight)
        self._known = len(sheet)
        marked = np.concatenate([sheet, head.landmark_ids])
        self._marked = placed(bases[marked].reshape(-1, bases.shape[-1]).T)
        self._marked_shape = placed(head.canonical()[marked])

    def draw(self, coefficients: Tensor, weights: Tensor, count: int, generator: torch.Generator) -> Pairs:
        """``count`` pairs of every row; all arguments are on the device.

        Args:
            coefficients: (R, I) of identity.
            weights: (R, E) of expression.
            count: pairs a row.
            generator: what they are drawn by.
        """
        rows, device = len(coefficients), coefficients.device
        groups = -(-rows // _GROUP)
        chosen = torch.randint(len(self._corners), (groups, count), generator=generator, device=device)
        uniform = torch.rand(rows, count, generator=generator, device=device)
        normal = torch.randn(rows, count, generator=generator, device=device)
        sigma = self._sigmas[torch.bucketize(uniform, self._steps)]
        # The widest ones go to one side only.
        off = torch.where(sigma.abs() > 0.03, sigma * normal.abs(), sigma * normal)
        return self.at(chosen, off, coefficients, weights)

    def at(self, chosen: Tensor, off: Tensor, coefficients: Tensor, weights: Tensor) -> Pairs:
        """Pairs of named points of the pool.

        Args:
            chosen: (G, N) int64, points of each group of four rows.
            off: (R, N) how far the pairs lie off the surface, head units.
            coefficients: (R, I) of identity.
            weights: (R, E) of expression.
        """
        (groups, count), rows, identity = chosen.shape, len(coefficients), self._identity_dim
        codes = torch.cat([coefficients, weights - self._canonical], dim=1)
        grouped = torch.nn.functional.pad(codes, (0, 0, 0, groups * _GROUP - rows)).unflatten(
            0, (groups, _GROUP)
        )
        corners = self._corners[chosen].flatten()
        moves = self._bases.index_select(0, corners).reshape(groups, 9 * count, -1)
        triangles = (groups, _GROUP, count, 3, 3)
        rest = (grouped[..., :identity] @ moves[..., :identity].mT).reshape(triangles)
        rest += self._shape.index_select(0, corners).reshape(groups, 1, count, 3, 3)
        posed = rest + (grouped[..., identity:] @ moves[..., identity:].mT).reshape(triangles)
        share = self._share[chosen][:, None, ..., None]
        feet, ends = [], []
        for corner in (rest, posed):
            normal = torch.linalg.cross(
                corner[..., 1, :] - corner[..., 0, :], corner[..., 2, :] - corner[..., 0, :]
            )
            normal = torch.nn.functional.normalize(normal, dim=-1, eps=1e-12).flatten(0, 1)[:rows]
            feet.append((share * corner).sum(-2).flatten(0, 1)[:rows])
            ends.append(feet[-1] + off[..., None] * normal)

        def of_rows(values: Tensor) -> Tensor:
            return values[chosen].repeat_interleave(_GROUP, dim=0)[:rows]

        lips, lids, place, part = map(of_rows, (self._lips, self._lids, self._place, self._part))
        close = torch.maximum(lips, lids)
        at_rest = self._marked_shape + (codes[:, :identity] @ self._marked[:identity]).unflatten(1, (-1, 3))
        at_work = at_rest + (codes[:, identity:] @ self._marked[identity:]).unflatten(1, (-1, 3))
        seen = visible_points(ends[1], part, place, close, at_work[:, self._known :])
        # What lies behind closed lids or lips is not taught: there one place would have to go to two, an
        # eyeball that stays and a lid that has come down on it. Nor is a point off one lip that lies in the
        # other one.
        asked = seen & (close > _TIGHT) & (off > 0) & (part == Part.SKIN)
        strayed = strays(
            ends[1], feet[0], off, asked, at_work[:, : self._known], at_rest[:, : self._known],
            everywhere=off.is_cuda,
        )  # fmt: skip
        taught = seen & ~strayed
        inner = (place >= 0.25) & (lips > _TIGHT)
        surface = (off.abs() < _ON_SURFACE) & taught
        return Pairs(ends[0], ends[1], lips, lids, inner, off, taught.float(), surface)


def strays(
    posed: Tensor,
    foot: Tensor,
    off: Tensor,
    asked: Tensor,
    at_work: Tensor,
    at_rest: Tensor,
    *,
    everywhere: bool = False,
) -> Tensor:
    """Which points off one sheet lie in another one.

    Args:
        posed: (R, N, 3) points.
        foot: (R, N, 3) canonical places on the surface that they belong to.
        off: (R, N) how far they lie off it.
        asked: (R, N) bool, for which points that is asked.
        at_work: (R, K, 3) posed vertices that stand for the sheets.
        at_rest: (R, K, 3) the same on the canonical head.
        everywhere: look at all points, asked or not, which a GPU does in less time than it would take to
            know how many are asked.

    Returns:
        (R, N) bool; False where it was not asked.
    """
    order = None
    if not everywhere:
        most = int(asked.sum(1).max())
        if not most:
            return asked
        order = asked.byte().argsort(dim=1, descending=True, stable=True)[:, :most]
        posed, foot = (v.gather(1, order[..., None].expand(-1, -1, 3)) for v in (posed, foot))
        off = off.gather(1, order)
    # Squared distances less the points' own squares; from a centre near by, so that single precision does.
    centre = at_work.mean(1, keepdim=True)
    at_work, posed = at_work - centre, posed - centre
    squares = at_work.square().sum(-1)[:, None]
    nearest = torch.baddbmm(squares, posed, at_work.mT, alpha=-2.0).argmin(-1)[..., None].expand(-1, -1, 3)
    gap = torch.linalg.vector_norm(at_work.gather(1, nearest) - posed, dim=-1)
    apart = torch.linalg.vector_norm(at_rest.gather(1, nearest) - foot, dim=-1)
    found = (apart > _STRAYED + 2.0 * off) & (gap < _BESIDE + off)
    if order is not None:
        found = torch.zeros_like(asked).scatter(1, order, found)
    return asked & found
