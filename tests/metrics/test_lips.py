"""Lip figures on motions whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facetalk.metrics.lips import LipFigures, frames_of, kind_of, lip_gap, measure, mouth_deviation, silences

FPS = 25.0


def face(gaps_mm: np.ndarray) -> np.ndarray:
    """(T,) gaps -> (T, 68, 3) landmarks whose lower inner lip hangs that far under the upper one."""
    rng = np.random.default_rng(0)
    points = np.repeat(rng.normal(size=(1, 68, 3)) * 0.05, len(gaps_mm), axis=0)
    for upper, lower in ((61, 67), (62, 66), (63, 65)):
        points[:, lower, 1] = points[:, upper, 1] - np.asarray(gaps_mm) / 1000.0
    return points


def test_gap_is_the_mean_vertical_distance_of_the_three_pairs() -> None:
    points = face(np.array([0.0, 3.0]))
    np.testing.assert_allclose(lip_gap(points), [0.0, 3.0], atol=1e-9)
    points[1, 66, 1] -= 0.006
    np.testing.assert_allclose(lip_gap(points)[1], 5.0)
    points[1, 66, 0] += 1.0  # sideways does not count
    np.testing.assert_allclose(lip_gap(points)[1], 5.0)


def test_lips_that_passed_through_each_other_are_not_closed() -> None:
    np.testing.assert_allclose(lip_gap(face(np.array([-4.0]))), [4.0])


def test_wrong_shape_is_named() -> None:
    with pytest.raises(ValueError, match=r"\(T, 68, 3\)"):
        lip_gap(np.zeros((5, 51, 3)))


@settings(max_examples=200, deadline=None)
@given(start=st.floats(0, 10), length=st.floats(0, 0.5), margin=st.sampled_from([0.0, 0.04]))
def test_frames_are_those_whose_centre_lies_in_the_interval(
    start: float, length: float, margin: float
) -> None:
    count = 300
    got = frames_of(start, start + length, FPS, count, margin)
    centres = (np.arange(count) + 0.5) / FPS
    inside = np.flatnonzero((centres >= start - margin - 1e-9) & (centres <= start + length + margin + 1e-9))
    if len(inside):
        assert (got.start, got.stop) == (inside[0], inside[-1] + 1)
    else:
        assert got.stop - got.start == 1
        assert abs(centres[got.start] - (start + length / 2)) <= 0.5 / FPS + 1e-9


def test_frames_stay_within_the_clip() -> None:
    assert frames_of(50.0, 51.0, FPS, 10) == slice(9, 10)
    assert frames_of(-3.0, -2.0, FPS, 10) == slice(0, 1)


@pytest.mark.parametrize(
    ("symbol", "alphabet", "kind"),
    [
        ("P", "arpabet", "bilabial"), ("B", "arpabet", "bilabial"), ("M", "arpabet", "bilabial"),
        ("AA1", "arpabet", "open"), ("AE0", "arpabet", "open"), ("AY1", "arpabet", "open"),
        ("IY1", "arpabet", None), ("UW0", "arpabet", None), ("S", "arpabet", None),
        ("F", "arpabet", "labiodental"), ("V", "arpabet", "labiodental"), ("SIL", "arpabet", "silence"),
        ("p", "ipa", "bilabial"), ("m", "ipa", "bilabial"), ("v", "ipa", "labiodental"), ("i", "ipa", None),
        ("a", "ipa", "open"), ("", "ipa", "silence"),
    ],
)  # fmt: skip
def test_phones_are_sorted_by_what_the_lips_must_do(symbol: str, alphabet: str, kind: str | None) -> None:
    assert kind_of(symbol, alphabet) == kind


def test_measure_counts_closures_openings_and_silence() -> None:
    gaps = np.full(100, 3.0)
    gaps[10] = 0.4  # within the first P
    gaps[29] = 0.4  # one frame before the second, within its margin
    gaps[60:70] = 9.0
    gaps[:8] = gaps[80:] = 0.8
    landmarks = face(gaps)
    rest = face(np.array([0.8]))[0]
    phones = [("P", 0.40, 0.48), ("P", 1.20, 1.28), ("M", 2.0, 2.08), ("AA1", 2.4, 2.8), ("F", 2.9, 3.0),
              ("SIL", 3.0, 4.0), ("SIL", 0.0, 0.2), ("IY1", 0.48, 2.4)]  # fmt: skip
    figures = measure(landmarks, rest, phones, fps=FPS)
    np.testing.assert_allclose(figures.bilabial, [0.4, 0.4, 3.0])
    np.testing.assert_allclose(figures.opened, [9.0])
    np.testing.assert_allclose(figures.labiodental, [3.0])
    summary = figures.summary()
    assert summary["closed"] == pytest.approx(2 / 3)
    # 2 frames centred in 0.15 to 0.25 s, before the first P, and 17 in 3.15 to 3.85 s.
    assert summary["silent_frames"] == 2 + 17
    assert summary["silent_gap_mm"] == pytest.approx(0.8)
    assert summary["silent_deviation_mm"] == pytest.approx(0.0, abs=1e-9)


def test_silence_is_what_no_sounding_phone_covers() -> None:
    phones = [("SIL", 0.0, 0.5), ("AA1", 0.5, 1.0), ("SIL", 1.0, 1.2), ("P", 1.2, 1.3), ("B", 2.0, 2.1)]
    assert silences(phones, 2.3, "arpabet") == [(0.0, 0.5), (1.3, 2.0)]
    assert silences([], 3.0, "arpabet") == [(0.0, 3.0)]


def test_silence_without_a_symbol_is_silence_to_every_figure() -> None:
    """Aligners and synthesizers leave pauses out as often as they name them."""
    rest = face(np.array([0.8]))[0]
    gaps = np.full(75, 5.0)
    gaps[:13] = gaps[62:] = gaps[36:39] = 0.2  # opening late, closing early, and in the pause
    spoken = [("S", 0.5, 1.4), ("IY1", 1.6, 2.5)]
    named = [("SIL", 0.0, 0.5), spoken[0], ("SIL", 1.4, 1.6), spoken[1], ("SIL", 2.5, 3.0)]
    figures = [measure(face(gaps), rest, phones, fps=FPS) for phones in (spoken, named)]
    assert figures[0].elsewhere == figures[1].elsewhere
    # Frames centred between 0.6 and 1.3 s and between 1.7 and 2.4 s.
    assert len(figures[0].elsewhere) == 17 + 17 and sum(figures[0].elsewhere) == 0


def test_phones_outside_of_the_motion_are_not_measured() -> None:
    rest = face(np.array([0.8]))[0]
    gaps = np.full(50, 5.0)
    gaps[0] = gaps[-1] = 0.2
    spoken = [("AA1", 0.2, 1.9)]
    outside = [("P", -0.5, -0.4), *spoken, ("P", 2.1, 2.2), ("F", 3.0, 3.1), ("AA1", 4.0, 4.2)]
    for reading in (None, face(gaps)):
        found, alone = (measure(face(gaps), rest, p, fps=FPS, reading=reading) for p in (outside, spoken))
        assert found.bilabial == [] and found.labiodental == [] and found.touch == []
        assert found.opened == alone.opened and found.silent_gap == alone.silent_gap


def test_deviation_is_a_distance_of_mouth_landmarks_alone() -> None:
    rest = face(np.array([1.0]))[0]
    moved = np.repeat(rest[None], 2, 0)
    moved[1, 48:68, 2] += 0.002
    moved[1, :48] += 1.0
    np.testing.assert_allclose(mouth_deviation(moved, rest), [0.0, 2.0], atol=1e-9)


def test_nothing_measured_is_not_a_number() -> None:
    summary = LipFigures().summary()
    assert summary["bilabials"] == 0 and summary["closed"] is None and summary["open_gap_mm"] is None


def test_lips_that_close_where_they_should_be_apart_are_counted() -> None:
    gaps = np.full(50, 5.0)
    gaps[10:13] = 0.2  # in the P
    gaps[30:40] = 0.2  # in the second half of the vowel
    rest = face(np.array([0.8]))[0]
    phones = [("SIL", 0.0, 0.4), ("P", 0.4, 0.52), ("AA1", 0.52, 2.0)]
    figures = measure(face(gaps), rest, phones, fps=FPS)
    # Frames centred after 0.52 + 0.1 s; that of frame 15 is just there.
    assert len(figures.elsewhere) == 50 - 16 and sum(figures.elsewhere) == 10
    still = measure(np.repeat(rest[None], 50, 0), rest, phones, fps=FPS)
    assert still.summary()["shut_elsewhere"] == 1.0 and still.summary()["closed"] == 1.0


def test_an_f_touches_where_the_reading_has_the_lip() -> None:
    rest = face(np.array([0.8]))[0]
    phones = [("AA1", 0.0, 1.0), ("F", 1.0, 1.2), ("AA1", 1.2, 2.0)]
    right = face(np.full(50, 8.0))
    right[22:33] = face(np.full(11, 4.0))
    right[22:33, [65, 66, 67], 2] -= 0.006  # drawn back under the teeth
    shut = right.copy()
    shut[22:33] = face(np.zeros(11))
    for motion, distance in ((right, 0.0), (shut, np.hypot(4.0, 6.0)), (face(np.full(50, 8.0)), None)):
        figures = measure(motion, rest, phones, fps=FPS, reading=right)
        assert len(figures.touch) == 1
        if distance is not None:
            assert figures.touch[0] == pytest.approx(distance)
        assert figures.summary()["touching"] == float(distance == 0.0)
    assert measure(right, rest, phones, fps=FPS).summary()["touching"] is None
