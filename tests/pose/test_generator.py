"""A head that moves with a voice: as people do, within limits, and the same however the sound is cut."""

from __future__ import annotations

import numpy as np
import pytest

from facetalk.audio import load_audio
from facetalk.pose.generator import AHEAD_S, LIMITS, HeadMotion, head_motion
from facetalk.pose.human import FIGURES
from facetalk.pose.measure import pose_figures


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """Ten seconds of speech, and a pause."""
    sound = load_audio("examples/demo.flac")
    pause = np.random.default_rng(0).normal(0.0, 2e-4, 4 * 16_000).astype(np.float32)
    return np.concatenate([sound, pause])


def made(sound: np.ndarray, seed: int = 0, **options: float) -> np.ndarray:
    return head_motion([sound], 25.0, round(len(sound) / 640), seed=seed, **options)


@pytest.fixture(scope="module")
def performances(speech: np.ndarray) -> list[np.ndarray]:
    return [made(speech, seed) for seed in range(8)]


def degrees(pose: np.ndarray) -> np.ndarray:
    return np.concatenate([np.degrees(pose[:, :3]), pose[:, 3:]], axis=1)


@pytest.mark.parametrize("ahead", [0.0, 0.123, 0.2, AHEAD_S, 5.0])
@pytest.mark.parametrize("fps", [25.0, 29.97, 60.0])
def test_pieces_do_not_matter(
    speech: np.ndarray, ahead: float, fps: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facetalk.pose.generator._KEPT", 30)
    sound = speech[:40_000]
    frames = round(2.5 * fps)
    whole = head_motion([sound], fps, frames, seed=3, look_ahead=ahead)
    for sizes in ([320] * 100, [0, 1, 0, 9000, 37, 160, 161]):
        head = HeadMotion(fps, 3, look_ahead=ahead)
        parts = [head.push(piece) for piece in np.split(sound, np.cumsum(sizes))]
        found = np.concatenate([*parts, head.finish(frames)])[:frames]
        assert np.abs(found - whole).max() < 1e-6


@pytest.mark.parametrize("ahead", [0.0, 0.1, 0.2, AHEAD_S])
def test_a_frame_comes_when_its_sound_was_heard_and_hears_no_more(speech: np.ndarray, ahead: float) -> None:
    head = HeadMotion(25.0, 0, look_ahead=ahead)
    count = 0
    for hop in range(150):
        count += len(head.push(speech[hop * 160 : (hop + 1) * 160]))
        assert count >= int(np.floor(((hop + 1) * 0.01 - ahead) * 25 - 0.5 + 1e-6)) + 1
    changed = speech.copy()
    changed[32_000:] = 0.0
    one, other = made(speech, look_ahead=ahead), made(changed, look_ahead=ahead)
    last = int((2.0 - ahead) * 25 - 0.5)
    assert np.array_equal(one[: last + 1], other[: last + 1]) and not np.array_equal(one, other)


def test_less_look_ahead_is_the_same_later(speech: np.ndarray) -> None:
    # 0.2 s are five frames; before the first measurement there is nothing to be late with.
    early, late = made(speech), made(speech, look_ahead=AHEAD_S - 0.2)
    np.testing.assert_allclose(late[7:], early[2:-5], atol=1e-6)


def test_seeds_are_performances(speech: np.ndarray, performances: list[np.ndarray]) -> None:
    assert np.array_equal(made(speech, 0), performances[0])
    for i, one in enumerate(performances):
        for other in performances[:i]:
            assert np.sqrt(((degrees(one) - degrees(other))[:, :3] ** 2).mean()) > 0.5


def test_it_moves_as_much_as_people_do(speech: np.ndarray, performances: list[np.ndarray]) -> None:
    found = [pose_figures(pose, 25.0, speech) for pose in performances]
    mean = {name: float(np.mean([f[name] for f in found])) for name in found[0]}
    for axis in ("pitch", "yaw", "roll"):
        assert 0.6 < mean[f"{axis}_sd"] / FIGURES[f"{axis}_sd"].value < 1.6, axis
    assert mean["moving_in_speech"] > 0.75
    assert mean["speed_in_pauses"] < 0.3 * mean["speed_in_speech"]
    assert mean["moving_in_pauses"] < 0.45
    # A head goes from place to place within tenths of a second, and does not tremble.
    assert max(f["fastest"] for f in found) < 120.0
    assert mean["rapid_share"] < 0.1


def test_it_comes_to_rest_in_a_pause(speech: np.ndarray) -> None:
    pause = np.random.default_rng(0).normal(0.0, 2e-4, 5 * 16_000).astype(np.float32)
    turns = [degrees(made(np.concatenate([speech, pause, speech]), seed))[:, :3] for seed in range(4)]
    speed = np.linalg.norm(np.diff(turns, axis=1), axis=2) * 25
    # A second after the last word, and before what precedes the next one.
    begin = len(speech) // 640 - 100
    quiet, busy = speed[:, begin + 25 : begin + 9 * 25 - 10], speed[:, 25 : begin - 25]
    assert (quiet > 1.0).mean() < 0.3 and quiet.mean() < 0.15 * busy.mean()


def test_it_goes_with_the_voice(speech: np.ndarray, performances: list[np.ndarray]) -> None:
    other = np.roll(speech, 5 * 16_000)
    own = np.mean([pose_figures(pose, 25.0, speech)["pitch_f0_r"] for pose in performances])
    wrong = np.mean([pose_figures(pose, 25.0, other)["pitch_f0_r"] for pose in performances])
    assert own < -0.4 and abs(wrong) < 0.15


@pytest.mark.parametrize("kind", ["silence", "noise", "loud", "square"])
def test_it_stays_within_reach(kind: str) -> None:
    rng = np.random.default_rng(0)
    t = np.arange(8 * 16_000)
    sound = {
        "silence": np.zeros(len(t)),
        "noise": rng.normal(0, 0.3, len(t)),
        "loud": np.sin(t * (0.05 + 0.03 * np.sin(t / 3000))) * (np.sin(t / 900) > 0),
        "square": np.sign(np.sin(t * 2 * np.pi * 7 / 16_000)),
    }[kind].astype(np.float32)
    pose = degrees(made(sound, 5, amount=2.0))
    assert np.isfinite(pose).all() and (np.abs(pose) <= LIMITS).all()
    if kind in ("silence", "noise"):
        speed = np.linalg.norm(np.diff(pose[:, :3], axis=0), axis=1) * 25
        assert np.median(speed[25:]) < 2.0, "a degree a second, and twice as much was asked for"


def test_loudness_does_not_matter(speech: np.ndarray) -> None:
    # But for the first moments, in which nobody knows what is loud here.
    one, other = degrees(made(speech)), degrees(made(speech * np.float32(0.1)))
    assert np.abs(one - other)[50:, :3].mean() < 0.3


def test_memory_does_not_grow(speech: np.ndarray) -> None:
    head = HeadMotion(25.0, 0)
    for _ in range(4):
        head.push(speech)
    assert len(head._track) < 1200
