"""How a head is lit and framed: the studio of :mod:`facetalk.render.render`."""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np
from numpy.typing import ArrayLike

from facetalk.arrays import Float32, UInt8
from facetalk.mesh.materials import Color

Vector = tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class Camera:
    """A camera that looks at a point.

    Attributes:
        target: point in the middle of the picture, metres.
        azimuth: degrees from the front to the head's left (the right of the picture).
        elevation: degrees upwards.
        distance: metres from the target.
        focal: focal length in heights of the picture.
    """

    target: Vector
    azimuth: float = 0.0
    elevation: float = 0.0
    distance: float = 1.2
    focal: float = 85.0 / 24.0

    def matrix(self) -> Float32:
        """(3, 4) world to camera; the camera looks along its -z with +y up."""
        a, e = math.radians(self.azimuth), math.radians(self.elevation)
        back = np.array([math.sin(a) * math.cos(e), math.sin(e), math.cos(a) * math.cos(e)])
        right = np.array([math.cos(a), 0.0, -math.sin(a)])
        rotation = np.stack([right, np.cross(back, right), back])
        eye = np.asarray(self.target) + self.distance * back
        return np.concatenate([rotation, -(rotation @ eye)[:, None]], axis=1).astype(np.float32)


def frame_head(
    vertices: ArrayLike,
    *,
    azimuth: float = 14.0,
    elevation: float = 1.5,
    aspect: float = 1.0,
    margin: float = 1.08,
    crop: float = 0.1,
) -> Camera:
    """Camera with a portrait lens (85 mm on 35 mm film) from which ``vertices`` fill the picture.

    Args:
        vertices: (V, 3) positions that have to be seen, metres.
        azimuth: degrees from the front.
        elevation: degrees upwards.
        aspect: width of the picture over its height.
        margin: room around the head, 1 for none.
        crop: share of the height that may fall below the picture: portraits cut the neck.
    """
    points = np.asarray(vertices, dtype=np.float64).reshape(-1, 3)
    if not len(points):
        return Camera((0.0, 0.0, 0.0), azimuth, elevation)
    camera = Camera((0.0, 0.0, 0.0), azimuth, elevation, 0.0)
    rotation = camera.matrix()[:, :3].astype(np.float64)
    seen = points @ rotation.T
    low, high = seen.min(axis=0), seen.max(axis=0)
    low[1] += crop * (high[1] - low[1])
    # All room goes above the head, none below the cut.
    high[1] += (margin - 1.0) * (high[1] - low[1]) if crop > 0.0 else 0.0
    middle = rotation.T @ ((low + high) / 2)
    half = (high - low) / 2
    # The perspective is strongest at the front of the head, so the distance is counted from half-way to it.
    tall = half[1] if crop > 0.0 else margin * half[1]
    distance = camera.focal * 2.0 * max(tall, margin * half[0] / aspect, 1e-6) + 0.5 * half[2]
    return dataclasses.replace(camera, target=tuple(middle.tolist()), distance=float(distance))


@dataclasses.dataclass(frozen=True)
class Look:
    """Lamps and background. Directions are in camera space: the studio turns with the camera.

    Attributes:
        lights: (direction towards the lamp, linear colour); the first one is the key and casts the shadow.
        sky: ambient light from above, linear.
        ground: ambient light from below, linear.
        exposure: factor on all light.
        background: sRGB colours (0 to 255) in the middle and at the corners.
    """

    lights: tuple[tuple[Vector, Color], ...] = (
        ((-0.52, 0.45, 0.73), (2.30, 2.16, 1.96)),  # key: warm, from the left, no higher than reaches teeth
        ((0.80, 0.10, 0.55), (0.24, 0.27, 0.34)),  # fill: weak and cool, from the right
        ((0.80, 0.35, -0.62), (0.70, 0.76, 0.88)),  # rim: from behind, right
        ((-0.85, 0.30, -0.62), (0.38, 0.40, 0.44)),  # rim: from behind, left
    )
    sky: Color = (0.25, 0.275, 0.31)
    ground: Color = (0.12, 0.10, 0.09)
    exposure: float = 0.60
    background: tuple[Color, Color] = ((86.0, 92.0, 100.0), (34.0, 37.0, 43.0))

    def backdrop(self, width: int, height: int) -> UInt8:
        """(height, width, 3) uint8 picture: a soft pool of light, dithered so that it shows no bands."""
        return _backdrop(self.background, width, height)


@functools.lru_cache(maxsize=4)
def _backdrop(background: tuple[Color, Color], width: int, height: int) -> UInt8:
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    radius = np.hypot((x + 0.5) / width - 0.5, ((y + 0.5) / height - 0.46) * 0.95) / 0.68
    t = np.clip(radius, 0.0, 1.0)[..., None]
    t = t * t * (3.0 - 2.0 * t)
    middle, corner = (np.asarray(c, np.float32) for c in background)
    noise = np.random.default_rng(0).random((height, width, 1), dtype=np.float32) - 0.5
    return np.clip(np.rint(middle + (corner - middle) * t + noise), 0, 255).astype(np.uint8)
