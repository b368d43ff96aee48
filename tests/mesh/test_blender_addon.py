"""The add-on of examples/blender in Blender itself (package bpy), where there is one.

In this Python, or in that of FACETALK_BLENDER_PYTHON. What it knows without Blender: test_blender_take.py,
test_blender_speech.py; what can go wrong in it: test_blender_wrong.py.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from addon import FOLDER, PYTHON, Played, addon_module, needs_blender

import facetalk
from facetalk.live.audio2face import write_audio2face
from facetalk.live.take import arkit_curves, curve_times, write_take
from facetalk.mesh.arkit import ARKIT_NAMES, HALVES
from facetalk.mesh.pose import rotations
from facetalk.motion import Motion
from facetalk.pipeline import FaceTalk

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "examples/demo.flac"
FRAMES = (0, 1, 17, 60, 61, 150)
TO_BLENDER = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
"""The axes of a head in Blender, where it looks along -Y."""

turns = addon_module("turns")


@pytest.fixture(scope="module")
def motion() -> Motion:
    return FaceTalk.from_pretrained("default", "cpu").generate(DEMO, seed=0)


@pytest.fixture(scope="module")
def names() -> tuple[str, ...]:
    return tuple(FaceTalk.from_pretrained("default", "cpu").head.expression_names)


def curve_of(key: str) -> str:
    """ARKit's curve that a shape key of these tests follows."""
    name = key[:1].lower() + key[1:]
    return HALVES.get(name, name)


KEYS = [HALVES.get(name, name) for name in ARKIT_NAMES if name not in ("browInnerUp", "jawOpen")]
KEYS += ["JawOpen", "browInnerUpLeft", "browInnerUpRight", "nobody"]


@needs_blender
def test_speech_is_keyed_as_facetalk_has_it(played: Played, motion: Motion, names: tuple[str, ...]) -> None:
    """At each scene's own rate every key is facetalk's curve at that frame, and so is what is shown."""
    rates = [(24, 1.0, 1), (25, 1.0, -3), (30, 1.001, 100), (60, 1.0, 0)]
    found, said = played("speech", operator="speech", rates=rates, keys=KEYS, frames=FRAMES,
                         settings={"filepath": str(DEMO)})  # fmt: skip
    for (fps, base, first), scene in zip(rates, found, strict=True):
        assert scene["error"] == "" and scene["linear"] and scene["untouched"]
        assert scene["rate"] == pytest.approx(fps / base, rel=1e-7)
        weights, _ = arkit_curves(motion, names, scene["rate"])
        assert len(scene["keys"]) == len(KEYS) - 1
        for path, points in scene["keys"].items():
            expected = weights[:, ARKIT_NAMES.index(curve_of(path.split('"')[1]))]
            at, values = np.array(points).T
            if len(at) == 1:  # it never moves
                assert np.ptp(expected) < 1e-6
            else:
                np.testing.assert_array_equal(at, first + np.arange(len(expected)))
            np.testing.assert_allclose(values, expected[: len(at)], atol=2e-6)
        for frame, values, other in zip(FRAMES, scene["values"], scene["other"], strict=True):
            for key, value in values.items():
                expected = 0.0 if key == "nobody" else weights[frame, ARKIT_NAMES.index(curve_of(key))]
                assert value == pytest.approx(expected, abs=2e-6), (fps, frame, key)
            assert other["JawOpen"] == values["JawOpen"]
        assert scene["end"] == max(250, first + len(weights) - 1)
        assert scene["action"].startswith("demo Face")
    assert "52 of 52 curves move Face, Other in frames 1 to 237" in said.replace("Other, Face", "Face, Other")


@needs_blender
@pytest.mark.parametrize("fps", [60.0, 30 / 1.001])
def test_a_take_is_keyed_at_the_rate_of_the_scene(
    played: Played, motion: Motion, names: tuple[str, ...], tmp_path: Path, fps: float
) -> None:
    take = write_take(tmp_path / "talk.csv", motion, names, fps=fps)
    settings = {"filepath": str(take), "rate": 0.0 if fps == 60.0 else fps}
    rates = [(24, 1.0, 1), (25, 1.0, 1), (30, 1.001, 7), (60, 1.0, 0)]
    found, _ = played("speech", operator="take", rates=rates, keys=KEYS, frames=FRAMES, settings=settings)
    rows, _ = arkit_curves(motion, names, fps)
    for scene in found:
        assert scene["error"] == ""
        weights, _ = arkit_curves(motion, names, scene["rate"])
        for frame, values in zip(FRAMES, scene["values"], strict=True):
            for key in set(KEYS) - {"nobody"}:
                column = ARKIT_NAMES.index(curve_of(key))
                # Straight between the rows of the file, which is near what facetalk has there.
                straight = np.interp(frame / scene["rate"], np.arange(len(rows)) / fps, rows[:, column])
                assert values[key] == pytest.approx(straight, abs=1e-5), (scene["rate"], frame, key)
                assert values[key] == pytest.approx(weights[frame, column], abs=0.06)


