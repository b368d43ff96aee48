"""Expressions as ARKit's blendshapes: every shape lands where its name says."""

from __future__ import annotations

import json
from importlib.resources import files

import numpy as np
import pytest

from facetalk.data.arkit import ANGLE_NAMES, ARKIT_NAMES, ArkitFace
from facetalk.data.expressions import EXPRESSION_NAMES, INDEX
from facetalk.errors import InputError
from facetalk.units import GAZE_RADIANS_PER_WEIGHT


def one(name: str, weight: float = 1.0) -> np.ndarray:
    codes = np.zeros((1, len(EXPRESSION_NAMES)), np.float32)
    codes[0, INDEX[name]] = weight
    return codes


def shown(codes: np.ndarray) -> dict[str, float]:
    weights, _ = ArkitFace(EXPRESSION_NAMES)(codes)
    return {name: float(w) for name, w in zip(ARKIT_NAMES, weights[0], strict=True) if w}


def test_there_are_52_names_and_49_are_the_heads_own() -> None:
    assert len(set(ARKIT_NAMES)) == 52 and len(ANGLE_NAMES) == 9
    single = [name for name in EXPRESSION_NAMES if len(set(shown(one(name)).values()) & {1.0}) == 1]
    assert len(single) == 49


@pytest.mark.parametrize(
    ("name", "arkit", "weight"),
    [
        ("jawOpen", "jawOpen", 1.0),
        ("jawLeft", "jawLeft", 1.0),
        ("mouthRight", "mouthRight", 1.0),
        ("eyeBlink_L", "eyeBlinkLeft", 1.0),
        ("mouthUpperUp_R", "mouthUpperUpRight", 1.0),
        ("browInnerUp_L", "browInnerUp", 0.5),
        ("cheekPuff_R", "cheekPuff", 0.5),
    ],
)
def test_a_shape_goes_by_its_name(name: str, arkit: str, weight: float) -> None:
    assert shown(one(name)) == {arkit: weight}


def test_halves_make_a_whole_and_nothing_moves_the_tongue() -> None:
    assert shown(one("browInnerUp_L") + one("browInnerUp_R")) == {"browInnerUp": 1.0}
    weights, _ = ArkitFace(EXPRESSION_NAMES)(np.ones((1, 53), np.float32))
    assert weights[0, ARKIT_NAMES.index("tongueOut")] == 0.0
    assert weights.sum() == 51.0


def test_weights_stay_within_what_receivers_take() -> None:
    assert shown(one("jawOpen", 1.7)) == {"jawOpen": 1.0}
    assert shown(one("jawOpen", -0.3)) == {}


@pytest.mark.parametrize(
    ("name", "angle", "sign"),
    [
        ("eyeLookOut_L", "leftEyeYaw", 1), ("eyeLookIn_L", "leftEyeYaw", -1),
        ("eyeLookIn_R", "rightEyeYaw", 1), ("eyeLookOut_R", "rightEyeYaw", -1),
        ("eyeLookDown_L", "leftEyePitch", 1), ("eyeLookUp_R", "rightEyePitch", -1),
    ],
)  # fmt: skip
def test_eyes_turn_by_angles(name: str, angle: str, sign: int) -> None:
    _, angles = ArkitFace(EXPRESSION_NAMES)(one(name, 0.33))
    turned = {key: float(a) for key, a in zip(ANGLE_NAMES, angles[0], strict=True) if a}
    assert turned == pytest.approx({angle: sign * np.deg2rad(10.0)}, rel=1e-5)


def test_the_head_turns_by_its_pose() -> None:
    codes = np.zeros((2, len(EXPRESSION_NAMES)), np.float32)
    _, angles = ArkitFace(EXPRESSION_NAMES)(codes, np.array([[0.1, 0.2, 0.3, 9, 9, 9]] * 2, np.float32))
    turned = {key: float(a) for key, a in zip(ANGLE_NAMES, angles[1], strict=True) if a}
    assert turned == pytest.approx({"headPitch": 0.1, "headYaw": 0.2, "headRoll": 0.3})


def test_the_tongue_that_is_out_has_a_name() -> None:
    codes, tongue = np.zeros((2, len(EXPRESSION_NAMES)), np.float32), np.array([[0.9, 0.8, 0.3]] * 2)
    weights, _ = ArkitFace(EXPRESSION_NAMES)(codes, None, tongue)
    assert weights[1, ARKIT_NAMES.index("tongueOut")] == np.float32(0.3)
    assert np.count_nonzero(weights) == 2, "of what the tip does inside the mouth ARKit has no name"


def test_the_table_of_gaze_has_the_same_scale() -> None:
    rules = json.loads((files("facetalk.data") / "visemes.json").read_text(encoding="utf-8"))
    assert np.deg2rad(1.0 / rules["gaze"]["deg_to_weight"]) == pytest.approx(GAZE_RADIANS_PER_WEIGHT)


def test_names_may_be_in_any_order_and_arkits_own() -> None:
    face = ArkitFace(["mystery", "tongueOut", "mouthSmileLeft", "cheekPuff"])
    weights, _ = face(np.array([[9.0, 0.1, 0.2, 0.3]], np.float32))
    found = dict(zip(ARKIT_NAMES, weights[0], strict=True))
    assert [found[n] for n in ("tongueOut", "mouthSmileLeft", "cheekPuff")] == pytest.approx([0.1, 0.2, 0.3])


def test_codes_that_are_no_faces_are_refused() -> None:
    with pytest.raises(InputError, match="name"):
        ArkitFace(["pc_0", "pc_1"])
    with pytest.raises(InputError, match="shape"):
        ArkitFace(EXPRESSION_NAMES)(np.zeros((2, 5), np.float32))
