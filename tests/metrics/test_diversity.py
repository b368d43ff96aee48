"""Differences between seeds that were put in."""

from __future__ import annotations

import numpy as np
import pytest
from metric_faces import LOWER_HALF, landmarks, talking

from facetalk.data.expressions import EXPRESSION_NAMES
from facetalk.metrics import diversity
from facetalk.metrics.controls import frozen, smoothed


def test_it_is_the_mean_distance_of_all_pairs() -> None:
    base = landmarks(talking(20))
    motions = [base.copy() for _ in range(3)]
    motions[1][:, 48:68, 2] += 0.003
    motions[2][:10, 48:68, 2] -= 0.001
    motions[2][:, 17:27, 0] += 0.004
    found = diversity(motions)
    assert found["mouth_mm"] == pytest.approx((3.0 + 0.5 + 3.5) / 3)
    assert found["brows_mm"] == pytest.approx((0 + 4 + 4) / 3) and found["lids_mm"] == 0.0
    assert found["upper_mm"] == pytest.approx((0 + 4 + 4) / 3 * 10 / 22)
    assert found["opening_mm"] == pytest.approx(0.0, abs=1e-9)
    motions[0][:, LOWER_HALF, 1] -= 0.006
    assert diversity(motions)["opening_mm"] == pytest.approx(2 / 3 * 6.0)


def test_the_controls_show() -> None:
    seeds = [talking(250, seed) for seed in range(4)]
    model = diversity([landmarks(w) for w in seeds])
    assert min(model["mouth_mm"], model["upper_mm"]) > 0.1
    still = diversity([landmarks(frozen(w, EXPRESSION_NAMES)) for w in seeds])
    assert still["upper_mm"] == 0.0 and still["mouth_mm"] == model["mouth_mm"]
    calm = diversity([landmarks(smoothed(w)) for w in seeds])
    assert calm["mouth_mm"] < model["mouth_mm"] and calm["lids_mm"] < model["lids_mm"]
    loud = diversity([landmarks(2 * w) for w in seeds])
    assert loud["mouth_mm"] == pytest.approx(2 * model["mouth_mm"])
    assert set(diversity([landmarks(seeds[0])] * 3).values()) == {0.0}


@pytest.mark.parametrize(
    ("motions", "message"),
    [
        ([], "at least two"),
        ([np.zeros((5, 68, 3))], "at least two"),
        ([np.zeros((5, 68, 3)), np.zeros((6, 68, 3))], r"got \[5, 6\]"),
        ([np.zeros((5, 68, 3)), np.zeros((5, 67, 3))], r"motions\[1\] must have shape"),
        ([np.zeros((5, 68, 3)), np.full((5, 68, 3), np.nan)], r"motions\[1\] has 1020"),
    ],
)
def test_wrong_motions_are_named(motions: list[np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        diversity(motions)
