"""Loudness and lip motion that go together, or do not."""

from __future__ import annotations

import numpy as np
import pytest

from facetalk.metrics.intensity import (
    lip_intensity,
    normalised_by_speaker,
    resampled_correlation,
    speech_intensity,
    speech_lip_correlation,
)
from facetalk.metrics.pooling import resample


def test_intensities_are_root_mean_squares() -> None:
    points = np.zeros((5, 68, 3))
    points[:, 48:58, 0] = np.array([0.0, 0.002, 0.002, 0.006, 0.006])[:, None]  # half of the mouth
    assert lip_intensity(points) == pytest.approx(np.sqrt((1.0 + 0.0 + 4.0 + 0.0) / 4))
    assert speech_intensity(np.array([0.3, -0.4])) == pytest.approx(np.sqrt(0.125))
    assert speech_intensity(np.zeros(0)) == 0.0
    with pytest.raises(ValueError, match="needs at least 2"):
        lip_intensity(points[:1])


def test_speakers_are_brought_to_one_scale() -> None:
    speakers = ["a", "b"] * 10
    louder = np.arange(20) * 0.01
    lips = np.where(np.arange(20) % 2, 100.0, 1.0) * (1 + louder)  # one of them mumbles
    assert speech_lip_correlation(louder, lips, speakers) == pytest.approx(1.0, abs=1e-6)
    assert speech_lip_correlation(louder, -lips, speakers) == pytest.approx(-1.0, abs=1e-6)
    rng = np.random.default_rng(0)
    assert abs(speech_lip_correlation(rng.normal(size=400), rng.normal(size=400), ["a"] * 400)) < 0.15


def test_single_clips_and_still_lips_are_left_out() -> None:
    found = normalised_by_speaker([1.0, 2.0, 3.0, 5.0, 5.0], ["a", "a", "b", "c", "c"])
    np.testing.assert_allclose(found[:2], [-np.sqrt(0.5), np.sqrt(0.5)])
    assert np.isnan(found[2:]).all()
    assert np.isnan(speech_lip_correlation([1.0, 2.0], [1.0, 2.0], ["a", "b"]))


def test_draws_surround_the_value_and_counts_are_repeats() -> None:
    rng = np.random.default_rng(1)
    speech = rng.normal(size=60)
    lips = speech + rng.normal(size=60)
    value = speech_lip_correlation(speech, lips, ["a"] * 60)
    drawn = resample(60, 0)
    found = resampled_correlation(speech, lips, ["a"] * 60, drawn)
    assert np.percentile(found, 2.5) < value < np.percentile(found, 97.5)
    repeated = np.repeat(np.arange(60), drawn[0])
    assert found[0] == pytest.approx(np.corrcoef(speech[repeated], lips[repeated])[0, 1])
    assert np.isnan(resampled_correlation(speech, np.ones(60), ["a"] * 60, drawn)).all()
