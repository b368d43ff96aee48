"""Takes of Live Link Face, read as comma-separated values against the columns of the app's own."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from facetalk.cli import main
from facetalk.data.expressions import EXPRESSION_NAMES, INDEX
from facetalk.live.audio2face import write_audio2face
from facetalk.live.take import write_take
from facetalk.mesh.pose import quaternions
from facetalk.motion import Motion

# The header of a take of the app, version 1.1.1.
COLUMNS = (
    "Timecode,BlendShapeCount,EyeBlinkLeft,EyeLookDownLeft,EyeLookInLeft,EyeLookOutLeft,EyeLookUpLeft,"
    "EyeSquintLeft,EyeWideLeft,EyeBlinkRight,EyeLookDownRight,EyeLookInRight,EyeLookOutRight,EyeLookUpRight,"
    "EyeSquintRight,EyeWideRight,JawForward,JawRight,JawLeft,JawOpen,MouthClose,MouthFunnel,MouthPucker,"
    "MouthRight,MouthLeft,MouthSmileLeft,MouthSmileRight,MouthFrownLeft,MouthFrownRight,MouthDimpleLeft,"
    "MouthDimpleRight,MouthStretchLeft,MouthStretchRight,MouthRollLower,MouthRollUpper,MouthShrugLower,"
    "MouthShrugUpper,MouthPressLeft,MouthPressRight,MouthLowerDownLeft,MouthLowerDownRight,MouthUpperUpLeft,"
    "MouthUpperUpRight,BrowDownLeft,BrowDownRight,BrowInnerUp,BrowOuterUpLeft,BrowOuterUpRight,CheekPuff,"
    "CheekSquintLeft,CheekSquintRight,NoseSneerLeft,NoseSneerRight,TongueOut,HeadYaw,HeadPitch,HeadRoll,"
    "LeftEyeYaw,LeftEyePitch,LeftEyeRoll,RightEyeYaw,RightEyePitch,RightEyeRoll"
)


def motion(frames: int = 50, **curves: float) -> Motion:
    codes = np.zeros((frames, len(EXPRESSION_NAMES)), np.float32)
    for name, value in curves.items():
        codes[:, INDEX[name]] = value
    return Motion(codes, 25.0)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_header_is_the_apps_and_every_row_is_whole(tmp_path: Path) -> None:
    path = write_take(tmp_path / "take.csv", motion(), EXPRESSION_NAMES)
    assert path.read_text().splitlines()[0] == COLUMNS
    found = rows(path)
    assert len(found) == 120, "two seconds at 60 rows a second"
    assert {len(row) for row in found} == {63} and {row["BlendShapeCount"] for row in found} == {"61"}
    assert [found[i]["Timecode"] for i in (0, 59, 60, 119)] == [
        "00:00:00:00.000", "00:00:00:59.000", "00:00:01:00.000", "00:00:01:59.000",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fps", "row", "code"),
    [
        (29.97, 30, "00:00:01:00.000"),
        (30000 / 1001, 1800, "00:01:00:00.000"),
        (23.98, 25, "00:00:01:01.000"),
        (7.0001, 7, "00:00:01:00.000"),
        (12.5, 1, "00:00:00:01.040"),
        (12.5, 25, "00:00:02:00.000"),
        (12.5, 3750, "00:05:00:00.000"),
        (1.5, 5, "00:00:03:00.667"),
    ],
)
def test_the_time_code_keeps_to_the_clock_but_for_rates_of_video(
    tmp_path: Path, fps: float, row: int, code: str
) -> None:
    take = motion(25 * 310 if row > 1000 else 100)
    assert rows(write_take(tmp_path / "t.csv", take, EXPRESSION_NAMES, fps=fps))[row]["Timecode"] == code


def test_values_lie_under_their_names(tmp_path: Path) -> None:
    curves = {"jawLeft": 0.1, "jawRight": 0.2, "mouthLeft": 0.3, "mouthRight": 0.4, "jawOpen": 0.5,
              "browInnerUp_L": 0.4, "browInnerUp_R": 0.2, "eyeLookDown_L": 0.33}  # fmt: skip
    row = rows(write_take(tmp_path / "take.csv", motion(3, **curves), EXPRESSION_NAMES))[4]
    expected = {"JawLeft": 0.1, "JawRight": 0.2, "MouthLeft": 0.3, "MouthRight": 0.4, "JawOpen": 0.5,
                "BrowInnerUp": 0.3, "EyeLookDownLeft": 0.33, "LeftEyePitch": math.radians(10.0)}  # fmt: skip
    found = {name: float(value) for name, value in row.items() if name != "Timecode"}
    del found["BlendShapeCount"]
    assert {name: value for name, value in found.items() if value} == pytest.approx(expected, abs=1e-6)


def test_rows_keep_the_time_of_the_sound(tmp_path: Path) -> None:
    """A frame's value is that of its middle, (i + 0.5) / fps seconds after the start."""
    take = motion(50)
    take.expressions[:, INDEX["jawOpen"]] = (np.arange(50) + 0.5) / 25.0 / 2.0  # half the seconds
    found = [float(row["JawOpen"]) for row in rows(write_take(tmp_path / "t.csv", take, EXPRESSION_NAMES))]
    np.testing.assert_allclose(found[2:118], np.arange(2, 118) / 60.0 / 2.0, atol=1e-6)
    assert found[0] == pytest.approx(0.01)


