"""How much motions for one recording differ from seed to seed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from facetalk.arrays import AnyFloat
from facetalk.metrics.landmarks import REGIONS, as_landmarks
from facetalk.metrics.lips import lip_gap
from facetalk.multi_pie import UPPER_FACE


def diversity(motions: Sequence[AnyFloat]) -> dict[str, float]:
    """Mean distance between motions of one recording that differ by their seed.

    D = mean over pairs of seeds a < b, frames t and points v of |x_a - x_b|. ProbTalk3D (MIG 2024) takes five
    random pairs of ten samples and all vertices; all pairs give the same expectation with less noise,
    whatever their number. For independent normal differences it is 2 / sqrt(pi) times the spread about the
    mean. It says how much varies, not that what varies is right: noise is diverse, and so is a motion out of
    order.

    Args:
        motions: at least two arrays (T, 68, 3) in metres, of one T.

    Returns:
        mm: ``mouth_mm`` (48 to 67), ``upper_mm`` (17 to 26 and 36 to 47), ``brows_mm``, ``lids_mm``, and
        ``opening_mm``, the mean |difference| of the inner-lip gap.

    Raises:
        ValueError: fewer than two motions, other shapes, or values that are not finite.
    """
    points = [as_landmarks(f"motions[{i}]", motion) * 1000.0 for i, motion in enumerate(motions)]
    if len(points) < 2:
        raise ValueError(f"diversity needs at least two motions of one recording, got {len(points)}")
    lengths = sorted({len(p) for p in points})
    if len(lengths) > 1:
        raise ValueError(f"the motions must have one number of frames, got {lengths}")
    regions = {"mouth": REGIONS["mouth"], "upper": UPPER_FACE, "brows": REGIONS["brows"]}
    regions["lids"] = REGIONS["lids"]
    gaps = [lip_gap(p) / 1000.0 for p in points]
    found: dict[str, list[float]] = {f"{name}_mm": [] for name in (*regions, "opening")}
    for a, b in combinations(range(len(points)), 2):
        apart = np.linalg.norm(points[a] - points[b], axis=-1)
        for name, indices in regions.items():
            found[f"{name}_mm"].append(float(apart[:, indices].mean()))
        found["opening_mm"].append(float(np.abs(gaps[a] - gaps[b]).mean()))
    return {name: float(np.mean(values)) for name, values in found.items()}
