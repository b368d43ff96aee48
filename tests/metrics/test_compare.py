"""Distances from a reference on motions that are known to be off by this much."""

from __future__ import annotations

import numpy as np
import pytest
from metric_faces import FPS, LOWER_HALF, MOUTH, UPPER, landmarks, rest, talking

from facetalk.data.expressions import EXPRESSION_NAMES
from facetalk.metrics import compare
from facetalk.metrics.controls import delayed, frozen, smoothed


def against(motion: np.ndarray, truth: np.ndarray, **changes) -> dict[str, float]:
    options = {"lips": MOUTH, "upper": UPPER, "neutral": rest(), "fps": FPS}
    return compare(motion, truth, **{**options, **changes})


def test_the_truth_is_at_no_distance_from_itself() -> None:
    found = against(landmarks(talking()), landmarks(talking()))
    assert found.pop("opening_r") == pytest.approx(1.0)
    assert all(value == pytest.approx(0.0, abs=1e-9) for value in found.values())


def test_lip_error_is_the_worst_point_of_each_frame() -> None:
    truth = landmarks(talking(100))
    motion = truth.copy()
    motion[:50, 60, 0] += 0.004
    motion[:50, 48, 2] += 0.001
    found = against(motion, truth)
    assert found["lve_mm2"] == pytest.approx(16.0 / 2)
    assert found["lve_mm"] == pytest.approx(4.0 / 2)  # the root of each frame, not sqrt(8)
    assert found["mve_mm"] == pytest.approx((4.0 + 1.0) / 68 / 2)
    assert found["opening_mm"] == pytest.approx(0.0, abs=1e-9) and found["fdd"] == 0.0


def test_upper_face_deviation_is_signed_and_in_square_metres() -> None:
    weights = talking()
    truth = landmarks(weights)
    still = against(landmarks(frozen(weights, EXPRESSION_NAMES)), truth)
    # By the definition, point by point.
    expected = [np.std([((f[v] - rest()[v]) ** 2).sum() for f in truth]) for v in UPPER]
    assert still["fdd"] == pytest.approx(np.mean(expected), rel=1e-9) and still["fdd"] > 0
    assert still["fdd_mm2"] == pytest.approx(still["fdd"] * 1e6)
    assert still["lve_mm"] == pytest.approx(0.0, abs=1e-9) and still["opening_r"] == pytest.approx(1.0)
    lively = against(landmarks(2 * weights), truth)
    assert lively["fdd"] == pytest.approx(-3 * still["fdd"], rel=1e-6)


@pytest.mark.parametrize("frames", [1, 3, 5])
def test_a_delay_is_found(frames: int) -> None:
    truth = landmarks(talking())
    found = against(delayed(truth, frames), truth)
    assert found["lag_ms"] == pytest.approx(40.0 * frames, abs=4.0)
    early = against(truth, delayed(truth, frames))
    assert early["lag_ms"] == pytest.approx(-40.0 * frames, abs=4.0)
    if frames < 4:  # half a syllable: beyond it, neighbouring extrema are nearer
        assert found["mtm_ms"] == pytest.approx(40.0 * frames, abs=6.0)


def test_doubling_is_not_rewarded() -> None:
    weights = talking()
    truth, doubled = landmarks(weights), against(landmarks(2 * weights), landmarks(weights))
    assert doubled["opening_mm"] == pytest.approx(28.92 * weights[:, 26].mean(), rel=0.01)
    assert doubled["opening_r"] == pytest.approx(1.0)  # a correlation is blind to it: read both
    assert doubled["lve_mm"] > against(landmarks(smoothed(weights, 1.0)), truth)["lve_mm"]


def test_a_face_at_rest_has_no_time_and_no_correlation() -> None:
    truth = landmarks(talking())
    found = against(np.broadcast_to(rest(), truth.shape), truth)
    assert found["opening_r"] == 0.0 and np.isnan(found["mtm_ms"]) and np.isnan(found["lag_ms"])


def test_other_topologies_open_by_the_extent_of_their_lips() -> None:
    truth = np.zeros((40, 10, 3))
    truth[:, 3, 1] = 0.010 + 0.005 * np.sin(np.arange(40) / 2)
    motion = truth.copy()
    motion[:, 3, 1] += 0.002
    found = compare(motion, truth, lips=[2, 3, 4], upper=[0], neutral=np.zeros((10, 3)), fps=30.0)
    assert found["opening_mm"] == pytest.approx(2.0) and found["mtm_ms"] == 0.0
    assert found["lve_mm"] == pytest.approx(2.0) and found["opening_r"] == pytest.approx(1.0)


def test_landmarks_open_by_the_inner_pairs() -> None:
    truth = landmarks(np.zeros((5, 53)))
    motion = truth.copy()
    motion[:, 57, 1] -= 0.02  # the outer lip alone: no wider open
    assert against(motion, truth)["opening_mm"] == pytest.approx(0.0, abs=1e-9)
    motion[:, LOWER_HALF, 1] -= 0.003
    assert against(motion, truth)["opening_mm"] == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"motion": np.zeros((9, 68, 3))}, "one shape"),
        ({"motion": np.zeros((10, 68, 2))}, r"\(T, V, 3\)"),
        ({"motion": np.zeros((10, 68, 3)) * np.nan}, "2040 values that are not finite"),
        ({"truth": np.zeros((10, 68, 3)) + np.inf}, "truth has 2040"),
        ({"neutral": np.zeros((67, 3))}, r"neutral must have shape \(68, 3\)"),
        ({"neutral": np.full((68, 3), np.nan)}, "neutral has 204"),
        ({"lips": []}, "lips must be a list"),
        ({"lips": [68]}, r"lips must lie in 0\.\.67"),
        ({"upper": [-1]}, "upper must lie"),
        ({"upper": [0.5]}, "upper must be a list"),
        ({"fps": 0.0}, "fps"),
        ({"fps": float("nan")}, "fps"),
    ],
)
def test_what_cannot_be_compared_is_said(changes: dict, message: str) -> None:
    arrays = {"motion": np.zeros((10, 68, 3)), "truth": np.zeros((10, 68, 3))}
    options = {"lips": MOUTH, "upper": UPPER, "neutral": np.zeros((68, 3)), "fps": FPS}
    with pytest.raises(ValueError, match=message):
        compare(**{**arrays, **options, **changes})


@pytest.mark.parametrize("frames", [0, 1, 2])
def test_too_short_a_clip_is_said(frames: int) -> None:
    points = np.zeros((frames, 68, 3))
    with pytest.raises(ValueError, match=f"{frames} frames; this figure needs at least 3"):
        against(points, points)