@needs_blender
def test_a_head_turns_as_the_docs_have_it(played: Played, tmp_path: Path, names: tuple[str, ...]) -> None:
    """As a bone that lies anyhow, as an object that stands anyhow, whichever way the face looks."""
    pose = np.zeros((20, 6), np.float32)
    pose[:, :3] = 0.5 * np.sin(np.arange(20)[:, None] * (0.2, 0.3, 0.45))
    pose[5:8, :3] = np.diag([0.4, 0.4, 0.4])
    motion = Motion(np.zeros((20, len(names)), np.float32), 25.0, pose=pose)
    frames = [0, 3, 11, 18, *np.arange(0.5, 18.0)]
    take = write_audio2face(tmp_path / "turn.json", motion, names, fps=24.0)
    found, _ = played("turns", take=str(take), frames=frames, facings=list(turns.FACINGS))
    wanted = rotations(motion.pose_at(np.arange(19) / 24.0, fps=24.0))
    assert len(found) == 30
    for case, one in found.items():
        assert one["error"] == "", case
        rest, *seen = np.array(one["matrices"])
        around = np.array(one["around"])
        axes = around @ turns.FACINGS[case.split()[2]][1]
        for frame, matrix in zip(frames, seen, strict=True):
            # Between two frames it is on the way from one to the other, not around the other side.
            ends = [axes @ wanted[int(end)] @ axes.T @ rest for end in (np.floor(frame), np.ceil(frame))]
            atol = 2e-5 if frame == int(frame) else 0.15
            np.testing.assert_allclose(matrix, np.mean(ends, axis=0), atol=atol, err_msg=f"{case} {frame}")


@needs_blender
@pytest.mark.parametrize(
    ("angle", "axis", "towards"),
    [("HeadPitch", 2, (0, -1, 0)), ("HeadYaw", 2, (1, 0, 0)), ("HeadRoll", 1, (-1, 0, 0))],
)
def test_positive_is_down_left_and_to_the_right_shoulder(
    played: Played, tmp_path: Path, angle: str, axis: int, towards: tuple[int, ...]
) -> None:
    """By a take that says one angle: where the nose, or the crown, goes; the head's left is Blender's +X."""
    columns = {name: "0.3" if name == angle else "0" for name in ("HeadYaw", "HeadPitch", "HeadRoll")}
    rows = [f"00:00:00:{frame:02d},0,{','.join(columns.values())}" for frame in range(3)]
    take = tmp_path / "turn.csv"
    take.write_text("\n".join([f"Timecode,JawOpen,{','.join(columns)}", *rows]))
    found, _ = played("turns", take=str(take), frames=[0], facings=["NEG_Y"])
    rest, seen = np.array(found["QUATERNION bone NEG_Y"]["matrices"])
    around = np.array(found["QUATERNION bone NEG_Y"]["around"])
    turned = around.T @ seen @ rest.T @ around @ TO_BLENDER[:, axis]
    expected = np.cos(0.3) * TO_BLENDER[:, axis] + np.sin(0.3) * (TO_BLENDER @ towards)
    np.testing.assert_allclose(turned, expected, atol=1e-5)


@needs_blender
def test_a_talking_head_says_something_else(played: Played, tmp_path: Path, names: tuple[str, ...]) -> None:
    """An imported talk.glb: its keys, its neck and its eyes, which had motions of their own."""
    model = FaceTalk.from_pretrained("default", "cpu")
    glb = facetalk.export(tmp_path / "talk.glb", model.decode(model.generate(DEMO, seed=0)), fps=25,
                          texture_size=0)  # fmt: skip
    frames = [0, 30, 100, 200]
    found, _ = played("glb", glb=str(glb), seed=5, frames=frames)
    assert found["error"] == ""
    motion = model.generate(DEMO, seed=5)
    weights, _ = arkit_curves(motion, names, 24.0)
    times = curve_times(motion, 24.0)
    neck = rotations(motion.pose_at(times, fps=24.0))
    eyes = {eye.name: eye for eye in model.decode(motion).eyes}
    for row, frame in enumerate(frames):
        for key, value in found["values"][row].items():
            if curve_of(key) in ARKIT_NAMES:
                assert value == pytest.approx(weights[frame, ARKIT_NAMES.index(curve_of(key))], abs=2e-6), key
        seen = {
            name: TO_BLENDER.T @ np.array(rows[row]) @ TO_BLENDER for name, rows in found["turns"].items()
        }
        np.testing.assert_allclose(seen["neck"], neck[frame], atol=1e-5)
        for name, eye in eyes.items():
            (turn,) = eye.turned(np.eye(3) + eye.centre, _rig_weights(motion, times[frame], eye))
            expected = (turn - eye.centre).T
            angle = np.degrees(np.arccos(np.clip((np.trace(expected.T @ seen[name]) - 1) / 2, -1, 1)))
            assert angle < 0.5, (frame, name, angle)


def _rig_weights(motion: Motion, time: float, eye: Any) -> np.ndarray:
    weights = np.zeros((1, len(eye.rates)))
    weights[:, : motion.expressions.shape[1]] = motion.at([time], fps=24.0)
    return weights


