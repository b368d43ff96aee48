"""What marching cubes is asked for, checked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Bounds = Sequence[Sequence[float]]
"""((x0, y0, z0), (x1, y1, z1)): positions of the first and the last sample."""


def finite_level(level: Any) -> float:
    """The level as a number.

    Raises:
        ValueError: it is not finite, or float32 cannot hold it.
    """
    real = isinstance(level, (int, float, np.number)) and not isinstance(level, np.complexfloating)
    # Integers of any size compare with infinity, where a conversion would overflow.
    if not real or not -math.inf < level < math.inf:
        raise ValueError(f"level: expected a finite number, got {level!r}")
    if not abs(level) <= float(np.finfo(np.float32).max):
        raise ValueError(f"level: expected a number that float32 can hold, got {level!r}")
    return float(level)


def frame(bounds: Bounds | None, shape: tuple[int, ...]) -> tuple[list[float], list[float]]:
    """Position of the first sample, and the step to the next, along each axis.

    Raises:
        ValueError: the bounds are none.
    """
    if bounds is None:
        return [0.0] * 3, [1.0] * 3
    try:
        ends = np.asarray(bounds, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"bounds: expected ((x0, y0, z0), (x1, y1, z1)), got {bounds!r}") from error
    if ends.shape != (2, 3) or not np.isfinite(ends).all() or not (ends[0] < ends[1]).all():
        raise ValueError(
            f"bounds: expected ((x0, y0, z0), (x1, y1, z1)), finite, growing along each axis, got {bounds!r}"
        )
    # Vertices are float32. Each end fits float64, but their difference need not.
    float32 = np.finfo(np.float32)
    if (np.abs(ends) > float32.max).any() or not (ends[1] - ends[0] >= float32.tiny).all():
        raise ValueError(
            f"bounds: expected ends that float32 can hold, at least {float32.tiny:.3g} apart, got {bounds!r}"
        )
    return ends[0].tolist(), ((ends[1] - ends[0]) / (np.asarray(shape) - 1)).tolist()
