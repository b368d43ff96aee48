"""What trackers of a voice's period have in common, against the sums that it stands for."""

from __future__ import annotations

import numpy as np

from facetalk.audio import pitch, voicing
from facetalk.audio.periodicity import FRAME, LAGS, autocorrelation, vertex
from facetalk.pose.prosody import Prosody


def test_lags_are_sums_of_products_and_nothing_wraps() -> None:
    frames = np.random.default_rng(0).normal(size=(3, 50))
    expected = [[(row[: 50 - lag] * row[lag:]).sum() for lag in range(50)] for row in frames]
    np.testing.assert_allclose(autocorrelation(frames, 50), expected, atol=1e-12)
    assert autocorrelation(frames, 7).shape == (3, 7)


def test_what_is_outside_the_band_is_not_heard() -> None:
    time = np.arange(FRAME)
    low, high = np.sin(2 * np.pi * time / 160), np.sin(2 * np.pi * time / 4)
    band = np.arange(FRAME + 1) < FRAME / 8
    both, one = (autocorrelation(sound[None], 200, band=band) for sound in (low + high, low))
    assert np.abs(both - one).max() < 0.02 * one[0, 0]
    assert np.abs(autocorrelation((low + high)[None], 200) - one).max() > 0.5 * one[0, 0]


def test_a_parabola_dips_where_it_dips_and_a_line_nowhere() -> None:
    at = np.array([-0.7, -0.2, 0.0, 0.5, 3.0])
    three = [2.0 * (step - at) ** 2 + 1.0 for step in (-1, 0, 1)]
    np.testing.assert_allclose(vertex(*three), [-0.7, -0.2, 0.0, 0.5, 1.0], atol=1e-12)
    np.testing.assert_array_equal(vertex(*(np.array([step, -(step**2)]) for step in (-1.0, 0.0, 1.0))), 0.0)


def test_all_who_listen_find_the_same_period() -> None:
    """Of a voice of 131.5 samples, far from noise."""
    hertz = 16_000 / 131.5
    phase = 2.0 * np.pi * np.arange(16_000) * hertz / 16_000
    sound = (0.1 * sum(np.sin(k * phase) / k for k in range(1, 6))).astype(np.float32)
    assert LAGS[0] < 131.5 < LAGS[1]
    found, aperiodic = pitch.pitch(sound)
    rows = Prosody().push(sound)[5:]
    assert aperiodic.max() < 0.01 and voicing.measure(sound.astype(np.float64))[1].all()
    assert np.abs(12.0 * np.log2(found / hertz)).max() < 0.02
    assert np.abs(rows[:, 2] - 12.0 * np.log2(hertz / 100.0)).max() < 0.15
