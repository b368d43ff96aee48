"""Voices by another vocal tract: formants move, and pitch and time stay."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import linalg, signal

from facetalk.training.audio import augment
from facetalk.training.audio.augment import change_tract
from facetalk.units import SAMPLE_RATE

FORMANTS_HZ, PITCH_HZ = (600.0, 1600.0, 3600.0), 125.0


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def vowel() -> np.ndarray:
    """Pulses through three resonances, with silence before and after, (32000,)."""
    sound = np.zeros(2 * SAMPLE_RATE)
    sound[SAMPLE_RATE // 2 : SAMPLE_RATE * 3 // 2 : int(SAMPLE_RATE / PITCH_HZ)] = 1.0
    for hertz in FORMANTS_HZ:
        radius, angle = np.exp(-np.pi * 90.0 / SAMPLE_RATE), 2 * np.pi * hertz / SAMPLE_RATE
        sound = signal.lfilter([1.0], [1.0, -2 * radius * np.cos(angle), radius**2], sound)
    return (0.1 * sound / sound.std()).astype(np.float32)


def formants(sound: np.ndarray) -> np.ndarray:
    """(3,) peaks, in Hz, of an autoregressive model of six poles."""
    middle = sound[SAMPLE_RATE * 3 // 4 : SAMPLE_RATE * 5 // 4].astype(np.float64)
    middle = middle * np.hanning(len(middle))
    whole = np.correlate(middle, middle, "full")[len(middle) - 1 :]
    poles = np.roots(np.r_[1.0, -linalg.solve_toeplitz(whole[:6], whole[1:7])])
    return np.sort(np.angle(poles[poles.imag > 0])) * SAMPLE_RATE / (2 * np.pi)


def pitch(sound: np.ndarray) -> float:
    middle = sound[SAMPLE_RATE * 3 // 4 : SAMPLE_RATE * 5 // 4]
    whole = np.correlate(middle, middle, "full")[len(middle) - 1 :]
    lag = int(SAMPLE_RATE / 400)
    return SAMPLE_RATE / (lag + int(np.argmax(whole[lag : SAMPLE_RATE // 60])))


@pytest.mark.parametrize("factor", [0.87, 1.15])
def test_another_tract_moves_formants_and_leaves_the_pitch(
    vowel: np.ndarray, factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(augment, "_TRACT", (np.log(factor), np.log(factor)))
    monkeypatch.setattr(augment, "_TRACT_REGION", 0.0)
    other = change_tract(vowel, rng())
    np.testing.assert_allclose(formants(vowel), FORMANTS_HZ, rtol=0.02)
    np.testing.assert_allclose(formants(other) / formants(vowel), factor, rtol=0.04)
    assert pitch(other) == pitch(vowel) == PITCH_HZ


def test_regions_of_formants_move_by_themselves(vowel: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment, "_TRACT", (0.0, 0.0))
    monkeypatch.setattr(augment, "_TRACT_REGION", 0.1)
    moved = np.array([formants(change_tract(vowel, rng(seed))) / formants(vowel) for seed in range(12)])
    assert moved.std(0).min() > 0.04 and moved.std(0).max() < 0.2
    assert np.corrcoef(moved[:, 0], moved[:, 2])[0, 1] < 0.9


def test_no_other_tract_is_the_voice_as_it_is(vowel: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment, "_TRACT", (0.0, 0.0))
    monkeypatch.setattr(augment, "_TRACT_REGION", 0.0)
    np.testing.assert_allclose(change_tract(vowel, rng()), vowel, atol=1e-6)


def test_time_stays_and_so_does_silence(vowel: np.ndarray) -> None:
    for seed in range(4):
        other = change_tract(vowel, rng(seed))
        assert other.shape == vowel.shape and other.dtype == np.float32
        assert not np.any(other[: SAMPLE_RATE // 2 - 512])
        loud = np.flatnonzero(np.abs(other) > 0.02)[[0, -1]]
        assert np.all(np.abs(loud - np.flatnonzero(np.abs(vowel) > 0.02)[[0, -1]]) < 256)
        assert 0.4 < other.std() / vowel.std() < 2.5


@pytest.mark.parametrize("count", [0, 1, 127, 128, 511, 512, 513, 16001])
def test_any_length(vowel: np.ndarray, count: int) -> None:
    other = change_tract(vowel[9000 : 9000 + count], rng())
    assert other.shape == (count,) and np.isfinite(other).all()


def test_same_chance_same_tract(vowel: np.ndarray) -> None:
    np.testing.assert_array_equal(change_tract(vowel, rng(3)), change_tract(vowel, rng(3)))
    assert not np.array_equal(change_tract(vowel, rng(3)), change_tract(vowel, rng(4)))
