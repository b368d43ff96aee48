"""Blinks, gaze, brows and idle motion are those of the table in visemes.json, in number, size and shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from facetalk.data import phones as ph
from facetalk.data import upper_face
from facetalk.data.expressions import EXPRESSION_NAMES, INDEX

FPS = 100.0
RULES: dict[str, Any] = ph.table()


def frames(seconds: float) -> np.ndarray:
    return (np.arange(round(seconds * FPS)) + 0.5) / FPS


def blank(times: np.ndarray) -> np.ndarray:
    return np.zeros((len(times), len(EXPRESSION_NAMES)))


def column(weights: np.ndarray, name: str) -> np.ndarray:
    return weights[:, INDEX[name]]


@pytest.fixture(scope="module")
def blinks() -> tuple[np.ndarray, np.ndarray]:
    """Ten minutes without pauses."""
    times = frames(600.0)
    weights = blank(times)
    upper_face._blinks(weights, times, [], RULES["blink"], np.random.default_rng(0))
    return times, weights


def runs(inside: np.ndarray) -> np.ndarray:
    """(N, 2) first frame and frame after the last of each stretch."""
    edges = np.diff(np.concatenate([[0], inside.astype(int), [0]]))
    return np.stack([np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)], 1)


def test_blinks_come_at_their_rate_and_close_quicker_than_they_open(
    blinks: tuple[np.ndarray, np.ndarray],
) -> None:
    _, weights = blinks
    lid = (column(weights, "eyeBlink_L") + column(weights, "eyeBlink_R")) / 2
    spans = runs(lid > 0.3)
    # 24.7 a minute by the intervals, a blink's own length later, and 6 % twice.
    assert 20 <= len(spans) / 10 <= 30
    gaps = np.diff(spans[:, 0]) / FPS
    assert gaps.min() > 0.25 and np.median(gaps) == pytest.approx(1.9, abs=0.25)
    peaks = np.array([lid[a:b].max() for a, b in spans])
    full = peaks > 0.9
    assert full.mean() == pytest.approx(0.75, abs=0.07) and peaks.min() > 0.48 and peaks.max() <= 1.0
    assert peaks[~full].max() < 0.86
    closing, opening, held = [], [], []
    for (a, b), peak in zip(spans, peaks, strict=True):
        top = np.flatnonzero(lid[a:b] > 0.985 * peak)
        if len(runs(lid[a:b] > 0.7 * peak)) == 1:
            closing.append(top[0] / FPS)
            held.append((top[-1] - top[0]) / FPS)
            opening.append((b - a - top[-1]) / FPS)
    assert 0.03 < np.mean(closing) < 0.065 and 0.05 < np.mean(opening) < 0.08
    assert 0.01 < np.mean(held) < 0.06


def test_a_blink_has_the_shape_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    class Middle:
        """Draws the middle of every range; no chance comes true but that of a full blink."""

        coins = iter([0.0, 0.99, 0.0, 0.99] * 9)

        def uniform(self, low: float, high: float) -> float:
            return (low + high) / 2

        def random(self) -> float:
            return next(self.coins)

        def lognormal(self, mean: float, sigma: float) -> float:
            return 50.0

        def normal(self, mean: float, sd: float) -> float:
            return sd

    times = frames(10.0)
    weights = blank(times)
    upper_face._blinks(weights, times, [], RULES["blink"], Middle())  # type: ignore[arg-type]
    start, close, hold, opening, amplitude = 0.95, 0.08, 0.03, 0.175, 0.96
    u = np.clip((times - start) / close, 0, 1)
    after = np.maximum(times - start - close - hold, 0)
    expected = amplitude * u * u * (3 - 2 * u) * np.exp(-3.5 * after / opening)
    for name, weight in (("eyeBlink", 1.0), ("eyeSquint", 0.1), ("browDown", 0.03)):
        np.testing.assert_allclose(column(weights, name + "_L"), weight * 1.02 * expected, atol=1e-9)
        np.testing.assert_allclose(column(weights, name + "_R"), weight * 0.98 * expected, atol=1e-9)


def test_blinks_gather_at_pauses() -> None:
    times = frames(600.0)
    pauses = [(a, a + 0.4) for a in np.arange(1.0, 600.0, 1.6)]
    weights = blank(times)
    upper_face._blinks(weights, times, pauses, RULES["blink"], np.random.default_rng(0))
    starts = runs(column(weights, "eyeBlink_L") > 0.2)[:, 0] / FPS
    after = (starts - 1.0) % 1.6
    # Half come within 0.8 s before a pause, and 60 % of those go there; the rest fall anywhere.
    assert 0.45 < (after < 0.36).mean() < 0.65


def test_gaze_fixes_and_jumps_with_both_eyes() -> None:
    times = frames(900.0)
    weights = blank(times)
    down = upper_face._gaze(weights, times, RULES["gaze"], np.random.default_rng(0))
    left_out, left_in = column(weights, "eyeLookOut_L"), column(weights, "eyeLookIn_L")
    np.testing.assert_allclose(left_out, column(weights, "eyeLookIn_R"), atol=1e-9)
    np.testing.assert_allclose(left_in, column(weights, "eyeLookOut_R"), atol=1e-9)
    up = column(weights, "eyeLookUp_L")
    np.testing.assert_array_equal(down, column(weights, "eyeLookDown_L"))
    np.testing.assert_array_equal(column(weights, "eyeLookUp_R"), up)
    assert not (np.minimum(left_out, left_in) > 0).any() and not (np.minimum(up, down) > 0).any()
    yaw, pitch = (left_out - left_in) / 0.033, (up - down) / 0.033
    away = np.hypot(yaw, pitch)
    assert (away < 1e-6).mean() == pytest.approx(0.41, abs=0.08)  # at the other one's eyes
    assert 10.0 < away.max() <= 20.1
    assert np.abs(yaw).mean() > 1.4 * np.abs(pitch).mean() > 0.0  # aside more than up and down
    assert abs(yaw.mean()) < 0.6 and abs(pitch.mean()) < 0.4
    moving = np.abs(np.diff(yaw)) + np.abs(np.diff(pitch)) > 1e-9
    jumps = runs(moving)
    lengths = (jumps[:, 1] - jumps[:, 0]) / FPS
    sizes = np.array([np.hypot(yaw[b] - yaw[a], pitch[b] - pitch[a]) for a, b in jumps])
    alone = lengths < 0.09
    np.testing.assert_allclose(lengths[alone], 0.021 + 0.0022 * sizes[alone], atol=0.021)
    rests = np.diff(jumps[:, 0]) / FPS
    assert np.median(rests) == pytest.approx(1.1 * 1.35, rel=0.3)  # looks that stay where they were are none


def test_brows_rise_with_accents_onsets_and_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[float, ...]] = []

    def bump(times: np.ndarray, start: float, rise: float, hold: float, fall: float) -> np.ndarray:
        seen.append((start, rise, hold, fall))
        return np.ones(len(times))

    monkeypatch.setattr(upper_face, "_bump", bump)
    rules = {**RULES["brow_prosody"], "frown": {**RULES["brow_prosody"]["frown"], "rate_per_min": 0.0}}
    times = np.linspace(0.0, 4000.0, 3)  # raises do not look at them here

    def brows(vowels: Any, pauses: Any) -> tuple[np.ndarray, np.ndarray]:
        seen.clear()
        weights = blank(times)
        upper_face._brows(weights, times, vowels, pauses, rules, np.random.default_rng(0))
        return np.array(seen), weights

    vowels = np.arange(2.0, 3990.0, 1.0)
    raised, weights = brows(vowels, [])
    assert len(raised) / len(vowels) == pytest.approx(0.35 * 0.35, abs=0.03)
    lead = vowels[np.round(raised[:, 0] + 0.1 - 2.0).astype(int)] - raised[:, 0]
    assert lead.min() >= 0.05 and lead.max() <= 0.15
    for place, (low, high) in enumerate(((0.12, 0.2), (0.05, 0.2), (0.2, 0.4)), 1):
        assert low <= raised[:, place].min() and raised[:, place].max() <= high
    top = column(weights, "browOuterUp_L").max()
    assert 0.33 < top <= 0.35 and column(weights, "browInnerUp_R").max() == pytest.approx(0.8 * top)
    # An utterance begins after half a second of silence, with a raise in one of four.
    long_pauses = [(a, a + 0.6) for a in np.arange(0.0, 3990.0, 2.0)]
    onsets, weights = brows([], long_pauses)
    assert len(onsets) / len(long_pauses) == pytest.approx(0.25 + 2.0 * 0.6 / 60.0, abs=0.03)
    assert column(weights, "browOuterUp_L").max() <= 0.25
    assert len(brows([], [(a, a + 0.4) for a in np.arange(0.0, 3990.0, 2.0)])[0]) / 1995 < 0.04
    # Nobody speaks after the last pause.
    silent, weights = brows([], [(i * 100.0, i * 100.0 + 100.0) for i in range(40)])
    assert len(silent) > 0
    quiet, weights = brows([], [(0.0, 4001.0)] * 60)
    assert len(quiet) in (59, 60) and 0.15 < column(weights, "browOuterUp_L").max() <= 0.2
    begun = quiet[:, 0]
    assert begun.min() < 600 and begun.max() > 3400


def test_frowns_are_rare_and_go_as_they_came() -> None:
    times, counts, tops, held = frames(60.0)[::4], [], [], []
    rules = RULES["brow_prosody"]
    for seed in range(150):
        weights = blank(times)
        upper_face._brows(weights, times, [], [], rules, np.random.default_rng(seed))
        frown = column(weights, "browDown_L")
        spans = runs(frown > 1e-6)
        counts.append(len(spans))
        tops += [frown[a:b].max() for a, b in spans]
        if len(spans) == 1 and spans[0, 0] and spans[0, 1] < len(times):
            (a, b) = spans[0]
            assert 0.5 < (b - a) / 25.0 < 4.1
            held.append((frown[a:b] > 0.99 * frown[a:b].max()).mean())
    assert 0.35 < np.median(held) < 0.55  # two fifths, and the slow ends of rise and fall
    assert np.mean(counts) == pytest.approx(1.0, abs=0.25)
    assert min(tops) >= 0.05 and max(tops) < 0.41


def test_idle_motion_has_the_tables_mean_spread_and_memory() -> None:
    times = frames(1500.0)[::4]  # 25 fps
    weights, silent = blank(times), np.zeros(len(times), bool)
    silent[: len(silent) // 2] = True
    upper_face._idle(weights, times, silent, RULES["idle"], np.random.default_rng(1))
    for name in ("mouthSmile", "browDown", "eyeSquint", "browInnerUp"):
        channel = RULES["idle"]["channels"][name]
        left, right = column(weights, name + "_L"), column(weights, name + "_R")
        both = (left + right) / 2
        assert both.mean() == pytest.approx(channel["mu"], abs=0.35 * channel["sd"]), name
        assert both.std() == pytest.approx(channel["sd"], rel=0.3), name
        lag = round(channel["tau_s"] * 25)
        memory = np.corrcoef(both[:-lag], both[lag:])[0, 1]
        assert memory == pytest.approx(np.exp(-1), abs=0.17), name
        lean = (left - right).mean() / (2 * both.mean())
        assert 1e-4 < abs(lean) < 4 * channel["asym"], name
    press = column(weights, "mouthPress_L")
    half = len(times) // 2
    assert press[: half - 10].mean() > 0.01 and press[half + 10 :].max() == 0.0  # only in silence
    fade = press[half - 4 : half + 6]
    assert 0.0 < fade[4] < fade[0]
    aside, other = column(weights, "jawLeft"), column(weights, "jawRight")
    assert not (np.minimum(aside, other) > 0).any() and min(aside.max(), other.max()) > 0.015
    forward = column(weights, "jawForward")
    assert forward.min() == 0.0 and (forward > 0).mean() == pytest.approx(0.5, abs=0.12)
    assert weights.min() == 0.0


def test_life_is_asked_for_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses, long vowels, the lids' following of the gaze, and talking a little to one side."""
    told: dict[str, Any] = {}
    times = frames(2.0)
    monkeypatch.setattr(upper_face, "_idle", lambda w, t, silent, *_: told.update(silent=silent))
    monkeypatch.setattr(
        upper_face, "_brows", lambda w, t, vowels, pauses, *_: told.update(vowels=vowels, pauses=pauses)
    )
    monkeypatch.setattr(upper_face, "_blinks", lambda w, t, pauses, *_: told.update(again=pauses))
    monkeypatch.setattr(upper_face, "_gaze", lambda w, t, *_: np.full(len(t), 0.5))
    weights = blank(times)
    weights[:, INDEX["mouthSmile_L"]] = weights[:, INDEX["mouthSmile_R"]] = 0.4
    run = [
        ("SIL", 0.0, 0.5),
        ("AA", 0.5, 0.7),
        ("S", 0.7, 1.0),
        ("IY", 1.0, 1.08),
        ("UW", 1.1, 1.2),
        ("SIL", 1.5, 2.0),
    ]
    rng = np.random.default_rng(0)
    upper_face.add_life(weights, run, times, "arpabet", rng)
    assert told["vowels"] == [0.5, 1.1] and told["pauses"] == told["again"] == [(0.0, 0.5), (1.5, 2.0)]
    np.testing.assert_array_equal(told["silent"], (times < 0.5) | (times >= 1.5))
    np.testing.assert_allclose(column(weights, "eyeBlink_L"), 0.35 * 0.5)
    lean = np.random.default_rng(0).normal(0.0, 0.05)
    np.testing.assert_allclose(column(weights, "mouthSmile_L"), 0.4 * (1 + lean))
    np.testing.assert_allclose(column(weights, "mouthSmile_R"), 0.4 * (1 - lean))
