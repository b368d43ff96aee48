"""What is free of Unreal in examples/unreal: sound, clock and frames, by the test's clock or by threads."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import soxr
from unreal import BLOCK, RATE, SCENES, STEP, at, compiled, frames

from facetalk.mesh.pose import rotations, translations
from facetalk.native import NativeModel

LATENCY = 0.05  # of the scene, from the mixer to ears
SETTLED = 1.3  # seconds after which less than 1e-7 is left of a jump
STRICT = ["-Wconversion", SCENES / "LiveScene.cpp"]


@pytest.fixture(scope="module")
def sound(speech) -> np.ndarray:
    """Six seconds of 24 kHz, in which no sample is exactly 0: what is silent was not pushed."""
    resampled = np.ascontiguousarray(soxr.resample(speech, 16_000, RATE), "<f4")
    return np.where(resampled == 0, np.float32(1e-9), resampled)


class Played(NamedTuple):
    """What a scene said, drew and played: (N,) seconds, (N, C + U + 6) pictures, (samples,)."""

    said: list[str]
    seconds: np.ndarray
    pictures: np.ndarray
    heard: np.ndarray

    @property
    def spoken(self) -> np.ndarray:
        """Without silence."""
        return self.heard[self.heard != 0]


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    return compiled(tmp_path_factory.mktemp("live") / "scene", *STRICT)


@pytest.fixture(scope="module")
def play(tmp_path_factory, folder, sound, program):
    home = tmp_path_factory.mktemp("played")
    sound.tofile(home / "sound.f32")

    def run(*commands: str, model: Path = folder, look_ahead: str = "0.2", by: Path = program) -> Played:
        words = [by, model, home / "sound.f32", home / "out.txt", look_ahead]
        lines = "\n".join(commands) + "\n"
        done = subprocess.run(words, input=lines, capture_output=True, text=True, check=False)
        assert done.returncode == 0 and not done.stderr, done.stdout + done.stderr
        if done.stdout.startswith("error "):
            return Played(done.stdout.splitlines(), *(np.zeros(0) for _ in range(3)))
        rows = np.loadtxt(home / "out.txt", ndmin=2)
        heard = np.fromfile(home / "out.txt.f32", "<f4")
        return Played(done.stdout.splitlines(), rows[:, 0], rows[:, 1:], heard)

    return run


def settled(played: Played, first: int, last: int) -> slice:
    """Pictures of blocks from one to another without those in which a jump is left."""
    return slice(first + int(SETTLED / STEP), last)


def test_speech_that_is_there_as_a_whole_begins_at_once(play, folder, sound):
    played = play(f"say {3 * RATE}", "finish", "play 230")
    assert np.array_equal(played.heard[: 3 * RATE], sound[: 3 * RATE])
    assert not played.heard[3 * RATE :].any()
    pictures = settled(played, 0, 150)
    times = np.arange(150)[pictures] * STEP
    assert np.abs(played.seconds[pictures] - (times - LATENCY)).max() < 1e-8
    truth = frames(folder, sound[: 3 * RATE])
    assert np.abs(played.pictures[pictures] - at(played.seconds[pictures], truth)).max() < 1e-6
    beside = np.abs(played.pictures[pictures] - at(played.seconds[pictures] + 0.04, truth)).max()
    assert beside > 0.1  # a frame too late would be seen
    assert played.seconds[-1] == 3.0 and np.abs(played.pictures[-1]).max() < 1e-3
    # It comes to rest, and does not drop there.
    assert np.abs(np.diff(played.pictures[148:, :53], axis=0)).max() < 0.1


def test_speech_that_comes_as_it_is_spoken_is_as_late_as_its_frames(play, folder, sound):
    played = play("live 200", "play 60")
    late = np.flatnonzero(played.heard)[0]
    delay = float(played.said[0].split()[1])
    assert late % BLOCK == 0 and delay - 0.04 < late / RATE <= delay + 2 * STEP
    # Once it plays it never falters, to its end, which nobody told.
    assert np.array_equal(played.heard[late : late + 200 * BLOCK], sound[: 200 * BLOCK])
    assert not played.heard[late + 200 * BLOCK :].any()
    before = late // BLOCK
    assert np.isnan(played.seconds[:before]).all() and not played.pictures[:before].any()
    pictures = settled(played, before, 200)
    times = np.arange(200)[pictures] * STEP - late / RATE - LATENCY
    assert np.abs(played.seconds[pictures] - times).max() < 1e-8
    truth = frames(folder, sound[: 200 * BLOCK])
    assert np.abs(played.pictures[pictures] - at(times, truth)).max() < 1e-6
    assert np.ptp(played.pictures[pictures][:, -6]) > 0.02


def test_a_pause_ends_a_clip_and_the_next_one_follows(play, folder, sound):
    played = play("live 75", "play 60", "live 130", "play 80")
    assert np.array_equal(played.spoken, sound[: 205 * BLOCK])
    assert np.abs(played.pictures[134]).max() < 1e-2
    gap = np.flatnonzero(np.diff(np.flatnonzero(played.heard)) > 1)
    assert gap.tolist() == [75 * BLOCK - 1]  # silence between them alone
    # The second one is a clip of its own, whose seconds go on where the first one's ended.
    begun = np.flatnonzero(played.heard)[75 * BLOCK] // BLOCK
    pictures = settled(played, begun, begun + 130)
    expected = frames(folder, sound[75 * BLOCK : 205 * BLOCK])
    assert np.abs(played.pictures[pictures] - at(played.seconds[pictures] - 1.5, expected)).max() < 1e-6
    # It is not left again: time stands in the pause, and never goes back.
    assert (np.diff(played.seconds[np.isfinite(played.seconds)]) >= 0).all()
    assert np.abs(np.diff(played.pictures[:, :53], axis=0)).max() < 0.35


def test_what_is_interrupted_is_over(play, sound):
    played = play(f"say {4 * RATE}", "play 50", "interrupt", "play 30", f"say {RATE}", "finish", "play 120")
    assert np.array_equal(played.spoken[:RATE], sound[:RATE])
    assert not played.heard[RATE : 80 * BLOCK].any()
    assert np.array_equal(played.spoken[RATE:], sound[4 * RATE : 5 * RATE])
    assert np.abs(played.pictures[79]).max() < 1e-2  # at rest
    assert np.abs(played.pictures[90:120]).max() > 0.1
    # At once, with other speech behind it.
    played = play(f"say {2 * RATE}", "play 25", "interrupt", f"say {RATE}", "finish", "play 120")
    assert np.array_equal(played.spoken, np.r_[sound[: RATE // 2], sound[2 * RATE : 3 * RATE]])


def test_there_is_only_so_much_room(play, sound):
    """Ten seconds and up to the next power of two; what was played makes room."""
    said = play(*["say 48000"] * 3, "threads 0").said  # all the sound that there is
    assert said[1:] == ["took 48000"] * 3
    played = play(*["live 1"] * 1000, "message")
    assert np.array_equal(played.spoken[: len(sound)], sound)
    unplayed = play("bad", "say 140000", "finish", "play 350")
    assert unplayed.said[1] == "bad 4 0 0" and unplayed.said[2] == "took 140000"
    # Numbers that are none are silence.
    assert not unplayed.heard[:4].any() and np.array_equal(unplayed.spoken, sound[:140_000])


def test_sliders_are_followed_without_a_gap_in_the_sound(play, sound):
    for commands in ((f"say {5 * RATE}", "play 50"), ("live 50",)):
        more = "play 110" if "say" in commands[0] else "live 110"
        moved = play(*commands, "smile 1", more, "message")
        still = play(*commands, more)
        assert moved.said[-1] == "message "
        assert np.array_equal(moved.heard, still.heard) and len(moved.spoken) > 140 * BLOCK
        # The columns of smiles rise by more than any other, and step by step.
        gained = (moved.pictures - still.pictures)[-10:, :53].mean(axis=0)
        assert np.sort(gained)[-2:].min() > 0.3
        assert np.abs(np.diff(moved.pictures[:, np.argmax(gained)])).max() < 0.3
    refused = play(f"say {2 * RATE}", "jaw 9", "play 90", "message")
    assert refused.said[-1] == "message jaw: expected 0 to 2, got 9"
    assert len(refused.spoken) > RATE and refused.pictures[:, :53].max() > 0.1


def test_smiles_are_what_was_moved(play, folder):
    names = NativeModel(folder).names
    moved = play("smile 1", f"say {2 * RATE}", "play 90")
    still = play(f"say {2 * RATE}", "play 90")
    gained = (moved.pictures - still.pictures)[60:, : len(names)].mean(axis=0)
    assert {names[i] for i in np.argsort(gained)[-2:]} == {"mouthSmile_L", "mouthSmile_R"}


def test_what_cannot_be_is_told(play, tmp_path):
    missing = play(model=tmp_path / "nothing").said
    assert len(missing) == 1 and missing[0].startswith(f"error {tmp_path}/nothing/audio/config.json: no such")
    assert play(look_ahead="-1").said[0].startswith("error look_ahead_s: ")
    assert play(look_ahead="inf").said[0].startswith("error a face in time with its sound cannot wait")


@pytest.mark.parametrize("sanitizer", ["", "-fsanitize=thread"])
def test_four_threads(play, tmp_path, sound, sanitizer):
    """Pieces of all sizes, blocks and pictures by threads of their own: nothing is lost or out of order."""
    if sanitizer:
        (tmp_path / "empty.cpp").write_text("int main() {}\n")
        tried = subprocess.run(["c++", sanitizer, "empty.cpp", "-o", "empty"], cwd=tmp_path, check=False)
        if tried.returncode or subprocess.run([tmp_path / "empty"], check=False).returncode:
            pytest.skip("no thread sanitizer on this machine")
    scene = compiled(tmp_path / "scene", *STRICT, *([sanitizer] if sanitizer else []))
    played = play(f"threads {5 * RATE}", "message", by=scene)
    assert played.said[-1] == "message "
    assert np.array_equal(played.spoken, sound[: 5 * RATE])
    assert played.pictures[:, :53].max() > 0.2
    known = played.seconds[np.isfinite(played.seconds)]
    assert (np.diff(known) >= 0).all() and known[-1] > 4.5


def test_standards_of_both_ages(tmp_path):
    """Unreal 5.3 and newer build modules as C++20."""
    compiled(tmp_path / "scene", *STRICT, language="c++20")


def axes(turn: np.ndarray) -> np.ndarray:
    """Columns: where forward (x), right (y) and up (z) go to by an FRotator: yaw to the right about up, then
    pitch upwards about the right that it leads to, then roll clockwise as seen along the forward of both."""
    pitch, yaw, roll = np.radians(turn)
    forward, right, up = np.eye(3)
    forward, right = np.cos(yaw) * forward + np.sin(yaw) * right, np.cos(yaw) * right - np.sin(yaw) * forward
    forward, up = np.cos(pitch) * forward + np.sin(pitch) * up, np.cos(pitch) * up - np.sin(pitch) * forward
    right, up = np.cos(roll) * right - np.sin(roll) * up, np.cos(roll) * up + np.sin(roll) * right
    return np.stack([forward, right, up], axis=1)


@pytest.mark.parametrize("facing", [0.0, 90.0, -35.0])
def test_a_head_turns_in_unreal_s_axes(program, facing):
    """Vectors of the head, carried over by themselves, go where those of the FRotator go."""
    rng = np.random.default_rng(1)
    poses = np.c_[rng.uniform(-1, 1, (20, 3)), rng.uniform(-9, 9, (20, 3))]
    lines = "\n".join(" ".join(map(repr, map(float, (facing, *pose)))) for pose in poses)
    done = subprocess.run([program, "turns"], input=lines, capture_output=True, text=True, check=True)
    found = np.array([line.split() for line in done.stdout.splitlines()], float)
    # The head's left, up and forward in the space of a mesh, in centimetres.
    turn = np.radians(facing)
    forward = np.array([np.cos(turn), np.sin(turn), 0.0])
    left, up = np.array([np.sin(turn), -np.cos(turn), 0.0]), np.array([0.0, 0.0, 1.0])
    carried = np.stack([left, up, forward], axis=1)
    for row, rotation, shift in zip(found, rotations(poses), translations(poses), strict=True):
        assert np.abs(axes(row[:3]) @ carried - carried @ rotation).max() < 1e-6
        assert np.abs(row[3:] - 100.0 * carried @ shift).max() < 1e-6
    # By words: down, to the left, to the right shoulder.
    told = "\n".join(f"0 {p} {y} {r} 0 0 0" for p, y, r in np.eye(3) * 0.1)
    done = subprocess.run([program, "turns"], input=told, capture_output=True, text=True, check=True)
    alone = np.array([line.split()[:3] for line in done.stdout.splitlines()], float)
    assert np.abs(alone - np.degrees(np.diag([-0.1, -0.1, 0.1]))).max() < 1e-5


def test_names_of_morph_targets(program, folder):
    asked = {"jawOpen": "jawOpen jawOpen", "JawOpen": "jawOpen jawOpen", "face.jawOpen": "jawOpen jawOpen",
             "mouthSmileLeft": "mouthSmile_L mouthSmile_L", "MouthSmile_R": "mouthSmile_R mouthSmile_R",
             "browInnerUp": "browInnerUp_L browInnerUp_R", "cheekPuff": "cheekPuff_L cheekPuff_R",
             "cheekPuffLeft": "cheekPuff_L cheekPuff_L", "jaw": "none", "mouth": "none", "": "none",
             "smile": "none", "x.": "none"}  # fmt: skip
    done = subprocess.run(
        [program, folder, "names"], input="\n".join(asked) + "\n", capture_output=True, text=True, check=True
    )
    assert dict(zip(asked, done.stdout.splitlines(), strict=True)) == asked
