"""A tongue that moves: three shapes of the template mesh's tongue, made from its own geometry.

ICT-FaceKit's tongue only rides on the jaw. These shapes are ours: tip up to the ridge behind the upper teeth,
forward between the teeth, and out of the mouth. They are displacements of the tongue's body alone (the floor
of the mouth below it stays), made anew for each identity so that each one's tip gets to its own teeth, and
linear, so that engines can add them like any other morph target. Lengths in comments are of the mean head.
``csrc/cpu/head/tongue.cpp`` does the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facetalk.arrays import AnyFloat, Float32, Float64, Int64
from facetalk.multi_pie import LOWER_LIP, UPPER_LIP
from facetalk.nphm.head.regions import Region
from facetalk.nphm.head.template_mesh import TemplateMesh
from facetalk.units import HEAD_UNIT_MM

__all__ = ["JAW", "Mouth", "Reach", "neutral_mean", "tongue_shapes"]

_BODY_U = 2.3
"""The body's texture lies right of this, that of the mouth's floor left of it, as ICT painted them."""
_LENGTH = 36.0
"""Of the part that moves freely, from the fold below the tongue to its tip, mm."""
_HELD = 12.0
"""How far from where it hangs the body moves freely, mm."""
JAW = "jawOpen"
"""The expression that opens the mouth."""
_RIDGE_JAW = 0.2
"""``jawOpen`` at which the tip still gets up to the ridge: t, d, n and l are spoken with at most as much."""
_TEETH_JAW = 0.1
"""``jawOpen`` of th, at which the tip forward is between the teeth."""
_OPEN_JAW = 0.25
"""``jawOpen`` at which a tongue that is out lies on the lower lip."""
_CLEAR = 1.0
"""How far the blade stays from the ridge, mm: the blade is one vertex, and its surroundings touch."""
_SLOPE = np.array([0.0, 0.63, 0.78])
"""Normal of the gum at the ridge, into it."""
_PROTRUSION = 3.0
"""How far the tip looks out in front of the upper teeth at th, mm, where lips and teeth let it."""
_HELD_BACK = 5.0
"""How far behind the edge of the upper teeth it stays where they do not, mm."""


@dataclass(frozen=True)
class Mouth:
    """Vertices of the template mesh that the tongue goes by.

    Attributes:
        body: (K,) those of the tongue that move.
        loose: (K,) how freely, from 0 where they hang on the floor of the mouth to 1.
        tip: the foremost one.
        blade: one a little above and behind the tip, which touches the ridge.
        ridge: of the gum behind the upper incisors.
        upper, lower: edges of the incisors.
        lips: (2, 3) inner upper and lower lip.
    """

    body: Int64
    loose: Float64
    tip: int
    blade: int
    ridge: int
    upper: int
    lower: int
    lips: Int64

    @classmethod
    def of(cls, mesh: TemplateMesh, rest: Float32) -> Mouth | None:
        """The vertices of a template mesh whose mean head has the neutral vertices ``rest``; None without a
        tongue."""
        leftmost = np.full(len(rest), np.inf)
        np.minimum.at(leftmost, mesh.uv_vertex, mesh.uv[:, 0])
        body = np.flatnonzero((mesh.region == Region.TONGUE) & (leftmost > _BODY_U))
        if not len(body) or not (mesh.region == Region.UPPER_GUM).any():
            return None
        points = rest.astype(np.float64) * HEAD_UNIT_MM
        faces = mesh.faces()
        mine = np.isin(faces, body)
        seam = np.intersect1d(faces[mine.any(axis=1) & ~mine.all(axis=1)], body)
        held = np.linalg.norm(points[body][:, None] - points[seam], axis=2).min(axis=1, initial=np.inf)

        def near(region: Region, place: Float64) -> int:
            rows = np.flatnonzero(mesh.region == region)
            return int(rows[np.linalg.norm(points[rows] - place, axis=1).argmin()])

        tip = int(body[points[body, 2].argmax()])
        # The edges are those of the middle incisors: as far forward as teeth get, within a tooth's width.
        edges = []
        for region, sign in ((Region.UPPER_TEETH, -1.0), (Region.LOWER_TEETH, 1.0)):
            rows = np.flatnonzero((mesh.region == region) & (np.abs(points[:, 0]) < 6.0))
            rows = rows[points[rows, 2] > points[tip, 2] + 4.0]
            if not len(rows):
                return None
            edges.append(int(rows[(sign * points[rows, 1]).argmax()]))
        upper, lower = edges
        middle = points[upper] * [0.0, 1.0, 1.0]
        return cls(
            body=body.astype(np.int64),
            loose=_ease(held / _HELD),
            tip=tip,
            blade=near(Region.TONGUE, points[tip] + np.array([0.0, 3.0, -1.5])),
            ridge=near(Region.UPPER_GUM, middle + np.array([0.0, 10.5, -8.0])),
            upper=upper,
            lower=lower,
            lips=mesh.landmarks[[UPPER_LIP, LOWER_LIP]].astype(np.int64),
        )


def tongue_shapes(mouth: Mouth, neutral: Float32, jaw: Float32) -> Float32:
    """Displacements of an identity's tongue.

    Args:
        mouth: the vertices that it goes by.
        neutral: (V, 3) vertices of the identity with a closed jaw, head units.
        jaw: (V, 3) displacement of ``jawOpen``.

    Returns:
        (3, V, 3) float32 displacements at weight 1, in the order of ``facetalk.mesh.tongue.TONGUE_NAMES``.
    """
    points, opening = neutral.astype(np.float64) * HEAD_UNIT_MM, jaw.astype(np.float64) * HEAD_UNIT_MM
    body, tip = points[mouth.body], points[mouth.tip]
    opened = points + _OPEN_JAW * opening
    along = np.clip((body[:, 2] - tip[2]) / _LENGTH + 1.0, 0.0, 1.0)
    front = _ease((along - 0.5) / 0.42)[:, None]
    flat = (tip[1] - body[:, 1])[:, None] * [0.0, 1.0, 0.0]
    narrow = -body * [1.0, 0.0, 0.0]

    # Up: a bend, with the blade at the ridge.
    blade = mouth.blade
    share = np.clip((points[blade, 2] - tip[2]) / _LENGTH + 1.0, 0.0, 1.0) ** 1.6
    goal = points[mouth.ridge] - _CLEAR * _SLOPE
    way = (goal - points[blade] - _RIDGE_JAW * opening[blade]) * [0.0, 1.0, 1.0]
    up = (along**1.6)[:, None] * (way / share) + 0.15 * front * flat

    # Forward: the tip between the edges of the teeth, thin enough to pass.
    place = points[mouth.tip] + _TEETH_JAW * opening[mouth.tip]
    between = 0.5 * (points[mouth.upper] + points[mouth.lower] + _TEETH_JAW * opening[mouth.lower])
    way = np.array([0.0, between[1] - place[1], points[mouth.upper, 2] - place[2]])
    forward = (along**1.3)[:, None] * way + 0.6 * front * flat

    # Out: the whole body comes along, thin and a little narrower, and lies on the lower lip.
    further = np.clip((body[:, 2] - tip[2]) / (_LENGTH + 12.0) + 1.0, 0.0, 1.0)
    lip = opened[mouth.lips[1]].mean(axis=0)
    way = np.array([0.0, lip[1] + 1.5, lip[2] + 12.0]) - opened[mouth.tip] * [0.0, 1.0, 1.0]
    thin = _ease((further - 0.25) / 0.5)[:, None]
    outside = (further**1.2)[:, None] * way + 0.6 * thin * flat + 0.12 * thin * narrow

    out = np.zeros((3, *neutral.shape), np.float32)
    out[:, mouth.body] = np.stack([up, forward, outside]) * (mouth.loose[:, None] / HEAD_UNIT_MM)
    return out


@dataclass(frozen=True)
class Reach:
    """How much of each shape brings the mean head's tongue to where a sound is made, whatever the jaw does.

    Each is the height or depth of a point, mm, linear in the expression codes, with what a shape of weight 1
    adds to it: an expression opens the mouth and so takes the tongue away from the palate. Other identities
    have shapes of their own that get as far in their mouths, so the same weights do for them.

    Attributes:
        to_ridge: (E + 1,) how far the blade is from the ridge, of the codes and, last, at rest.
        tip_y, tip_z: (E + 1,) the tip's place.
        lower_y: (E + 1,) height of the lower incisors' edge.
        lips: (E + 1,) how far the inner lips are apart.
        upper: (2,) height and depth of the upper incisors' edge.
        up: (2,) how much nearer to the ridge, and how much higher, tongueUp brings the tip.
        forward: (2,) how much higher and further forward tongueForward brings it.
        out: how much further forward tongueOut brings it.
    """

    to_ridge: Float64
    tip_y: Float64
    tip_z: Float64
    lower_y: Float64
    lips: Float64
    upper: Float64
    up: Float64
    forward: Float64
    out: float

    @classmethod
    def of(cls, mesh: TemplateMesh, mouth: Mouth, mean: Float32, names: tuple[str, ...]) -> Reach:
        """That of a template mesh whose mean head has the neutral vertices ``mean`` (V, 3)."""
        moves = [displacement(mesh, index) for index in range(len(names))]
        shapes = tongue_shapes(mouth, mean, moves[names.index(JAW)]).astype(np.float64) * HEAD_UNIT_MM

        def track(vertex: int) -> Float64:
            rows = [*(move[vertex] for move in moves), mean[vertex]]
            return np.stack(rows).astype(np.float64) * HEAD_UNIT_MM

        blade, tip, lips = track(mouth.blade), track(mouth.tip), mouth.lips
        to_ridge = -blade @ _SLOPE
        to_ridge[-1] += float(mean[mouth.ridge].astype(np.float64) @ _SLOPE) * HEAD_UNIT_MM - _CLEAR
        inner = [np.mean([track(vertex)[:, 1] for vertex in row], axis=0) for row in lips]
        return cls(
            to_ridge=to_ridge,
            tip_y=tip[:, 1],
            tip_z=tip[:, 2],
            lower_y=track(mouth.lower)[:, 1],
            lips=inner[0] - inner[1],
            upper=mean[mouth.upper, 1:].astype(np.float64) * HEAD_UNIT_MM,
            up=np.array([shapes[0, mouth.blade] @ _SLOPE, shapes[0, mouth.tip, 1]]),
            forward=shapes[1, mouth.tip, 1:],
            out=float(shapes[2, mouth.tip, 2]),
        )

    def weights(self, contacts: AnyFloat, expressions: AnyFloat) -> Float32:
        """Weights of the shapes for what a tongue does.

        Args:
            contacts: (T, 2) in [0, 1], how nearly the tip is at the ridge, as for t, d, n and l, and between
                the teeth, as for th.
            expressions: (T, E) expression codes of the same frames.

        Returns:
            (T, 3) float32 in [0, 1], in the order of ``facetalk.mesh.tongue.TONGUE_NAMES``. Where teeth are
            closed the tip stays behind them, and between lips that are closed nothing comes out.
        """
        ridge, teeth = np.clip(np.asarray(contacts, np.float64), 0.0, 1.0).T
        codes = np.asarray(expressions, np.float64)
        codes = np.concatenate([codes, np.ones((len(codes), 1))], axis=1)
        tip_y, lower = codes @ self.tip_y, codes @ self.lower_y
        passing = _ease((self.upper[0] - lower - 0.5) / 1.5)
        goal = self.upper[1] - _HELD_BACK * (1.0 - passing)
        forward = np.clip((goal - codes @ self.tip_z) / self.forward[1], 0.0, 1.0)
        lacking = 0.5 * (self.upper[0] + lower) - tip_y - forward * self.forward[0]
        at_teeth = np.clip(lacking / self.up[1], 0.0, 1.0)
        at_ridge = np.clip(codes @ self.to_ridge / self.up[0], 0.0, 1.0)
        out = passing * _ease((codes @ self.lips - 1.0) / 2.0) * (_PROTRUSION / self.out)
        found = np.stack([(1.0 - teeth) * ridge * at_ridge + teeth * at_teeth, teeth * forward, teeth * out])
        return np.ascontiguousarray(found.T, np.float32)


def displacement(mesh: TemplateMesh, index: int) -> Float32:
    """(V, 3) what an expression of weight 1 does to a template mesh."""
    start, end = mesh.shape_starts[index : index + 2]
    out = np.zeros_like(mesh.vertices)
    out[mesh.shape_rows[start:end]] = mesh.shape_values[start:end]
    return out


def neutral_mean(mesh: TemplateMesh, rest: Float32) -> Float32:
    """(V, 3) vertices of the mean head at expressions of zero."""
    points = mesh.vertices.copy()
    for index in np.flatnonzero(rest):
        points -= rest[index] * displacement(mesh, int(index))
    return points


def _ease(share: Float64) -> Float64:
    """A smooth step from 0 to 1."""
    share = np.clip(share, 0.0, 1.0)
    return share * share * (3.0 - 2.0 * share)
