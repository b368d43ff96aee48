"""Pairs of posed and canonical points of a morphable head, which its deformations are taught and judged by.

Correspondences are exact: both ends of a pair are the same point of a triangle, moved off it by the same
amount along the triangle's own normals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from facetalk.arrays import AnyFloat, Bool, Float32, UInt8
from facetalk.data.heads.ict import MorphableHead
from facetalk.data.heads.samples import SurfaceSampler, speech_expressions
from facetalk.nphm.head.parts import Part
from facetalk.units import HEAD_UNIT_MM

__all__ = ["PairSource", "Pairs", "closing_expressions", "hidden_places", "visible_points"]

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
"""Rows that share their triangles."""


def hidden_places(head: MorphableHead) -> Float32:
    """(V,) 1 inside the eye sockets, 0.5 inside the mouth, 0 on the outside."""
    place = np.zeros(len(head.neutral), np.float32)
    for name in ("eye_socket_left", "eye_socket_right"):
        place[head.part_vertices(name)] = 1.0
    for name in ("mouth_socket", "gums_and_tongue", "teeth"):
        place[head.part_vertices(name)] = 0.5
    return place


def visible_points(
    points: AnyFloat,
    part: UInt8,
    place: AnyFloat,
    close: AnyFloat,
    landmarks: AnyFloat,
) -> Bool:
    """Which posed points can be seen from the front between lids and lips; all of the outside can.

    Args:
        points: (N, 3) posed.
        part: (N,) moving part.
        place: (N,) ``hidden_places`` at the points.
        close: (N,) closeness to lips and lids; the lips' inner edge always counts.
        landmarks: (68, 3) posed.
    """

    def between(upper: list[int], lower: list[int], margin: float) -> Bool:
        bounds = []
        for ids in (upper, lower):
            line = landmarks[ids][np.argsort(landmarks[ids, 0])]
            bounds.append(np.interp(points[:, 0], line[:, 0], line[:, 1]))
        x = landmarks[[*upper, *lower], 0]
        across = (points[:, 0] > x.min()) & (points[:, 0] < x.max())
        opened = bounds[0] - bounds[1] > margin
        return across & opened & (points[:, 1] < bounds[0] + margin) & (points[:, 1] > bounds[1] - margin)

    seen = place < 0.25
    eyes = between([36, 37, 38, 39], [36, 41, 40, 39], 0.002)
    eyes |= between([42, 43, 44, 45], [42, 47, 46, 45], 0.002)
    seen[part == Part.EYEBALLS] = eyes[part == Part.EYEBALLS]
    mouth = (place >= 0.25) & (place < 0.75)
    inside = between([60, 61, 62, 63, 64], [60, 67, 66, 65, 64], 0.006)
    seen[mouth] = (inside | ((close > 0.8) & (part == Part.SKIN)))[mouth]
    return seen


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
    """R rows (a head with an expression) of N pairs, float32.

    Attributes:
        rest: (R, N, 3) canonical ends.
        posed: (R, N, 3) posed ends.
        close: (R, N) closeness to lips and lids, 1 at their edges.
        counts: (R, N) 1 where a pair is taught: in sight, and not in another sheet's place.
        surface: (R, N) bool, taught pairs within a millimetre of the surface.
    """

    rest: Float32
    posed: Float32
    close: Float32
    counts: Float32
    surface: Bool


class PairSource:
    """Draws pairs of any identities and expressions.

    Args:
        head: the morphable head.
        sampler: of its surface.
    """

    def __init__(self, head: MorphableHead, sampler: SurfaceSampler) -> None:
        self._head, self._sampler = head, sampler
        self._shape = head.canonical()
        bases = np.concatenate([head.identity_basis, head.expression_basis])
        self._bases = np.ascontiguousarray(bases.transpose(1, 2, 0))  # (V, 3, I + E)
        self._closeness = np.maximum(sampler.lips, sampler.lids)
        self._hidden = hidden_places(head)
        tight = (self._closeness > _TIGHT) & (head.vertex_part == Part.SKIN)
        self._sheet = np.flatnonzero(tight)
        marked = np.concatenate([self._sheet, head.landmark_ids])
        self._marked = np.ascontiguousarray(self._bases[marked].reshape(-1, len(bases)).T)
        self._marked_shape = self._shape[marked]

    def draw(self, coefficients: Float32, weights: Float32, count: int, rng: np.random.Generator) -> Pairs:
        """``count`` pairs of every row.

        Args:
            coefficients: (R, I) of identity.
            weights: (R, E) of expression.
            count: pairs a row.
            rng: what they are drawn by.
        """
        rows = len(coefficients)
        identity = coefficients.shape[1]
        motion = (weights - self._head.canonical_expression).astype(np.float32)
        # Rows of a group share triangles, whose displacements are what takes time to fetch.
        groups = [slice(first, min(first + _GROUP, rows)) for first in range(0, rows, _GROUP)]
        points = self._sampler.draw(len(groups) * count, rng)
        chosen = points.corners.reshape(len(groups), 3 * count)
        rest, posed = np.empty((2, rows, 3 * count, 3), np.float32)
        for corners, group in zip(chosen, groups, strict=True):
            basis, start = self._bases[corners].reshape(9 * count, -1), self._shape[corners]
            for end, code in ((rest, coefficients), (posed, motion)):
                moves = basis[:, :identity] if end is rest else basis[:, identity:]
                end[group] = (code[group] @ moves.T).reshape(-1, 3 * count, 3)
            rest[group] += start
        posed += rest
        points = points.repeated(
            np.repeat(np.arange(len(groups)), [len(range(rows)[g]) for g in groups]), count
        )
        sigma = rng.choice(_SIGMAS, rows * count, p=_SHARES)
        drawn = sigma * rng.standard_normal(rows * count)
        drawn = np.where(np.abs(sigma) > 0.03, np.sign(sigma) * np.abs(drawn), drawn)
        off: Float32 = drawn[:, None].astype(np.float32)
        ends: list[Float32] = []
        feet: list[Float32] = []
        for end in (rest, posed):
            corner = end.reshape(-1, 3, 3)
            normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
            normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
            feet.append(np.einsum("nc,ncx->nx", points.weights, corner))
            ends.append((feet[-1] + off * normal).astype(np.float32).reshape(rows, count, 3))
        close, place = (points.of(v).reshape(rows, count) for v in (self._closeness, self._hidden))
        part, off = points.part.reshape(rows, count), off.reshape(rows, count)
        counts = self._counts(
            ends[1], feet[0].reshape(rows, count, 3), off, part, place, close, coefficients, motion
        )
        surface = (np.abs(off) < _ON_SURFACE) & (counts > 0)
        return Pairs(ends[0], ends[1], close, counts, surface)

    def _counts(
        self, posed: Float32, foot: Float32, off: Float32, part: NDArray[Any], place: Float32, close: Float32,
        coefficients: Float32, motion: Float32,
    ) -> Float32:  # fmt: skip
        """(R, N) 1 for pairs that are taught.

        What lies behind closed lids or lips is not: there one place would have to go to two, an eyeball that
        stays and a lid that has come down on it. Nor is a point off one lip that lies in the other one.
        """
        rows, known = len(posed), len(self._sheet)
        out = np.empty(posed.shape[:2], np.float32)
        at_rest = self._marked_shape + self._moved(coefficients, np.zeros_like(motion))
        at_work = self._marked_shape + self._moved(coefficients, motion)
        for r in range(rows):
            seen = visible_points(posed[r], part[r], place[r], close[r], at_work[r, known:])
            asked = np.flatnonzero(seen & (close[r] > _TIGHT) & (off[r] > 0) & (part[r] == Part.SKIN))
            gap, nearest = cKDTree(at_work[r, :known]).query(posed[r][asked])
            apart = np.linalg.norm(at_rest[r, nearest] - foot[r][asked], axis=1)
            strayed = (apart > _STRAYED + 2.0 * off[r][asked]) & (gap < _BESIDE + off[r][asked])
            seen[asked[strayed]] = False
            out[r] = seen
        return out

    def _moved(self, coefficients: Float32, motion: Float32) -> Float32:
        both = np.concatenate([coefficients, motion], axis=1).astype(np.float32)
        return np.asarray((both @ self._marked).reshape(len(both), -1, 3), np.float32)
