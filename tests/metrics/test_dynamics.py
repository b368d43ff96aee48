"""Figures of life on curves whose blinks, speed and energy are known."""

from __future__ import annotations

import numpy as np
import pytest
from metric_faces import FPS, landmarks, rest, talking

from facetalk.data.expressions import EXPRESSION_NAMES, INDEX
from facetalk.metrics import dynamics
from facetalk.metrics.controls import controls
from facetalk.metrics.dynamics import blink_figures, fast_energy


def lives(weights: np.ndarray) -> dict[str, float]:
    return dynamics(weights, EXPRESSION_NAMES, landmarks(weights), FPS)


def test_blinks_are_counted_and_measured() -> None:
    weights = np.zeros((250, 53))  # 10 s
    for start, depth in ((20, 1.0), (100, 0.6), (200, 0.8)):
        for side in ("_L", "_R"):
            # One frame up, two frames down: above half of the peak for 1.5 frames.
            weights[start : start + 3, INDEX["eyeBlink" + side]] = 0.0, depth, depth / 2
    weights[150:160, INDEX["eyeBlink_L"]] = 0.9  # a wink is half a blink: 0.45
    weights[180:185, [INDEX["eyeBlink_L"], INDEX["eyeBlink_R"]]] = 0.23  # lids after a lowered gaze
    found = lives(weights)
    assert found["blinks"] == 3 and found["blinks_per_minute"] == pytest.approx(18.0)
    assert found["blink_depth"] == pytest.approx(0.8)
    assert found["blink_duration_ms"] == pytest.approx(1.5 * 40.0)


def test_a_blink_that_is_cut_off_has_no_duration() -> None:
    closure = np.zeros(50)
    closure[45:] = 1.0
    found = blink_figures(closure, FPS)
    assert found["blinks"] == 1 and found["blink_depth"] == 1.0 and np.isnan(found["blink_duration_ms"])


def test_no_blink_has_no_depth() -> None:
    found = lives(np.zeros((50, 53)))
    assert found["blinks_per_minute"] == 0.0 and np.isnan(found["blink_depth"])


def test_speed_acceleration_and_jerk_of_a_known_motion() -> None:
    weights = np.zeros((100, 53))
    points = np.repeat(rest()[None], 100, axis=0)
    points[:, 48:68, 0] += 0.001 * np.arange(100)[:, None]  # 1 mm a frame
    found = dynamics(weights, EXPRESSION_NAMES, points, FPS)
    assert found["mouth_speed"] == pytest.approx(25.0) and found["upper_speed"] == 0.0
    assert found["mouth_acceleration"] == pytest.approx(0.0, abs=1e-6)
    points = np.repeat(rest()[None], 100, axis=0)
    points[:, 17:27, 1] += 1e-6 * np.arange(100)[:, None] ** 3
    found = dynamics(weights, EXPRESSION_NAMES, points, FPS)
    assert found["upper_jerk"] == pytest.approx(6e-3 * FPS**3 * 10 / 22, rel=1e-6)  # 10 of 22 points
    assert found["mouth_jerk"] == pytest.approx(0.0, abs=1e-3)


def test_spread_and_fast_energy_of_a_known_wave() -> None:
    t = np.arange(250) / FPS
    points = np.zeros((250, 68, 3))
    points[:, 36:48, 1] = 0.001 * (3 * np.sin(2 * np.pi * 2 * t) + 2 * np.sin(2 * np.pi * 8 * t))[:, None]
    found = dynamics(np.zeros((250, 53)), EXPRESSION_NAMES, points, FPS)
    assert found["lids_spread_mm"] == pytest.approx(np.sqrt(9 / 2 + 4 / 2), rel=1e-6)
    assert found["lids_fast_mm2"] == pytest.approx(4 / 2, rel=0.01)
    assert found["brows_spread_mm"] == 0.0 and found["mouth_fast_mm2"] == 0.0


def test_a_slow_motion_that_does_not_close_on_itself_is_not_fast() -> None:
    t = np.arange(80) / FPS
    slow = 20.0 * t + 5.0 * np.sin(2 * np.pi * 1.3 * t + 0.7)
    assert fast_energy(np.repeat(slow[:, None, None], 3, axis=2), FPS) < 0.01


@pytest.mark.parametrize(("hertz", "counted"), [(4.7, 0.0), (5.3, 1.0)])
def test_fast_begins_at_5_hz(hertz: float, counted: float) -> None:
    wave = np.sin(2 * np.pi * hertz * np.arange(250) / FPS)[:, None, None]
    assert fast_energy(np.repeat(wave, 3, axis=2), FPS) == pytest.approx(3 / 2 * counted, abs=0.01)


def test_a_face_that_drifts_evenly_is_not_fast() -> None:
    drift = np.arange(80.0)[:, None, None] * np.array([40.0, -3.0, 0.2])
    assert fast_energy(drift, FPS) < 1e-12 * float(drift.var())


def test_fast_energy_needs_the_frame_rate() -> None:
    assert np.isnan(fast_energy(np.zeros((50, 3, 3)), 10.0))


def test_the_controls_show() -> None:
    weights = talking(500)
    model = lives(weights)
    rows = {name: lives(row) for name, row in controls(weights, EXPRESSION_NAMES, 0).items()}
    assert all(v == pytest.approx(0.0, abs=1e-6) or np.isnan(v) for v in rows["rest"].values())
    assert rows["shuffled"]["mouth_jerk"] > 5 * model["mouth_jerk"]
    assert rows["shuffled"]["mouth_spread_mm"] == pytest.approx(model["mouth_spread_mm"])
    assert rows["delayed"]["blinks"] == model["blinks"]
    for name in ("blinks_per_minute", "brow_sd", "gaze_sd", "upper_speed", "lids_spread_mm"):
        assert rows["frozen"][name] == pytest.approx(0.0, abs=1e-9) and model[name] > 0.01
    assert rows["frozen"]["mouth_jerk"] == model["mouth_jerk"]
    for name in ("mouth_speed", "mouth_jerk", "mouth_fast_mm2", "lids_fast_mm2", "upper_speed", "gaze_sd"):
        assert rows["smoothed"][name] < 0.95 * model[name]
    assert rows["smoothed"]["blinks"] < model["blinks"]
    for name in ("mouth_speed", "upper_acceleration", "brow_sd", "lids_spread_mm", "blink_depth"):
        assert rows["doubled"][name] == pytest.approx(2 * model[name])


def test_a_model_without_such_weights_is_not_measured_by_them() -> None:
    found = dynamics(np.zeros((20, 2)), ["a", "b"], np.zeros((20, 68, 3)), FPS)
    assert all(np.isnan(found[n]) for n in ("blinks_per_minute", "blink_depth", "brow_sd", "gaze_sd"))
    assert found["mouth_speed"] == 0.0


@pytest.mark.parametrize(
    ("weights", "points", "message"),
    [
        (np.zeros((10, 52)), np.zeros((10, 68, 3)), r"\(10, 53\)"),
        (np.zeros((9, 53)), np.zeros((10, 68, 3)), r"\(10, 53\)"),
        (np.zeros((3, 53)), np.zeros((3, 68, 3)), "needs at least 4"),
        (np.full((10, 53), np.nan), np.zeros((10, 68, 3)), "expressions has 530"),
        (np.zeros((10, 53)), np.zeros((10, 51, 3)), r"\(T, 68, 3\)"),
        (np.zeros((10, 53)), np.full((10, 68, 3), np.inf), "landmarks has 2040"),
    ],
)
def test_wrong_arrays_are_named(weights: np.ndarray, points: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dynamics(weights, EXPRESSION_NAMES, points, FPS)
