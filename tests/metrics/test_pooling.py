"""Pooled figures and their intervals where both are known."""

from __future__ import annotations

import numpy as np
import pytest

from facetalk.metrics.pooling import Pool, interval, resample


def test_means_weigh_and_medians_pool() -> None:
    pool = Pool()
    pool.add(0, "a", 1.0, 1.0)
    pool.add(0, "a", 4.0, 2.0)
    pool.add(1, "a", 10.0, 1.0)
    pool.add(2, "a", float("nan"))
    pool.add(2, "a", 5.0, 0.0)
    pool.add(0, "b", float("nan"))
    pool.extend(0, "c", [1.0, 2.0])
    pool.extend(1, "c", [9.0])
    pool.extend(0, "d", [])
    found = pool.means()
    assert found["a"] == pytest.approx(19.0 / 4) and found["c"] == 2.0
    assert np.isnan(found["b"]) and np.isnan(found["d"])
    limits = pool.intervals(resample(3, 0))
    assert limits["b"] is None and limits["d"] is None and limits["a"] == (3.0, 10.0)


def test_one_clip_has_no_interval() -> None:
    pool = Pool()
    pool.add(0, "a", 1.0)
    pool.extend(0, "b", [1.0, 2.0, 3.0])
    assert pool.intervals(resample(1, 0)) == {"a": None, "b": None}


def test_intervals_are_those_of_clips_and_not_of_frames() -> None:
    """200 clips, each of frames that are all alike: the error is that of 200 values."""
    rng = np.random.default_rng(0)
    pool = Pool()
    for clip, value in enumerate(rng.normal(5.0, 2.0, 200)):
        pool.add(clip, "mean", value, 50.0)
        pool.extend(clip, "median", [value] * 50)
    limits = pool.intervals(resample(200, 1))
    low, high = limits["mean"]
    assert high - low == pytest.approx(2 * 1.96 * 2.0 / np.sqrt(200), rel=0.15)
    assert low < pool.means()["mean"] < high
    low, high = limits["median"]
    assert high - low == pytest.approx(1.2533 * 2 * 1.96 * 2.0 / np.sqrt(200), rel=0.35)
    assert low < pool.means()["median"] < high


def test_the_same_seed_draws_the_same_clips() -> None:
    np.testing.assert_array_equal(resample(20, 3), resample(20, 3))
    assert (resample(20, 3) != resample(20, 4)).any()
    assert (resample(20, 3).sum(1) == 20).all()


def test_an_interval_of_little_is_none() -> None:
    assert interval(np.full(100, np.nan)) is None and interval(np.zeros(0)) is None
    assert interval(np.r_[np.full(60, np.nan), np.zeros(40)]) is None
    low, high = interval(np.linspace(0, 1, 1001))
    assert (low, high) == pytest.approx((0.025, 0.975))


def test_a_figure_that_some_clips_lack_draws_its_own_clips() -> None:
    pool = Pool()
    for clip, value in ((1, 10.0), (3, 20.0)):
        pool.add(clip, "a", value)
    drawn = np.array([[2, 2, 0, 0], [0, 0, 2, 2], [1, 1, 1, 1]] * 20)
    assert pool.intervals(drawn)["a"] == (10.0, 20.0)


def test_drawn_medians_are_medians_of_the_repeated_values() -> None:
    pool, rng = Pool(), np.random.default_rng(2)
    values = [rng.normal(size=rng.integers(0, 6)).tolist() for _ in range(12)]
    for clip, own in enumerate(values):
        pool.extend(clip, "a", own)
    drawn = resample(12, 0, 400)
    slow = [np.median(np.concatenate([v * n for v, n in zip(values, row, strict=True)])) for row in drawn]
    assert pool.intervals(drawn)["a"] == pytest.approx(np.percentile(slow, (2.5, 97.5)))
