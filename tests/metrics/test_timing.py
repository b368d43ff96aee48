"""Warping against its recursion, misalignment and lag against delays that were put in."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter1d

from facetalk.metrics import timing
from facetalk.metrics.timing import lag_frames, misalignment_ms, time_warp, warped_difference

FPS = 25.0
SERIES = st.lists(st.integers(0, 5), min_size=1, max_size=9)


def syllables(frames: int = 200, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 5 + 4 * np.sin(2 * np.pi * np.cumsum(1.5 + 2.0 * rng.random(frames)) / FPS)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=9), st.lists(st.integers(0, 5), min_size=1, max_size=9)
)
def test_warping_costs_what_its_recursion_says(first: list[int], second: list[int]) -> None:
    @functools.cache
    def least(i: int, j: int) -> float:
        if i < 0 or j < 0:
            return 0.0 if i == j == -1 else np.inf
        return abs(first[i] - second[j]) + min(least(i - 1, j), least(i, j - 1), least(i - 1, j - 1))

    cost, path = time_warp(np.array(first), np.array(second))
    assert cost == least(len(first) - 1, len(second) - 1)
    assert path[0] == (0, 0) and path[-1] == (len(first) - 1, len(second) - 1)
    assert sum(abs(first[i] - second[j]) for i, j in path) == cost
    steps = {(c - a, d - b) for (a, b), (c, d) in itertools.pairwise(path)}
    assert steps <= {(1, 0), (0, 1), (1, 1)}


def test_misalignment_counts_extrema_of_one_kind_between_their_neighbours() -> None:
    truth = syllables()
    assert misalignment_ms(truth, truth, FPS) == 0.0
    late = truth[np.maximum(np.arange(200) - 2, 0)]
    assert misalignment_ms(late, truth, FPS) == pytest.approx(80.0, abs=3.0)
    assert misalignment_ms(truth, late, FPS) == pytest.approx(80.0, abs=3.0)
    assert misalignment_ms(late, truth, 50.0) == pytest.approx(40.0, abs=1.5)
    # Upside down, maxima meet minima: whatever pairs are left lie half a syllable apart.
    assert not misalignment_ms(10 - truth, truth, FPS) < 80.0


def test_warping_forgives_timing_and_not_size() -> None:
    truth = syllables()
    late = truth[np.maximum(np.arange(200) - 4, 0)]
    assert warped_difference(truth, truth) == 0.0
    assert warped_difference(late, truth) < 0.2 * np.abs(late - truth).mean()
    assert warped_difference(truth + 3.0, truth) > 0.8
    assert warped_difference(np.full(200, 5.0), truth) == pytest.approx(np.abs(truth - 5.0).mean(), rel=0.2)


def test_nothing_moves_nothing_is_measured() -> None:
    still = np.ones(50)
    assert np.isnan(misalignment_ms(still, syllables(50), FPS))
    assert np.isnan(lag_frames(still, syllables(50), FPS)) and np.isnan(lag_frames(syllables(50), still, FPS))


def test_long_clips_are_warped_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = syllables(240)
    late = truth[np.maximum(np.arange(240) - 2, 0)]
    whole = misalignment_ms(late, truth, FPS)
    sizes = []
    original = timing.time_warp
    monkeypatch.setattr(timing, "PIECE_FRAMES", 100)
    monkeypatch.setattr(timing, "time_warp", lambda a, b: sizes.append(len(a)) or original(a, b))
    assert misalignment_ms(late, truth, FPS) == pytest.approx(whole, abs=5.0)
    assert sizes == [80, 80, 80]


@pytest.mark.parametrize("delay", [-6, -1, 0, 2, 7])
def test_lag_is_the_delay_with_its_sign(delay: int) -> None:
    long = syllables(260)
    truth, motion = long[20:220], long[20 - delay : 220 - delay]
    assert lag_frames(motion, truth, FPS) == pytest.approx(delay, abs=0.05)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_lag_beyond_what_is_looked_at_is_its_end(sign: int) -> None:
    """One opening, half a second apart: the correlation rises to the last shift, which has no neighbour."""
    time = np.arange(200) / FPS
    truth, moved = (np.exp(-((time - at) ** 2) / 0.5) for at in (4.0, 4.0 + 0.5 * sign))
    assert lag_frames(moved, truth, FPS) == sign * round(timing.MAX_LAG_S * FPS)


def test_lag_has_fractions() -> None:
    times = np.arange(200)
    wave = lambda t: np.sin(t / 2.9) + np.sin(t / 4.7 + 1)  # noqa: E731
    assert lag_frames(wave(times - 1.4), wave(times), FPS) == pytest.approx(1.4, abs=0.05)


@pytest.mark.parametrize("figure", [misalignment_ms, lag_frames])
def test_wrong_series_are_named(figure) -> None:
    good = syllables(30)
    for opening, truth, fps, message in [
        (good[:29], good, FPS, "one length, got 29 and 30"),
        (good[:2], good[:2], FPS, "2 frames"),
        (good, good[:, None], FPS, r"truth must have shape \(T,\)"),
        (good * np.nan, good, FPS, "opening has 30 values that are not finite"),
        (good, good, -1.0, "fps"),
    ]:
        with pytest.raises(ValueError, match=message):
            figure(opening, truth, fps)


def slow_misalignment(opening: np.ndarray, truth: np.ndarray) -> list[int]:
    """The definition, step by step: smooth, warp the first differences, pair extrema of one kind."""
    x, y = (np.asarray(gaussian_filter1d(s, 2.0)) for s in (truth, opening))
    dx, dy = np.r_[0.0, x[1:] - x[:-1]], np.r_[0.0, y[1:] - y[:-1]]
    total = np.full((len(x) + 1, len(y) + 1), np.inf)
    total[0, 0] = 0.0
    for i, a in enumerate(dx, 1):
        for j, b in enumerate(dy, 1):
            total[i, j] = abs(a - b) + min(total[i - 1, j], total[i, j - 1], total[i - 1, j - 1])

    def kind(s: np.ndarray, k: int) -> int:
        return int(s[k - 1] < s[k] > s[k + 1]) - int(s[k - 1] > s[k] < s[k + 1])

    extrema = [k for k in range(1, len(x) - 1) if kind(x, k)]
    apart, i, j = [], len(x), len(y)
    while i and j:
        t, p = i - 1, j - 1
        if t in extrema and 0 < p < len(y) - 1 and kind(y, p) == kind(x, t):
            earlier, later = [k for k in extrema if k < t], [k for k in extrema if k > t]
            if (earlier[-1] if earlier else 0) <= p <= (later[0] if later else len(x) - 1):
                apart.append(abs(t - p))
        moves = [(i - 1, j - 1), (i - 1, j), (i, j - 1)]
        i, j = moves[int(np.argmin([total[m] for m in moves]))]
    return apart


@pytest.mark.parametrize("seed", range(6))
def test_misalignment_is_its_definition(seed: int) -> None:
    """On noise, which has extrema of both kinds everywhere and paths that wander."""
    opening, truth = np.random.default_rng(seed).normal(size=(2, 140)).cumsum(1)
    expected = slow_misalignment(opening, truth)
    assert expected
    assert misalignment_ms(opening, truth, FPS) == pytest.approx(np.mean(expected) * 40.0)
