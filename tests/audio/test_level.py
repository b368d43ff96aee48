"""The level follows speech: knocks, rumble, offsets and other speakers do not set it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import butter, sosfilt

from facetalk.audio import load_audio
from facetalk.audio.level import Level
from facetalk.pipeline import FaceTalk
from facetalk.units import SAMPLE_RATE

FLOOR = 1e-5


def voice(seconds: float, hertz: float = 110.0) -> np.ndarray:
    """Pulses in syllables, with pauses between them: (N,) float32 of rms 0.1."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    sound = sum(np.sin(2 * np.pi * hertz * k * time) / np.sqrt(k) for k in range(1, 20))
    sound = sound * np.clip(np.sin(2 * np.pi * 2.0 * time), 0.01, None)
    return np.asarray(0.1 * sound / sound.std(), np.float32)


def decibels(level: Level, seconds: float) -> float:
    """Level at a moment, in dB."""
    at = round(seconds * SAMPLE_RATE)
    return -20 * float(np.log10(level.scale(at, at + 1, FLOOR)[0]))


def pop(sound: np.ndarray) -> np.ndarray:
    sound = sound.copy()
    sound[30000:30400] = np.random.default_rng(0).uniform(-1, 1, 400)
    return sound


def rumble(sound: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(size=len(sound))
    noise = sosfilt(butter(2, [8, 40], "bandpass", fs=SAMPLE_RATE, output="sos"), noise)
    return np.asarray(sound + noise / noise.std() * 10 * sound.std(), np.float32)


@pytest.mark.parametrize("spoil", [pop, rumble, lambda sound: sound * 0.3 + 0.7])
@pytest.mark.parametrize("gain", [0.01, 0.1])
def test_what_is_no_speech_does_not_set_the_level(
    spoil: Callable[[np.ndarray], np.ndarray], gain: float
) -> None:
    clean = voice(6.0) * gain
    spoiled = spoil(clean)
    drop = 10.46 if spoil not in (pop, rumble) else 0.0
    assert abs(decibels(Level.of([spoiled]), 3.0) + drop - decibels(Level.of([clean]), 3.0)) < 6.5


def test_a_clean_clip_has_the_level_of_the_whole_and_nothing_else() -> None:
    sound = voice(6.0)
    level = Level.of([sound])
    scale = level.scale(0, len(sound), FLOOR)
    np.testing.assert_allclose(scale, 1 / np.sqrt(sound.var() + 1e-7), rtol=1e-6)
    assert not level.rumbles


@pytest.mark.parametrize("drop", [12.0, 18.0, 24.0, 30.0])
def test_a_far_speaker_is_raised_and_the_near_one_is_not(drop: float) -> None:
    near, far = voice(5.0), voice(5.0, 180.0) * 10 ** (-drop / 20)
    level = Level.of([np.concatenate([near, far])])
    assert abs(decibels(level, 2.0) - decibels(Level.of([near]), 2.0)) < 4.0
    assert abs(decibels(level, 8.0) - decibels(Level.of([far]), 3.0)) < 7.0


def test_noise_in_a_pause_is_not_raised() -> None:
    rng = np.random.default_rng(0)
    pause = rng.normal(0, 1e-3, 6 * SAMPLE_RATE).astype(np.float32)
    level = Level.of([np.concatenate([voice(4.0), pause, voice(4.0)])])
    assert abs(decibels(level, 7.0) - decibels(level, 2.0)) < 3.0


@pytest.mark.parametrize("kind", ["silence", "hiss", "hum"])
def test_faint_sound_without_speech_stays_faint(kind: str) -> None:
    count = 4 * SAMPLE_RATE
    sound = {
        "silence": np.zeros(count),
        "hiss": np.random.default_rng(0).normal(0, 3e-4, count),
        "hum": 3e-4 * sum(np.sin(2 * np.pi * 50 * k * np.arange(count) / SAMPLE_RATE) for k in range(1, 9)),
    }[kind].astype(np.float32)
    assert decibels(Level.of([sound]), 2.0) == pytest.approx(-50.0, abs=0.1)


@pytest.mark.parametrize("cut", [77, 1600, 50001])
def test_blocks_do_not_change_the_level(cut: int) -> None:
    sound = rumble(pop(voice(7.0)))
    whole, pieces = Level.of([sound]), Level.of(sound[i : i + cut] for i in range(0, len(sound), cut))
    np.testing.assert_allclose(
        pieces.scale(0, len(sound), FLOOR), whole.scale(0, len(sound), FLOOR), rtol=1e-9
    )


def test_an_hour_is_measured_in_bounded_memory() -> None:
    """Five bytes for 20 ms: an hour of recording, 230 MB of samples, leaves 0.9 MB."""
    level = Level.of(voice(10.0) for _ in range(12))
    kept = sum(part.nbytes for part in (*level._decibels, *level._voiced))
    assert kept / 120.0 * 3600 < 1e6 and len(level._waiting) < 64 * 320 + 640


def test_a_knock_does_not_shut_the_mouth() -> None:
    """With the built-in model: quiet speech after a knock moves the face as without."""
    model = FaceTalk.from_pretrained("default", device="cpu")
    demo = Path(__file__).parents[2] / "examples" / "demo.flac"
    sound = load_audio(demo)[: 4 * SAMPLE_RATE] * np.float32(0.03)

    def weights(samples: np.ndarray) -> np.ndarray:
        return model.generate((samples, SAMPLE_RATE), seed=0).expressions[55:]

    clean, knocked = weights(sound), weights(pop(sound))
    moving = clean.std(axis=0) > 0.02
    assert moving.any()
    assert np.corrcoef(clean[:, moving].ravel(), knocked[:, moving].ravel())[0, 1] > 0.95
