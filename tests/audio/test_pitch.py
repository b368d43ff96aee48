"""Pitch and formants of sounds whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import lfilter

from facetalk.audio.formants import FORMANTS, SPEED_OF_SOUND, formants, spacing
from facetalk.audio.pitch import HOP, WINDOW, _difference, pitch
from facetalk.units import SAMPLE_RATE


def buzz(f0: float, seconds: float = 1.0, tubes: tuple[float, ...] = ()) -> np.ndarray:
    """A pulse train through resonators 80 Hz wide."""
    at = np.floor(np.cumsum(np.full(round(seconds * SAMPLE_RATE), f0 / SAMPLE_RATE)))
    sound = np.diff(at, prepend=0.0)
    sound = lfilter([1.0], [1.0, -0.97], sound)
    for hertz in tubes:
        r = np.exp(-np.pi * 80.0 / SAMPLE_RATE)
        sound = lfilter([1.0], [1.0, -2.0 * r * np.cos(2 * np.pi * hertz / SAMPLE_RATE), r * r], sound)
    return (0.1 * sound / np.abs(sound).max()).astype(np.float32)


def test_the_difference_is_that_of_its_definition() -> None:
    frames = np.random.default_rng(0).standard_normal((3, WINDOW))
    got = _difference(frames)
    length = WINDOW - (got.shape[1] - 1)
    for lag in (0, 1, 32, 133, got.shape[1] - 1):
        slow = ((frames[:, :length] - frames[:, lag : lag + length]) ** 2).sum(1)
        np.testing.assert_allclose(got[:, lag], slow, atol=1e-9)


@pytest.mark.parametrize("f0", [70.0, 118.3, 205.7, 400.0])
def test_pitch_of_a_buzz(f0: float) -> None:
    hertz, aperiodicity = pitch(buzz(f0, tubes=(500.0, 1500.0, 2500.0)))
    assert len(hertz) == (SAMPLE_RATE - WINDOW) // HOP + 1
    assert np.abs(1200.0 * np.log2(hertz[5:] / f0)).max() < 15.0  # cents
    assert aperiodicity[5:].max() < 0.15


def test_noise_and_silence_have_no_period_and_gain_changes_nothing() -> None:
    noise = np.random.default_rng(1).standard_normal(SAMPLE_RATE).astype(np.float32)
    assert pitch(noise)[1].min() > 0.5
    assert (pitch(np.zeros(SAMPLE_RATE, np.float32))[1] == 1.0).all()
    voice = buzz(130.0, tubes=(600.0,))
    np.testing.assert_allclose(pitch(0.001 * voice)[0], pitch(voice)[0], rtol=1e-3)
    assert len(pitch(voice[: WINDOW - 1])[0]) == 0


@pytest.mark.parametrize("length", [0.145, 0.175])
def test_formants_of_a_tube_tell_its_length(length: float) -> None:
    true = [SPEED_OF_SOUND / (2.0 * length) * (i + 0.5) for i in range(FORMANTS)]
    sound = buzz(110.0, tubes=tuple(true))
    found = formants(sound, np.arange(2000, 14000, 160))
    assert len(found) > 40
    np.testing.assert_allclose(np.median(found, axis=0), true, rtol=0.04)
    assert spacing(found) == pytest.approx(true[0] * 2.0, rel=0.03)


def test_no_formants_of_nothing() -> None:
    assert formants(buzz(110.0), np.zeros(0, np.int64)).shape == (0, FORMANTS)
    assert np.isnan(spacing(np.zeros((0, FORMANTS), np.float32)))
