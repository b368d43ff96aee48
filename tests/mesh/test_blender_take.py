"""What the Blender add-on knows without Blender: takes, names and turns, beside facetalk's own."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from addon import addon_module

from facetalk.data import arkit
from facetalk.data.curve_files import read_curve_file
from facetalk.data.expressions import EXPRESSION_NAMES
from facetalk.live.audio2face import write_audio2face
from facetalk.live.take import arkit_curves, curve_times, write_take
from facetalk.mesh.arkit import ARKIT_NAMES, HALVES
from facetalk.mesh.pose import quaternions, rotations
from facetalk.motion import Motion
from facetalk.style import RANGES, Style
from facetalk.units import GAZE_RADIANS_PER_WEIGHT

names, take, turns, speech = map(addon_module, ("names", "take", "turns", "speech"))


@pytest.fixture(scope="module")
def motion() -> Motion:
    """Three seconds of a face, and of a head that turns about all axes."""
    random = np.random.default_rng(3)
    swing = np.sin(np.arange(75)[:, None] * random.uniform(0.05, 0.3, 53) + random.uniform(0, 6, 53))
    pose = np.zeros((75, 6), np.float32)
    pose[:, :3] = 0.3 * np.sin(np.arange(75)[:, None] * (0.07, 0.11, 0.19))
    return Motion((0.45 + 0.45 * swing).astype(np.float32), 25.0, pose=pose)


def test_what_it_knows_is_what_facetalk_knows() -> None:
    assert names.ARKIT_NAMES == ARKIT_NAMES
    assert names.ANGLE_NAMES == arkit.ANGLE_NAMES
    assert {half: whole for whole, halves in names.HALVES.items() for half in halves} == HALVES
    assert take.GAZE_RADIANS == GAZE_RADIANS_PER_WEIGHT
    assert {name: slider[:2] for name, slider in speech.SLIDERS.items()} == RANGES
    assert {name: slider[2] for name, slider in speech.SLIDERS.items()} == dataclasses.asdict(Style())


@pytest.mark.parametrize("fps", [12.5, 24.0, 25.0, 30 / 1.001, 60.0])
def test_an_export_is_read_to_the_last_digit(tmp_path: Path, motion: Motion, fps: float) -> None:
    path = write_audio2face(tmp_path / "talk.json", motion, EXPRESSION_NAMES, fps=fps)
    found = take.read_take(path)
    weights, angles = arkit_curves(motion, EXPRESSION_NAMES, fps)
    assert found.rate == fps and tuple(found.weights) == ARKIT_NAMES
    np.testing.assert_allclose(np.stack(list(found.weights.values()), axis=1), weights, atol=1e-6)
    head = quaternions(motion.pose_at(curve_times(motion, fps), fps=fps))[:, [3, 0, 1, 2]]
    np.testing.assert_allclose(found.turns["head"], head, atol=2e-6)
    # A file of this form has no angles of eyes; their weights say as much.
    for joint, first in (("leftEye", 3), ("rightEye", 6)):
        expected = turns.from_angles(*angles[:, first : first + 3].T)
        np.testing.assert_allclose(found.turns[joint], expected, atol=2e-6)
    # At the rate of the file nothing is resampled.
    again = found.at_rate(fps)
    np.testing.assert_allclose(again.times, np.arange(len(weights)) / fps)
    np.testing.assert_allclose(again.weights["jawOpen"], found.weights["jawOpen"], atol=1e-9)


@pytest.mark.parametrize("fps", [24.0, 25.0, 30 / 1.001, 60.0])
def test_a_take_is_read_as_facetalk_reads_it(tmp_path: Path, motion: Motion, fps: float) -> None:
    path = write_take(tmp_path / "talk.csv", motion, EXPRESSION_NAMES, fps=fps)
    found = take.read_take(path, 0.0 if fps == round(fps) else fps)
    theirs = read_curve_file(path)
    assert found.rate == pytest.approx(fps, rel=1e-9)
    np.testing.assert_allclose(found.times, np.arange(len(theirs.values)) / fps, atol=1e-9)
    for name, curve in found.weights.items():
        np.testing.assert_allclose(curve, theirs.values[:, theirs.names.index(name)], atol=1e-6)
    pose = motion.pose_at(curve_times(motion, fps), fps=fps)
    assert pose is not None
    for matrix, turn in zip(rotations(pose), found.turns["head"], strict=True):
        np.testing.assert_allclose(_matrix(turn), matrix, atol=1e-6)


def _matrix(turn: np.ndarray) -> np.ndarray:
    """Where a turn takes the axes: q v q*, as columns."""
    around = np.broadcast_to(turn * (1, -1, -1, -1), (3, 4))
    points = np.concatenate([np.zeros((3, 1)), np.eye(3)], axis=1)
    return turns.product(turns.product(np.broadcast_to(turn, (3, 4)), points), around)[:, 1:].T


def test_rows_that_the_camera_dropped_leave_a_gap(tmp_path: Path, motion: Motion) -> None:
    path = write_take(tmp_path / "talk.csv", motion, EXPRESSION_NAMES)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:50] + lines[53:]))
    found = take.read_take(path)
    assert found.rate == pytest.approx(60.0) and len(found.times) == 177
    assert found.times[49] - found.times[48] == pytest.approx(4 / 60)
    assert len(found.at_rate(30.0).times) == 90


def test_every_other_number_is_half_the_rate(tmp_path: Path, motion: Motion) -> None:
    """As the app records at 30 with a time code of 60, from the time of the day on, under other names."""
    path = write_take(tmp_path / "talk.csv", motion, EXPRESSION_NAMES)
    lines = path.read_text().splitlines()
    rows = [row.replace("00:00:0", "17:59:5", 1) for row in lines[1::2]]
    path.write_text("\ufeff" + "\n".join([lines[0].upper(), *rows]) + "\n", encoding="utf-8")
    found = take.read_take(path)
    assert found.rate == pytest.approx(30.0) and found.seconds == pytest.approx(3.0)
    assert tuple(found.weights) == ARKIT_NAMES


def test_a_head_that_keeps_still_turns_nothing(tmp_path: Path) -> None:
    still = Motion(np.zeros((10, 53), np.float32), 25.0)
    for write, name in ((write_take, "s.csv"), (write_audio2face, "s.json")):
        assert take.read_take(write(tmp_path / name, still, EXPRESSION_NAMES)).turns == {}


def test_frames_lie_straight_between_rows() -> None:
    curve = np.array([0.0, 1.0, 0.0])
    found = take.Take(np.array([0.0, 0.5, 1.0]), 2.0, {"jawOpen": curve}, {}).at_rate(4.0)
    np.testing.assert_allclose(found.weights["jawOpen"], [0.0, 0.5, 1.0, 0.5, 0.0, 0.0])


def csv_of(path: Path, **columns: str) -> Path:
    """A take of three rows, columns as given (a column of None is left out)."""
    table = {"Timecode": "00:00:00:00 00:00:00:01 00:00:00:02", "JawOpen": "0 0.5 1", **columns}
    rows = zip(*(cells.split(" ") for cells in table.values() if cells), strict=True)
    path.write_text("\n".join(map(",".join, [[name for name, cells in table.items() if cells], *rows])))
    return path


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"JawOpen": "0 x 1"}, "could not convert"),
        ({"JawOpen": "0 nan 1"}, "jawOpen has a value of nan"),
        ({"JawOpen": "0 50 100"}, "weight of 1 is the whole"),
        ({"HeadYaw": "0 45 90"}, "angles are radians"),
        ({"JawOpen": ""}, "no curve|none of its curves"),
        ({"jawopen": "0 0 0"}, "jawOpen is there twice"),
        ({"Timecode": ""}, "no Timecode"),
        ({"Timecode": "00:00:00:00 00:00:00:02 00:00:00:01"}, "do not go on"),
        ({"Timecode": "00:00:00 00:00:01 00:00:02"}, "no time code"),
        ({"Timecode": "0 1 inf"}, "do not go on"),
        ({"Timecode": "0 1e-9 2e-9"}, "rows a second"),
    ],
)
def test_a_damaged_take_is_told_in_a_line(tmp_path: Path, columns: dict[str, str], why: str) -> None:
    with pytest.raises(take.TakeError, match=why) as told:
        take.read_take(csv_of(tmp_path / "talk.csv", **columns))
    assert "talk.csv" in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"exportFps": 0}, "exportFps"),
        ({"exportFps": True}, "exportFps"),
        ({"exportFps": 1e9}, "rows a second"),
        ({"exportFps": None}, "exportFps"),
        ({"facsNames": "jawOpen"}, "facsNames"),
        ({"facsNames": ["jawOpen", "JawOpen"]}, "twice"),
        ({"facsNames": ["jawOpen", "nobody", "third"]}, "not 3 numbers"),
        ({"facsNames": ["nobody", "this"]}, "none of its curves"),
        ({"weightMat": []}, "no rows"),
        ({"weightMat": [[0, 0], [0]]}, "not 2 numbers"),
        ({"weightMat": [[0, 0], [0, "x"]]}, "could not convert"),
        ({"weightMat": [[0, 0], [0, [1]]]}, "damaged"),
        ({"weightMat": [[float("nan"), 0], [0, 0]]}, "nan"),
        ({"rotations": [[[0, 0, 0, 1]]]}, "not 2 rows"),
        ({"rotations": [[[0, 0, 0, 1]], [[0, 0, 0, 0]]]}, "unit quaternion"),
        ({"rotations": [[[0, 0, 0, 1]], []]}, "damaged"),
    ],
)
def test_a_damaged_export_is_told_in_a_line(tmp_path: Path, changes: dict[str, object], why: str) -> None:
    whole = {"exportFps": 25, "facsNames": ["jawOpen", "jawLeft"], "weightMat": [[0, 0], [1, 0]],
             "joints": ["head"], "rotations": [[[0, 0, 0, 1]], [[0, 0, 1, 0]]]}  # fmt: skip
    path = tmp_path / "talk.json"
    path.write_text(json.dumps(whole))
    assert take.read_take(path).turns["head"].tolist() == [[1, 0, 0, 0], [0, 0, 0, 1]]
    path.write_text(json.dumps({**whole, **changes}))
    with pytest.raises(take.TakeError, match=why) as told:
        take.read_take(path)
    assert "talk.json" in str(told.value) and "\n" not in str(told.value)


def test_what_is_cut_anywhere_is_a_take_or_told(tmp_path: Path, motion: Motion) -> None:
    for write, end in ((write_take, ".csv"), (write_audio2face, ".json")):
        content = write(tmp_path / f"whole{end}", motion, EXPRESSION_NAMES).read_bytes()
        path = tmp_path / f"cut{end}"
        for length in [*range(0, 1000, 37), *range(1000, len(content), len(content) // 40)]:
            path.write_bytes(content[:length])
            try:
                take.read_take(path)
            except take.TakeError as error:
                assert "\n" not in str(error)
    for name, content in (("a.csv", b"\xff\xfe\x00"), ("a.json", b"[" * 100_000), ("a.json", b"[1]")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(take.TakeError):
            take.read_take(tmp_path / name)
    for missing in ("none.csv", "none.wav"):
        with pytest.raises(take.TakeError, match=r"No such file|is no take: expected \.csv or \.json"):
            take.read_take(tmp_path / missing)


def test_a_rate_that_would_do_nothing_is_refused(tmp_path: Path, motion: Motion) -> None:
    path = write_audio2face(tmp_path / "talk.json", motion, EXPRESSION_NAMES)
    with pytest.raises(take.TakeError, match="leave the rate"):
        take.read_take(path, 30.0)
    with pytest.raises(take.TakeError, match="leave its rate at 0"):
        take.read_take(csv_of(tmp_path / "talk.csv", Timecode="0 0.1 0.2"), 30.0)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (["jawOpen", "JAWLEFT", "Mouth_Close"], {"jawOpen": "jawOpen", "JAWLEFT": "jawLeft",
                                                 "Mouth_Close": "mouthClose"}),
        (["eyeBlink_L", "eyeBlink.R"], {"eyeBlink_L": "eyeBlinkLeft", "eyeBlink.R": "eyeBlinkRight"}),
        (["browInnerUpLeft", "BrowInnerUp_R"], {"browInnerUpLeft": "browInnerUp",
                                                "BrowInnerUp_R": "browInnerUp"}),
        (["cheekPuffRight"], {"cheekPuffRight": "cheekPuff"}),
        # Two shapes of one name would move the face twice.
        (["browInnerUpLeft", "browInnerUp"], {"browInnerUp": "browInnerUp"}),
        (["jaw_open", "JawOpen", "jawOpen"], {"jawOpen": "jawOpen"}),
        (["jaw_open", "JawOpen"], {"JawOpen": "jawOpen"}),
        (["jawOpenBeyond", "jaw", "l", "", "Key 1", "tongueUp"], {}),
    ],
)  # fmt: skip
def test_keys_follow_the_curves_of_their_names(keys: list[str], expected: dict[str, str]) -> None:
    assert names.match(ARKIT_NAMES, keys) == expected


def test_the_axes_around_a_face() -> None:
    for label, axes in turns.FACINGS.values():
        np.testing.assert_allclose(axes @ axes.T, np.eye(3))
        assert np.linalg.det(axes) == pytest.approx(1.0), label
        sign, letter, up = label[0], label[1], label[4]
        along = np.eye(3)["XYZ".index(letter)] * (1 if sign == "+" else -1)
        np.testing.assert_array_equal(axes[:, 2], along)
        np.testing.assert_array_equal(axes[:, 1], np.eye(3)["XYZ".index(up)])


def test_a_bone_turns_on_top_of_its_rest() -> None:
    random = np.random.default_rng(1)
    turn = turns.from_angles(*random.normal(size=(3, 5)))
    rest, _ = np.linalg.qr(random.normal(size=(3, 3)))
    rest *= np.linalg.det(rest)
    for whole, local in zip(turn, turns.in_rest(turn, rest), strict=True):
        np.testing.assert_allclose(rest @ _matrix(local), _matrix(whole) @ rest, atol=1e-12)


def test_turns_stay_near_their_neighbours() -> None:
    turn = turns.from_angles(np.linspace(0, 9, 100), np.zeros(100), np.zeros(100))
    assert np.einsum("tk,tk->t", turn[1:], turn[:-1]).min() > 0.9
    flipped = turn * np.where(np.arange(100) % 3, 1, -1)[:, None]
    assert np.einsum("tk,tk->t", *(turns.continuous(flipped)[part] for part in (slice(1, None), slice(-1)))
                     ).min() > 0.9  # fmt: skip
    between = turns.at_times(turn, np.arange(100.0), np.arange(99) + 0.5)
    np.testing.assert_allclose(np.linalg.norm(between, axis=1), 1.0)
