"""FaceTalkHead of examples/unity on a stub of the engine: pictures, sound and bone by a clock of the test."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import soxr
from csharp import ROOT, RUNTIME, compiled, environment

from facetalk.frames import Frames
from facetalk.mesh.pose import rotations
from facetalk.native import NativeModel

SCENE = Path(__file__).parent / "csharp"
RATE, BLOCK = 48_000, 1024
MIXER = 2.5 * BLOCK / RATE  # seconds to the loudspeakers, of a stub with four buffers
SHAPES = ["jawOpen", "mouthSmile_R", "mouthSmile_L", "browInnerUp", "", "tongueOut", "eyeBlink_L",
          "cheekPuff_L", "cheekPuff"]  # fmt: skip
FULL = [100] * 5 + [1] * 4
SETTLED = 1.2  # seconds after which nothing is left of a jump


@pytest.fixture(scope="module")
def sound(speech) -> np.ndarray:
    """Four seconds of 48 kHz."""
    return np.ascontiguousarray(soxr.resample(speech[:64_000], 16_000, RATE), "<f4")


class Played(NamedTuple):
    """What a scene said and drew: (N,) seconds, (N, 9) shapes, (N, 4) bone of pictures; (samples,) heard."""

    said: list[str]
    seconds: np.ndarray
    shapes: np.ndarray
    bone: np.ndarray
    heard: np.ndarray

    @property
    def delay(self) -> int:
        """Samples."""
        return round(float(self.said[0].split()[-1]) * RATE)


@pytest.fixture(scope="module")
def play(tmp_path_factory, folder, sound):
    home = tmp_path_factory.mktemp("head")
    command = compiled(
        home / "scene.exe", SCENE / "HeadScene.cs", SCENE / "UnityStub.cs", *sorted(RUNTIME.glob("*.cs"))
    )
    sound.tofile(home / "sound.f32")

    def run(*commands: str, model: Path = folder) -> Played:
        words = [*command, model, home / "sound.f32", home / "out.txt"]
        done = subprocess.run(
            words, input="\n".join(commands) + "\n", capture_output=True, text=True, env=environment()
        )
        assert done.returncode == 0 and not done.stderr, done.stdout + done.stderr
        rows = np.array([line.split() for line in (home / "out.txt").read_text().splitlines()], float)
        rows = rows.reshape(-1, 1 + len(SHAPES) + 4)
        heard = np.fromfile(home / "out.txt.f32", "<f4")
        return Played(done.stdout.splitlines(), rows[:, 0], rows[:, 1:-4], rows[:, -4:], heard)

    return run


@pytest.fixture(scope="module")
def alone(play) -> Played:
    """Two seconds and a half in one thread, a second of nothing, and the first two seconds again."""
    return play("set ownThread False", "enable", f"play {120 * BLOCK}", "wait 48", f"play {94 * BLOCK}")


@pytest.fixture(scope="module")
def truth(folder, sound, alone) -> tuple[np.ndarray, np.ndarray]:
    """(T, 9) weights and (T, 6) poses of the sound, after the silence that comes first."""
    model = NativeModel(folder)
    mixed = (sound + sound / 2) / 2
    stream = model.stream(rate=RATE, pose=True, look_ahead=float(np.float32(0.2)))
    silence = np.zeros(alone.delay, np.float32)
    curves, contacts, pose = Frames.joined([stream.push(np.concatenate([silence, mixed])), stream.finish()])
    assert contacts is not None and pose is not None
    names = [*model.names, "tongueUp", "tongueForward", "tongueOut"]
    values = np.hstack([curves, model.tongue_weights(contacts, curves)])
    columns = []
    for shape in SHAPES:
        halves = [shape] if shape in names else [f"{shape}_L", f"{shape}_R"] if shape else []
        columns.append(values[:, [names.index(half) for half in halves]].sum(axis=1) / max(len(halves), 1))
    return np.stack(columns, axis=1) * FULL, pose


def at(seconds: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Frames between their middles."""
    middles = (np.arange(len(frames)) + 0.5) / 25
    return np.stack([np.interp(seconds, middles, column) for column in frames.T], axis=1)


