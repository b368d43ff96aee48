"""Albedo of the built-in head: procedural, on template coordinates, so that it fits every identity.

The morphable head comes without textures. Skin, lips, brows and lash lines are painted from
the 68 landmarks of the mean head; eyes by the angle from the optical axis. All colours are sRGB.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facetalk.arrays import AnyFloat, AnyInt, Int32, Int64, UInt8
from facetalk.nphm.head.parts import SurfaceClass

__all__ = [
    "BROW_STRENGTH", "EYE_RINGS", "IRIS_DEG", "LIP_STRENGTH", "PUPIL", "PUPIL_DEG", "SCLERA", "SCLERA_EDGE",
    "Palette", "brow_curves", "brow_width", "complexion", "eyeball", "eyeball_faces", "lip_depth", "mix",
    "nearest", "paint", "smooth",
]  # fmt: skip

CAVITY = np.array([92, 34, 36], np.float32)
TEETH = np.array([238, 230, 212], np.float32)
GUM = np.array([186, 96, 96], np.float32)
TONGUE = np.array([196, 102, 100], np.float32)
SCLERA = np.array([236, 231, 227], np.float32)
SCLERA_EDGE = np.array([214, 172, 160], np.float32)
"""Of the white of an eye towards its back, where vessels are."""
PUPIL = np.array([12, 10, 12], np.float32)
BROW_STRENGTH, LIP_STRENGTH = 0.8, 0.8
"""How much of a brow's and of the lips' colour covers the skin's."""

Tone = tuple[int, int, int]


@dataclass(frozen=True)
class Palette:
    """Colours that differ between people, sRGB bytes.

    Attributes:
        skin, blush: of the face, and where blood shows through: cheeks, nose, ears.
        lids: thin skin around the eyes.
        lips, brow, lash, scalp: of these.
        iris, iris_inner, limbus: outer and inner part of the iris, and its rim.
    """

    skin: Tone = (222, 174, 148)
    blush: Tone = (216, 142, 122)
    lids: Tone = (196, 134, 116)
    lips: Tone = (186, 104, 98)
    brow: Tone = (86, 62, 50)
    lash: Tone = (58, 40, 36)
    scalp: Tone = (150, 122, 108)
    iris: Tone = (104, 128, 138)
    iris_inner: Tone = (128, 112, 84)
    limbus: Tone = (42, 52, 60)

    def of(self, name: str) -> AnyFloat:
        """(3,) float32 of a colour."""
        return np.array(getattr(self, name), np.float32)


PALETTE = Palette()
"""Of the default identity."""

_TONES = {
    SurfaceClass.UPPER_TEETH: TEETH,
    SurfaceClass.UPPER_GUM: GUM,
    SurfaceClass.LOWER_TEETH: TEETH,
    SurfaceClass.LOWER_GUM_TONGUE: TONGUE,
}

# Half angles in degrees of an eye 1.54 cm in radius: pupil 0.26 cm, iris 0.62 cm from the axis.
PUPIL_DEG, IRIS_DEG = 8.6, 21.8
EYE_RINGS = (
    0.0, 4.0, 8.3, 8.9, 12.0, 15.5, 18.5, 20.8, 22.3, 24.5, 28, 33, 39, 46, 54, 63, 72, 82, 95, 110, 130,
    155, 180,
)  # fmt: skip
_SECTORS = 48
_PER_SPAN = 12
"""Points of a curve between two landmarks."""