def test_silence_around_the_recording_is_left_out(tmp_path: Path) -> None:
    take = motion(50)
    take.expressions[:, INDEX["jawOpen"]] = (np.arange(50) + 0.5) / 25.0 / 2.0
    take.provenance["pad"] = [0.2, 0.4]
    found = [float(row["JawOpen"]) for row in rows(write_take(tmp_path / "t.csv", take, EXPRESSION_NAMES))]
    np.testing.assert_allclose(found, (np.arange(84) / 60.0 + 0.2) / 2.0, atol=1e-6)


def test_a_head_that_moves_has_its_angles_and_its_joint(tmp_path: Path) -> None:
    take = motion(50)
    ramp = (np.arange(50, dtype=np.float32) + 0.5) / 25.0
    take = dataclasses.replace(take, pose=np.outer(ramp, [0.1, 0.2, -0.05, 10.0, 0.0, 0.0]))
    found = rows(write_take(tmp_path / "t.csv", take, EXPRESSION_NAMES))[60]
    assert [float(found[f"Head{name}"]) for name in ("Yaw", "Pitch", "Roll")] == pytest.approx(
        [0.2, 0.1, -0.05]
    )
    export = json.loads(write_audio2face(tmp_path / "t.json", take, EXPRESSION_NAMES).read_text())
    assert export["joints"] == ["head"]
    turn, way = (np.array(export[name])[:, 0] for name in ("rotations", "translations"))
    np.testing.assert_allclose(turn[30], quaternions([[0.1, 0.2, -0.05, 0, 0, 0]])[0], atol=1e-5)
    np.testing.assert_allclose(way[30], [0.01, 0.0, 0.0], atol=1e-6)
    still = json.loads(write_audio2face(tmp_path / "s.json", motion(50), EXPRESSION_NAMES).read_text())
    assert still["joints"] == [] and not any(still["rotations"]) and not any(still["translations"])


def test_a_tongue_that_is_out_is_told(tmp_path: Path) -> None:
    ramp = (np.arange(50, dtype=np.float32) + 0.5) / 50.0
    take = dataclasses.replace(motion(50), tongue=np.outer(ramp, [0.9, 0.8, 0.5]))
    found = rows(write_take(tmp_path / "t.csv", take, EXPRESSION_NAMES))
    assert float(found[60]["TongueOut"]) == pytest.approx(0.25, abs=1e-3)
    export = json.loads(write_audio2face(tmp_path / "t.json", take, EXPRESSION_NAMES).read_text())
    out = np.array(export["weightMat"])[:, export["facsNames"].index("tongueOut")]
    np.testing.assert_allclose(out[5:55], np.arange(5, 55) / 30.0 / 4.0, atol=1e-5)
    still = rows(write_take(tmp_path / "s.csv", motion(50), EXPRESSION_NAMES))
    assert {row["TongueOut"] for row in still} == {"0.0000000000"}


def test_export_writes_a_take(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored = motion(10, jawOpen=0.25).save(tmp_path / "talk.safetensors")
    out = tmp_path / "take.csv"
    assert main(["export", str(stored), "-o", str(out)]) == 0
    assert rows(out)[7]["JawOpen"] == "0.2500000000"
    for more in (["--topology", "fixed"], ["--audio", "x.wav"], ["--force"]):
        assert main(["export", str(stored), "-o", str(tmp_path / "other.csv"), *more]) == 2
        assert more[0] in capsys.readouterr().err
    assert not (tmp_path / "other.csv").exists()
    assert main(["export", str(stored), "-o", str(tmp_path / "no" / "take.csv")]) == 2