def matrix(quaternion) -> np.ndarray:
    x, y, z, w = quaternion
    return np.array([[1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                     [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                     [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]])  # fmt: skip


BODY, NECK, HEAD = (matrix(q) for q in ((0, 0.6, 0, 0.8), (0.5, 0.5, -0.5, 0.5), (0, 0, 0.28, 0.96)))


def turned(pose: np.ndarray, head: np.ndarray = HEAD) -> np.ndarray:
    """(T, 3, 3) where the bone should be: x is mirrored in the engine, and the body looks elsewhere."""
    mirror = np.diag([-1.0, 1.0, 1.0])
    return BODY @ mirror @ rotations(pose) @ mirror @ BODY.T @ BODY @ NECK @ head


def test_lips_are_where_the_sound_is(alone, truth):
    """A picture shows the frame of the sound that is heard with it, and sound comes out as it was, later."""
    assert alone.said == [f"enabled True delay {alone.delay / RATE!r}"]
    assert 0.2 + 1 / 25 < alone.delay / RATE < 0.35
    first = slice(int(SETTLED * RATE / BLOCK), 120)
    pictures = np.arange(120)[first] * BLOCK / RATE
    assert np.abs(alone.seconds[first] - (pictures - MIXER)).max() < 1e-6
    weights, _ = truth
    found = alone.shapes[first]
    assert np.abs(found - at(alone.seconds[first], weights)).max() < 0.02
    assert (found.max(axis=0) > np.array(FULL) * 0.05).sum() >= 4 and found[:, 4].max() == 0
    off = np.abs(found - at(alone.seconds[first] + 0.04, weights)).max()
    assert off > 5  # a frame beside it would be seen


def test_the_sound_is_what_it_was_but_later(alone, sound):
    played = 120 * BLOCK
    heard = alone.heard[:played]
    assert not heard[: alone.delay].any()
    assert np.array_equal(heard[alone.delay :], sound[: played - alone.delay])
    # After a gap nothing of what was waiting is heard.
    again = alone.heard[played:]
    assert not again[: alone.delay].any()
    assert np.array_equal(again[alone.delay :], sound[: len(again) - alone.delay])


def test_the_bone_turns_in_the_engine_s_axes(alone, truth):
    first = slice(int(SETTLED * RATE / BLOCK), 120)
    pose = at(alone.seconds[first], truth[1])
    found = np.stack([matrix(row) for row in alone.bone[first]])
    assert np.abs(found - turned(pose)).max() < 1e-5 and np.ptp(pose[:, 0]) > 0.02


def test_the_face_comes_to_rest_and_begins_anew(alone, truth):
    end = 120 + 47
    assert np.abs(alone.shapes[end]).max() < 0.2
    assert np.abs(matrix(alone.bone[end]) - BODY @ NECK @ HEAD).max() < 1e-3
    # The new sound begins where the old one ended, whose last frames nobody sees again.
    assert alone.seconds[168] < (120 * BLOCK + alone.delay) / RATE < alone.seconds[167]
    assert np.abs(alone.shapes[168:170]).max() < 0.2
    again = slice(168 + int(SETTLED * RATE / BLOCK), 168 + 94)
    # Another clip with the same silence before it, after that of the first and its silence.
    seconds = alone.seconds[again] - (120 * BLOCK + alone.delay) / RATE
    assert np.abs(alone.shapes[again] - at(seconds, truth[0])).max() < 0.02
    # Nothing jumps, whatever begins or ends: from rest, to rest, and from there again.
    steps = np.abs(np.diff(alone.shapes[:, :4], axis=0)).max(axis=1)
    assert steps[[0, *range(118, 180)]].max() < 5  # at the end there is a weight of 17 to come back from


def test_a_thread_of_its_own_shows_the_same(play, alone):
    threaded = play("enable", f"play {120 * BLOCK}")
    assert np.array_equal(threaded.seconds, alone.seconds[:120])
    assert np.abs(threaded.shapes - alone.shapes[:120]).max() < 1e-3
    assert np.array_equal(threaded.heard, alone.heard[: 120 * BLOCK])


def test_a_picture_makes_no_garbage(play):
    found = play("set ownThread False", "enable", f"play {40 * BLOCK}", "garbage")
    assert re.fullmatch(r"garbage 0 control [1-9]\d*", found.said[1])


def test_a_slider_that_is_moved_while_it_talks(play):
    moved = play("set ownThread False", "enable", f"play {60 * BLOCK}", "set smile 1", f"play {60 * BLOCK}")
    still = play("set ownThread False", "enable", f"play {60 * BLOCK}", f"play {60 * BLOCK}")
    assert len(moved.said) == 1
    assert np.array_equal(moved.shapes[:60], still.shapes[:60])
    smiles = (moved.shapes - still.shapes)[-12:, 1:3]
    assert smiles.min() > 40
    assert np.abs(np.diff(moved.shapes[:, 1:3], axis=0)).max() < 20  # it does not jump there


def test_what_is_refused_is_told_and_ends_nothing_else(play, folder, tmp_path):
    found = play("enable", f"play {30 * BLOCK}", model=tmp_path / "nothing")
    assert len(found.said) == 2 and found.said[1] == "enabled False delay 0"
    assert found.said[0].startswith(f"error: FaceTalk: {tmp_path}/nothing/audio/config.json: no such file")
    assert not found.shapes.any() and np.isnan(found.seconds).all()
    found = play("set lookAhead -1", "enable")
    assert found.said[0].startswith("error: FaceTalk: look_ahead_s: ")
    found = play("set ownThread False", "set jaw 9", "enable", f"play {60 * BLOCK}")
    assert found.said[1] == "warning: FaceTalk: jaw: expected 0 to 2, got 9" and len(found.said) == 2
    assert found.shapes[:, 0].max() > 5


def test_what_was_moved_is_put_back(play):
    left = play("set ownThread False", "enable", f"play {60 * BLOCK}", "disable").said[1].split()
    assert [float(value) for value in left[1:]] == pytest.approx([0.28, 0.96] + [0] * 9, abs=0)


def test_an_animation_s_bone_is_turned_further(play, truth):
    found = play("set ownThread False", "enable", f"play {100 * BLOCK}", "animate", f"play {BLOCK}")
    pose = at(found.seconds[-2:], truth[1])
    before, after = turned(pose)[0], turned(pose, matrix((0, 0, -0.28, 0.96)))[1]
    assert np.abs(matrix(found.bone[-2]) - before).max() < 1e-5
    assert np.abs(matrix(found.bone[-1]) - after).max() < 1e-5 and np.abs(after - before).max() > 0.1


def test_a_clip_is_said_to_its_end(play, alone):
    said = play("enable", "say 1000", "device").said
    # Silence that pushes the delayed sound out; the clip before is let go of; what cannot be read is told.
    tail = alone.delay + RATE // 10
    refused = "line: its samples cannot be read; import it as Decompress On Load"
    assert said[1:] == [f"said {1000 + tail} True True True False {refused}", "enabled True"]


def test_the_package_is_one_that_unity_takes():
    """Assets without a .meta file are left out of packages that Unity does not own."""
    home = RUNTIME.parent
    described = json.loads((home / "package.json").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert described["version"] == project["version"] and described["license"] == project["license"]
    assert json.loads((RUNTIME / "FaceTalk.asmdef").read_text())["name"] == "FaceTalk"
    assets = {path for path in home.rglob("*") if path.suffix != ".meta"}
    metas = {path for path in home.rglob("*.meta")}
    assert metas == {path.with_name(f"{path.name}.meta") for path in assets}
    marks = [re.findall(r"^guid: ([0-9a-f]{32})$", path.read_text(), re.M) for path in metas]
    assert all(len(mark) == 1 for mark in marks) and len({mark[0] for mark in marks}) == len(metas)