def paint(
    points: AnyFloat,
    classes: AnyInt,
    landmarks: AnyFloat,
    lash: AnyFloat | None = None,
    palette: Palette = PALETTE,
) -> UInt8:
    """Albedo (N, 3) uint8 of template points.

    Args:
        points: (N, 3) template coordinates (on the mean canonical head).
        classes: (N,) :class:`facetalk.nphm.head.parts.SurfaceClass`.
        landmarks: (68, 3) landmarks of the mean canonical head.
        lash: (N,) darkness of the lash lines in [0, 1], or None.
        palette: of the person.
    """
    lip = palette.of("lips")
    x = points.astype(np.float32)
    color = complexion(x, landmarks, palette)
    for curve in brow_curves(landmarks):
        distance, index = nearest(x, curve, 0.06)
        strength = np.clip(1.4 - distance / brow_width(index / (len(curve) - 1)), 0.0, 1.0)
        color = mix(color, palette.of("brow"), BROW_STRENGTH * strength)
    inner = _closed(landmarks[60:68])
    lips = smooth(lip_depth(x, landmarks[48:60]), -0.006, 0.008)
    color = mix(color, lip, LIP_STRENGTH * lips)
    if lash is not None:
        color = mix(color, palette.of("lash"), lash)
    cavity = classes == SurfaceClass.MOUTH_CAVITY
    inside = smooth(nearest(x, inner, 0.1)[0], 0.012, 0.045)[:, None]
    color = np.where(cavity[:, None], lip * (1 - inside) + CAVITY * inside, color)
    # The mouth is darker towards the throat: light hardly gets there.
    shade = np.maximum(smooth(-x[:, 2], -0.15, 0.0), 0.75 * smooth(np.abs(x[:, 0]), 0.03, 0.1))
    dark = 1.0 - shade[:, None] * np.array([0.5, 0.62, 0.64], np.float32)
    for kind, tone in _TONES.items():
        color[classes == kind] = tone
    color = np.where((cavity | np.isin(classes, list(_TONES)))[:, None], color * dark, color)
    color[classes == SurfaceClass.EYEBALL] = SCLERA
    return np.clip(np.rint(color), 0, 255).astype(np.uint8)


def complexion(x: AnyFloat, landmarks: AnyFloat, palette: Palette) -> AnyFloat:
    """Colours (N, 3) of skin at template points (N, 3): blood and thin skin, but no lines."""
    blush = palette.of("blush")
    color = np.tile(palette.of("skin"), (len(x), 1))
    front = smooth(x[:, 2], 0.0, 0.08)
    for centre, reach, amount in (
        (landmarks[[1, 31]].mean(0) * [1.0, 0.8, 1.0] + [0.02, 0.0, 0.06], 0.09, 0.35),
        (landmarks[[15, 35]].mean(0) * [1.0, 0.8, 1.0] + [-0.02, 0.0, 0.06], 0.09, 0.35),
        (landmarks[30], 0.045, 0.35),
        (landmarks[8], 0.05, 0.15),
    ):
        near = np.exp(-(((x - centre) / reach) ** 2).sum(1))
        color = mix(color, blush, amount * near * front)
    ears = smooth(np.abs(x[:, 0]), 0.29, 0.35) * (x[:, 1] > -0.15)
    color = mix(color, blush, 0.45 * ears)
    for row in (slice(36, 42), slice(42, 48)):  # thin, reddish skin around the eyes
        distance = nearest(x, _closed(landmarks[row]), 0.12)[0]
        color = mix(color, palette.of("lids"), 0.45 * np.exp(-((distance / 0.03) ** 2)))
    return color


def brow_curves(landmarks: AnyFloat) -> tuple[AnyFloat, AnyFloat]:
    """Points along the middle of the right and of the left brow, both from the outside inwards."""
    lift = np.array([0.0, 0.006, 0.0], np.float32)
    return _spline(landmarks[17:22] + lift), _spline(landmarks[22:27][::-1] + lift)


def brow_width(along: AnyFloat) -> AnyFloat:
    """Half of a brow's height where it is thickest covered, by the fraction of its length."""
    return 0.009 + 0.010 * along


def lip_depth(x: AnyFloat, outer: AnyFloat, per_span: int = _PER_SPAN) -> AnyFloat:
    """How far (N,) points lie within the lips' outline (12, 3) as seen from the front; -1 is far off."""
    outline = _spline(outer, per_span, closed=True)[:, :2]
    margin = 0.02
    low, high = outline.min(axis=0) - margin, outline.max(axis=0) + margin
    near = _inside_box(x, np.append(low, 0.1), np.append(high, np.inf))
    depth = np.full(len(x), -1.0)
    depth[near] = -_polygon_distance(x[near, :2], outline)
    return depth


