"""Two filters: a spatial one that stills head and neck, and a temporal one that calms jitter.

The spatial one is FaceTalk's facial smoothing (Aneja et al., CVPR 2024, section 3.4). The temporal Gaussian
is not from the paper; it is a separate setting and off at zero.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import ArrayLike

from facetalk.arrays import Float32

Vector = tuple[float, float, float]


def _vector(name: str, value: ArrayLike) -> Vector:
    array = np.asarray(value, dtype=np.float64)
    if array.shape != (3,) or not np.isfinite(array).all():
        raise ValueError(f"{name} must be three finite numbers, got {value!r}")
    return (float(array[0]), float(array[1]), float(array[2]))


@dataclasses.dataclass(frozen=True)
class FacialSmoothing:
    """Weight in [0, 1] that falls off with the distance from the mouth and multiplies the deformation.

    w(p) = exp(-d(p)^2 / 2) with the Mahalanobis distance d(p)^2 = sum_a ((p_a - centre_a) / sigma_a)^2, then
    min-max normalised over the box, so that the largest weight inside it is 1 and the smallest is 0. Both
    are known without a grid: w falls monotonically with d, so the maximum is at the point of the box closest
    to the centre, and the minimum at the farthest corner (both found axis by axis, because the box and the
    ellipsoid share their axes).

    Attributes:
        centre: mouth centre, head space (in the same frame as the points it is asked for).
        sigma: standard deviation along x, y, z, head space, all positive.
        bounds: ((x0, y0, z0), (x1, y1, z1)) box over which the weight is normalised.
    """

    centre: Vector
    sigma: Vector
    bounds: tuple[Vector, Vector]

    def __post_init__(self) -> None:
        """Check the numbers."""
        object.__setattr__(self, "centre", _vector("centre", self.centre))
        object.__setattr__(self, "sigma", _vector("sigma", self.sigma))
        if len(self.bounds) != 2:
            raise ValueError(f"bounds must be two corners, got {self.bounds!r}")
        low, high = _vector("bounds[0]", self.bounds[0]), _vector("bounds[1]", self.bounds[1])
        object.__setattr__(self, "bounds", (low, high))
        if min(self.sigma) <= 0.0:
            raise ValueError(f"sigma must be positive along every axis, got {self.sigma}")
        if not all(a < b for a, b in zip(low, high, strict=True)):
            raise ValueError(f"bounds must grow along every axis, got {low} to {high}")
        if self.highest - self.lowest <= 0.0:
            raise ValueError(
                f"sigma {self.sigma} is so far from the size of the box that the weight does not vary"
            )

    @property
    def lowest(self) -> float:
        """Smallest unnormalised weight over the box: at the corner farthest from the centre."""
        far = [max(abs(a - c), abs(b - c)) / s for c, s, a, b in self._axes()]
        return math.exp(-0.5 * sum(d * d for d in far))

    @property
    def highest(self) -> float:
        """Largest unnormalised weight over the box: at the point of the box closest to the centre."""
        near = [max(a - c, 0.0, c - b) / s for c, s, a, b in self._axes()]
        return math.exp(-0.5 * sum(d * d for d in near))

    def _axes(self) -> zip[tuple[float, float, float, float]]:
        return zip(self.centre, self.sigma, self.bounds[0], self.bounds[1], strict=True)

    def weight(self, points: ArrayLike) -> Float32:
        """Weights of ``points``.

        Args:
            points: (..., 3) positions, head space. Points outside the box get the weight's clipped value, 0
                or 1.

        Returns:
            (...) float32 weights in [0, 1].
        """
        p = np.asarray(points, dtype=np.float64)
        if p.shape[-1:] != (3,):
            raise ValueError(f"points must have shape (..., 3), got {p.shape}")
        d = (p - np.asarray(self.centre)) / np.asarray(self.sigma)
        raw = np.exp(-0.5 * np.sum(d * d, axis=-1))
        return np.clip((raw - self.lowest) / (self.highest - self.lowest), 0.0, 1.0).astype(np.float32)


def gaussian_smooth(values: ArrayLike, sigma_s: float, fps: float) -> Float32:
    """Filter ``values`` over time with a Gaussian.

    The kernel is cut at four standard deviations and renormalised over the frames that exist, so a constant
    stays constant up to both ends and no frame beyond them is invented.

    Args:
        values: (T, ...) one row per frame.
        sigma_s: standard deviation in seconds; 0 gives the values back unchanged.
        fps: frames per second.

    Returns:
        (T, ...) float32, a copy.

    Raises:
        ValueError: negative or non-finite sigma, or a frame rate that is not positive.
    """
    array = np.array(values, dtype=np.float32)
    if array.ndim < 1:
        raise ValueError("values must have a time axis, got a scalar")
    if not (math.isfinite(sigma_s) and sigma_s >= 0.0):
        raise ValueError(f"sigma_s must be a finite number of seconds, 0 or more; got {sigma_s}")
    if not (math.isfinite(fps) and fps > 0.0):
        raise ValueError(f"fps must be positive, got {fps}")
    sigma = sigma_s * fps
    if sigma < 0.05 or len(array) < 2:  # the neighbours' share is under 1e-86
        return array
    frames = len(array)
    radius = min(max(1, math.ceil(4.0 * sigma)), frames - 1)
    kernel = np.exp(-0.5 * (np.arange(radius + 1) / sigma) ** 2)
    total = np.full(array.shape, 0.0)
    mass = np.zeros(frames)
    # One shifted addition per tap: the taps are few (4 sigma), the rows may be many.
    for shift, tap in enumerate(kernel):
        total[: frames - shift] += tap * array[shift:]
        mass[: frames - shift] += tap
        if shift:
            total[shift:] += tap * array[: frames - shift]
            mass[shift:] += tap
    return (total / mass.reshape(-1, *[1] * (array.ndim - 1))).astype(np.float32)
