"""Why eyes of a .glb turn by morph targets: scripts/check_gaze.py, which measures how rigid they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from facetalk.motion import Motion
from facetalk.pipeline import FaceTalk

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


def test_eyes_of_the_built_in_head_are_rigid_only_while_they_turn_little() -> None:
    from check_gaze import report

    model = FaceTalk.from_pretrained("default", "cpu")
    rig = model.decode(Motion(np.zeros((2, 53), np.float32), 25.0, np.zeros(0, np.float32), {}))
    up = [rig.names.index(f"eyeLookUp{side}") for side in ("Left", "Right")]
    rig.weights[0, up], rig.weights[1, up] = 0.05, 1.0
    _, distances = report(rig)
    assert (distances[[0, 2]] < 0.1).all(), "if it fails, the eyes do not turn about a centre at all"
    assert (distances[[1, 3]] > 1.0).all(), "eyes turn rigidly now: make them nodes, and mend docs/formats.md"