def eyeball(
    centre: AnyFloat, radius: float, axis: AnyFloat, *, cornea: float = 1.135, palette: Palette = PALETTE
) -> tuple[AnyFloat, Int32, UInt8]:
    """A whole eyeball with cornea, finest at pupil and iris: vertices, faces, colours.

    Args:
        centre: (3,) head space.
        radius: of the sclera.
        axis: (3,) unit optical axis.
        cornea: how far out its apex is, radii.
        palette: of the person.
    """
    rings = np.deg2rad(np.array(EYE_RINGS[1:-1], np.float64))
    turn = 2.0 * np.pi * np.arange(_SECTORS) / _SECTORS
    side = np.cross([0.0, 1.0, 0.0], axis)
    side /= np.linalg.norm(side)
    up = np.cross(axis, side)
    polar = np.concatenate([[0.0], np.repeat(rings, _SECTORS), [np.pi]])
    around = np.concatenate([[0.0], np.tile(turn, len(rings)), [0.0]])
    # Cornea: a smaller sphere in front (7.8 mm in an eye of 12 mm; Gullstrand's eye), its apex 1.13 radii
    # out; a flatter one has the same rim.
    small, ahead = 0.55 * radius, (cornea - 0.55) * radius
    bulge = ahead * np.cos(polar) + np.sqrt(np.maximum(small**2 - (ahead * np.sin(polar)) ** 2, 0.0))
    bulge = np.where(np.cos(polar) > 0, bulge, 0.0)
    reach = np.maximum(radius, bulge)
    direction = np.cos(polar)[:, None] * axis + np.sin(polar)[:, None] * (
        np.cos(around)[:, None] * side + np.sin(around)[:, None] * up
    )
    vertices = (centre + reach[:, None] * direction).astype(np.float32)
    angle = np.rad2deg(polar)
    sectors = 1.0 + 0.16 * np.random.default_rng(1).standard_normal(_SECTORS)
    streak = np.concatenate([[1.0], np.tile(sectors, len(rings)), [1.0]])[:, None]
    iris: AnyFloat = (
        mix(np.tile(palette.of("iris_inner"), (len(angle), 1)), palette.of("iris"), smooth(angle, 9.0, 15.0))
        * streak
    )
    iris = mix(iris, palette.of("limbus"), 0.85 * smooth(angle, 18.0, 21.8))
    white = mix(np.tile(SCLERA, (len(angle), 1)), SCLERA_EDGE, 0.7 * smooth(angle, 38, 62))
    final = np.where((angle < PUPIL_DEG)[:, None], PUPIL, np.where((angle < IRIS_DEG)[:, None], iris, white))
    return vertices, eyeball_faces(), np.clip(np.rint(final), 0, 255).astype(np.uint8)