@needs_blender
def test_what_was_there_stays(played: Played, tmp_path: Path) -> None:
    """The action before plays on below; drivers keep what they drive; a second line leaves the first."""
    columns = ["jawOpen", "jawLeft", "mouthClose", "eyeBlinkLeft"]
    take = {
        "exportFps": 24,
        "facsNames": columns,
        "weightMat": [[0.5] * 3 + [v] for v in (0.1, 0.9, 0.2, 0.3)],
    }
    take["weightMat"] = [
        [a, 0.7, 0.2, b] for a, b in zip((0.5, 0.25, 0.3, 0.6), (0.1, 0.9, 0.2, 0.3), strict=True)
    ]
    (tmp_path / "talk.json").write_text(json.dumps(take))
    found, said = played("care", take=str(tmp_path / "talk.json"))
    assert found["errors"] == ["", ""]
    frames = [0, 3.5, 5, 9, 10, 10.5, 12, 13, 13.5, 18, 25]
    spoken = {10: 0.5, 10.5: 0.375, 12: 0.3, 13: 0.6}
    for frame, before, once, twice in zip(
        frames, found["before"], found["once"], found["twice"], strict=False
    ):
        for after in (once, twice):
            assert after["custom"] == pytest.approx(before["custom"], abs=1e-5), frame
            assert after["jawLeft"] == pytest.approx(0.25)
        assert once["jawOpen"] == pytest.approx(spoken.get(frame, before["jawOpen"]), abs=1e-5), frame
        second = {18: 0.3}.get(frame, once["jawOpen"])
        assert twice["jawOpen"] == pytest.approx(second, abs=1e-5), frame
    assert found["once"][frames.index(12)]["eyeBlinkLeft"] == pytest.approx(0.2)
    later = [value["jawOpen"] for value in found["twice"][len(frames) :]]
    assert later[:3] == pytest.approx([0.5, 0.25, 0.6], abs=1e-5)
    assert later[4] == pytest.approx(0.9, abs=1e-5), "what comes behind is the first action's again"
    assert len(found["actions"]) == 3 and {"talk Face", "talk Face.001"} < set(found["actions"])
    assert len(found["tracks"]) == 2 and found["tracks"][1] == "talk Face"
    assert found["muted"] and found["end"] == 12
    assert "left to their drivers: jawLeft" in said
    assert "muted, and so not seen: mouthClose" in said
    assert "ranges hold back: eyeBlinkLeft" in said
    assert "Face shows one shape key alone" in said
    assert "3 of 4 curves move Face in frames 10 to 13" in said


@needs_blender
def test_the_sound_lies_where_the_face_begins(played: Played, tmp_path: Path) -> None:
    (tmp_path / "talk.json").write_text(
        '{"exportFps": 24, "facsNames": ["jawOpen"], "weightMat": [[0], [1]]}'
    )
    (tmp_path / "damaged.wav").write_bytes(b"RIFF nothing")
    found, _ = played("sound", take=str(tmp_path / "talk.json"), damaged=str(tmp_path / "damaged.wav"))
    if isinstance(found, str):
        assert "no strip for demo.flac: this Blender was built without sound; untick" in found
        pytest.skip("this bpy cannot read sounds; those of 4.5 and 5.0 can")
    first, again, moved, bad = found
    assert first[0] == again[0] == moved[0] == ""
    assert first[1] == again[1] == [["demo", 7, 1, 237]]
    assert moved[1] == [["demo", 7, 1, 237], ["demo.001", 40, 2, 237]]
    assert "no strip for damaged.wav: Blender cannot read it" in bad[0] and bad[1]


@needs_blender
def test_nothing_stays_when_it_is_switched_off(played: Played) -> None:
    found, _ = played("leave")
    assert found == [[True, True], [False, False]]


@needs_blender
def test_blender_takes_the_manifest(archive: Path) -> None:
    """By the check that Blender's own tool makes of an extension."""
    where = "import bpy; print(bpy.utils.resource_path('LOCAL'))"
    said = subprocess.run([str(PYTHON), "-c", where], capture_output=True, text=True).stdout
    script = str(next(Path(said.splitlines()[-1]).rglob("blender_ext.py")))
    for place in (FOLDER, archive):
        done = subprocess.run([str(PYTHON), script, "validate", str(place)], capture_output=True, text=True)
        assert done.returncode == 0 and "Success parsing" in done.stdout, done.stdout + done.stderr


def test_the_archive_has_what_blender_looks_for(archive: Path) -> None:
    import tomllib
    import zipfile

    with zipfile.ZipFile(archive) as packed:
        held = {Path(name) for name in packed.namelist()}
        manifest = tomllib.loads(packed.read("facetalk/blender_manifest.toml").decode())
    assert Path("facetalk/__init__.py") in held
    assert manifest["id"] == "facetalk" and manifest["type"] == "add-on"
    assert manifest["version"] == facetalk.__version__
    sources = {Path("facetalk") / path.name for path in FOLDER.glob("*.py")}
    assert sources <= held
