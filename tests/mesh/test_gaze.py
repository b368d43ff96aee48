"""Eyes of the built-in head: scripts/check_gaze.py, which measures how rigid they are, and whose they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from facetalk.motion import Motion
from facetalk.pipeline import FaceTalk
from facetalk.posing import rigged
from facetalk.units import GAZE_RADIANS_PER_WEIGHT

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))


def test_a_rigid_motion_is_found_to_be_one_and_one_of_first_order_is_not() -> None:
    from check_gaze import nearest_rigid

    rng = np.random.default_rng(0)
    arm = rng.normal(size=(500, 3))
    arm *= 0.015 / np.linalg.norm(arm, axis=1, keepdims=True)
    angle = np.radians(20.0)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    degrees, distance = nearest_rigid(arm, arm @ turn.T + np.array([0.01, -0.02, 0.03]))
    assert degrees == pytest.approx(20.0, abs=1e-6) and distance < 1e-8
    # A displacement of axis x arm turns by atan(angle) and swells by sqrt(1 + angle^2) across the axis.
    degrees, distance = nearest_rigid(arm, arm + np.cross([0.0, angle, 0.0], arm))
    swelling = np.sqrt(1.0 + angle**2) - 1.0
    assert degrees == pytest.approx(np.degrees(np.arctan(angle)), abs=0.1)
    assert distance == pytest.approx(0.015 * swelling, rel=0.05)


@pytest.fixture(scope="module")
def model() -> FaceTalk:
    return FaceTalk.from_pretrained("default", "cpu")


def test_eyes_of_the_built_in_head_are_rigid_however_far_they_turn(model: FaceTalk) -> None:
    from check_gaze import full_gazes, report

    rig = full_gazes(model)
    angles, distances = report(rig)
    assert distances.max() < 1e-4, "mm"
    degrees = np.degrees(GAZE_RADIANS_PER_WEIGHT)
    np.testing.assert_allclose(angles.reshape(2, 5), [[0.0, *[degrees] * 4]] * 2, atol=0.01)


def test_no_other_shape_moves_an_eye(model: FaceTalk) -> None:
    rig = model.decode(Motion(np.eye(56, 53, dtype=np.float32), 25.0, np.zeros(0, np.float32), {}))
    assert [eye.name for eye in rig.eyes] == ["leftEye", "rightEye"] and rig.names is not None
    rig.weights = np.eye(56, dtype=np.float32)
    for eye, side in zip(rig.eyes, ("Left", "Right"), strict=True):
        moved = np.abs(rig.positions()[:, eye.rows] - rig.base.vertices[eye.rows]).max(axis=(1, 2)) > 1e-7
        shapes = [name for name, moves in zip(rig.names, moved, strict=True) if moves]
        assert shapes == [f"eyeLook{way}{side}" for way in ("Down", "In", "Out", "Up")]
    # Up is where y grows, out and in are to an eye's own sides.
    front = [eye.rows[rig.base.vertices[eye.rows, 2].argmax()] for eye in rig.eyes]
    went = rig.positions()[:, front] - rig.base.vertices[front]
    for number, (side, out) in enumerate((("Left", 1.0), ("Right", -1.0))):
        for way, axis, sign in (("Up", 1, 1.0), ("Down", 1, -1.0), ("Out", 0, out), ("In", 0, -out)):
            assert sign * went[rig.names.index(f"eyeLook{way}{side}"), number, axis] > 0.004, way


def test_lids_stay_in_front_of_eyes_that_turn(model: FaceTalk) -> None:
    """Eyes that swelled got 2 mm into them."""
    from check_gaze import depths, full_gazes

    found = depths(model, full_gazes(model))
    assert found[0] < 0.4 and found[1:].max() < 0.6, found


def test_smoothing_leaves_eyes_rigid(model: FaceTalk) -> None:
    weights = np.random.default_rng(0).random((2, 53)).astype(np.float32)
    motion = Motion(weights, 25.0, model.head.default_identity, {})
    smooth, rough = (rigged(model.head, motion, way) for way in (model.facial_smoothing, None))
    rows = np.concatenate([eye.rows for eye in smooth.eyes])
    np.testing.assert_array_equal(smooth.positions()[:, rows], rough.positions()[:, rows])
    assert np.abs(smooth.positions() - rough.positions()).max() > 1e-4


def test_other_identities_turn_about_eyes_of_their_own(model: FaceTalk) -> None:
    code = model.head.encode_identity(np.random.default_rng(3).normal(size=model.head.coefficient_dim))
    for detail in ("high", "low"):
        weights = np.random.default_rng(0).random((2, 53)).astype(np.float32)
        rig = model.decode(Motion(weights, 25.0, code, {}), detail=detail)
        for eye, place in zip(rig.eyes, model.head.bind(code).eyeballs()[0], strict=True):
            np.testing.assert_allclose(eye.centre, 0.25 * place, atol=1e-7)
            away = np.linalg.norm(rig.positions()[:, eye.rows] - eye.centre, axis=2)
            assert np.ptp(away, axis=0).max() < 1e-7 and np.ptp(away) < 0.0015, "a sphere with a cornea"