def eyeball_faces(rings: tuple[int, ...] | None = None, sectors: int = _SECTORS) -> Int32:
    """(F, 3) triangles over the vertices of :func:`eyeball`.

    Args:
        rings: numbers of the rings to use, the first one around the pupil's middle; None takes all.
        sectors: of a ring, a divisor of 48.
    """
    chosen = np.arange(len(EYE_RINGS) - 2) if rings is None else np.array(rings)
    ring = 1 + chosen[:, None] * _SECTORS + np.arange(0, _SECTORS, _SECTORS // sectors)
    nxt = np.roll(ring, -1, axis=1)
    last = 1 + (len(EYE_RINGS) - 2) * _SECTORS
    quads = [
        np.stack([ring[:-1], ring[1:], nxt[1:]], -1).reshape(-1, 3),
        np.stack([ring[:-1], nxt[1:], nxt[:-1]], -1).reshape(-1, 3),
        np.stack([np.zeros(sectors, int), ring[0], nxt[0]], -1),
        np.stack([np.full(sectors, last), nxt[-1], ring[-1]], -1),
    ]
    return np.concatenate(quads).astype(np.int32)


def mix(color: AnyFloat, other: AnyFloat, amount: AnyFloat) -> AnyFloat:
    """Colours (N, 3) mixed with another by amounts (N,), clipped to [0, 1]."""
    return (color + (other - color) * np.clip(amount, 0.0, 1.0)[:, None]).astype(np.float32)


def smooth(value: AnyFloat, low: float, high: float) -> AnyFloat:
    """0 below ``low``, 1 above ``high``, smooth between."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def _spline(points: AnyFloat, per_span: int = _PER_SPAN, closed: bool = False) -> AnyFloat:
    """Catmull-Rom curve through points."""
    p = np.asarray(points, np.float64)
    p = (
        np.concatenate([p[-1:], p, p[:2]])
        if closed
        else np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    )
    t = np.linspace(0.0, 1.0, per_span, endpoint=False)[:, None]
    spans = []
    for a, b, c, d in zip(p[:-3], p[1:-2], p[2:-1], p[3:], strict=True):
        spans.append(
            0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
        )
    curve = np.concatenate(spans)
    return curve if closed else np.concatenate([curve, p[-2:-1]])


def _closed(points: AnyFloat) -> AnyFloat:
    return _spline(points, closed=True)


_AT_ONCE = 2**20
"""Distances that are held at a time."""


def nearest(x: AnyFloat, curve: AnyFloat, reach: float) -> tuple[AnyFloat, Int64]:
    """Distance (N,) of points (N, 3) from the nearest of (M, 3) others, and its number.

    Points that are more than ``reach`` away may have an infinite distance and number 0.
    """
    distance, index = np.full(len(x), np.inf), np.zeros(len(x), np.int64)
    low, high = curve.min(axis=0) - reach, curve.max(axis=0) + reach
    near = _inside_box(x, low, high)
    for rows in np.split(near, range(_AT_ONCE // len(curve), len(near), max(1, _AT_ONCE // len(curve)))):
        off = [x[rows, axis, None] - curve[None, :, axis] for axis in range(3)]
        away = off[0] ** 2 + off[1] ** 2 + off[2] ** 2
        index[rows] = np.argmin(away, axis=1)
        distance[rows] = np.sqrt(away[np.arange(len(rows)), index[rows]])
    return distance, index


def _inside_box(x: AnyFloat, low: AnyFloat, high: AnyFloat) -> Int64:
    """Numbers of the points (N, 3) that lie between two corners of a box."""
    # Axis by axis: most points are outside by the first.
    found = np.flatnonzero((x[:, 1] > low[1]) & (x[:, 1] < high[1]))
    for axis in (0, 2):
        value = x[found, axis]
        found = found[(value > low[axis]) & (value < high[axis])]
    return found


def _polygon_distance(x: AnyFloat, polygon: AnyFloat) -> AnyFloat:
    """Signed distance of points (N, 2) to a closed polygon (M, 2), negative inside."""
    a, b = polygon, np.roll(polygon, -1, axis=0)
    best, inside = np.full(len(x), np.inf), np.zeros(len(x), bool)
    for p, q in zip(a, b, strict=True):
        edge = q - p
        t = np.clip(((x - p) @ edge) / max(float(edge @ edge), 1e-12), 0.0, 1.0)
        best = np.minimum(best, ((x - p - t[:, None] * edge) ** 2).sum(1))
        crosses = (p[1] > x[:, 1]) != (q[1] > x[:, 1])
        at = p[0] + (x[:, 1] - p[1]) / np.where(q[1] == p[1], 1e-12, q[1] - p[1]) * edge[0]
        inside ^= crosses & (x[:, 0] < at)
    return np.sqrt(best) * np.where(inside, -1.0, 1.0)
