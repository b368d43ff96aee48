"""Level, voicing and pitch of made-up voices."""

from __future__ import annotations

import numpy as np
import pytest

from facetalk.pose.prosody import HOP, Prosody


def voice(f0: np.ndarray, level: float = 0.1) -> np.ndarray:
    """Pulses of the given pitch (N,) in Hz, with the falling spectrum of a voice."""
    phase = 2.0 * np.pi * np.cumsum(f0) / 16_000
    sound = sum(np.sin(k * phase) / k for k in range(1, 12))
    return (level * sound / np.abs(sound).max()).astype(np.float32)


@pytest.mark.parametrize("hertz", [75.0, 120.0, 210.0, 340.0])
def test_pitch_is_heard(hertz: float) -> None:
    rows = Prosody().push(voice(np.full(16_000, hertz)))[10:]
    assert (rows[:, 1] > 0.8).all()
    assert np.abs(rows[:, 2] - 12 * np.log2(hertz / 100)).max() < 0.3


def test_pitch_follows_a_glide_and_noise_has_none() -> None:
    f0 = 110.0 * 2.0 ** (np.arange(16_000) / 32_000)
    rows = Prosody().push(voice(f0))[10:]
    centre = 12 * np.log2(f0[np.arange(10, 10 + len(rows)) * HOP - HOP] / 100)
    assert np.abs(rows[:, 2] - centre).max() < 0.5
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    assert np.median(Prosody().push(noise)[:, 1]) < 0.5


def test_level_is_decibels_and_silence_is_finite() -> None:
    loud, quiet = (Prosody().push(voice(np.full(8000, 150.0), level))[10:, 0] for level in (0.1, 0.01))
    assert np.abs(loud - quiet - 20.0).max() < 0.2
    assert np.isfinite(Prosody().push(np.zeros(8000, np.float32))).all()


def test_pieces_do_not_matter() -> None:
    sound = np.random.default_rng(1).normal(0, 0.1, 20_000).astype(np.float32)
    whole, ear = Prosody().push(sound), Prosody()
    parts = [ear.push(piece) for piece in np.split(sound, [1, 7, 160, 161, 900, 5000, 5000, 12_345])]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-9)
    assert len(whole) == len(sound) // HOP
