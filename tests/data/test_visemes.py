"""What a face does for phones: lips close for p, b, m, silence rests, everything stays a weight."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facetalk.data import phones as ph
from facetalk.data.expressions import EXPRESSION_NAMES, INDEX
from facetalk.data.visemes import Style, curves, lip_gap
from facetalk.errors import InputError

ARPABET = [s for s in ph.table()["arpabet"] if not s.startswith("+")]
IPA = [s for s in ph.table()["ipa"] if s]


def spoken(symbols: list[str], seconds: list[float]) -> list[ph.Phone]:
    ends = np.cumsum(seconds)
    return [(s, float(e - d), float(e)) for s, d, e in zip(symbols, seconds, ends, strict=True)]


phone_runs = st.lists(st.tuples(st.sampled_from(ARPABET), st.floats(0.02, 0.4)), min_size=1, max_size=20).map(
    lambda pairs: spoken([s for s, _ in pairs], [d for _, d in pairs])
)


@given(run=phone_runs, fps=st.sampled_from([24.0, 25.0, 30.0, 60.0]), seed=st.none() | st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_weights_are_weights(run: list[ph.Phone], fps: float, seed: int | None) -> None:
    duration = run[-1][2] + 0.3
    rng = None if seed is None else np.random.default_rng(seed)
    weights = curves(run, duration, fps, alphabet="arpabet", rng=rng)
    assert weights.shape == (max(1, round(duration * fps)), 53) and weights.dtype == np.float32
    assert np.isfinite(weights).all() and weights.min() >= 0 and weights.max() <= 1
    assert weights[:, INDEX["jawOpen"]].max() < 0.6


@given(run=phone_runs, fps=st.sampled_from([25.0, 60.0]), seed=st.none() | st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_bilabials_close_the_lips(run: list[ph.Phone], fps: float, seed: int | None) -> None:
    duration = run[-1][2] + 0.3
    rng = None if seed is None else np.random.default_rng(seed)
    gap = lip_gap(curves(run, duration, fps, alphabet="arpabet", rng=rng))
    times = (np.arange(len(gap)) + 0.5) / fps
    for symbol, start, end in run:
        if symbol in ("P", "B", "M"):
            near = (times >= start - 0.04) & (times <= end + 0.04)
            assert gap[near].min() < 0.05


@pytest.mark.parametrize(
    ("symbol", "low", "high"), [("AA", 9, 15), ("AE", 8, 14), ("IY", 3, 8), ("UW", 2, 6)]
)
def test_vowels_open_the_lips_by_their_measure(symbol: str, low: float, high: float) -> None:
    gap = lip_gap(curves([(symbol, 0.5, 1.0)], 1.5, 100.0, alphabet="arpabet"))
    assert low < gap[60:90].max() < high


def steady_jaw(symbol: str, seconds: float) -> float:
    """How far the jaw opens in the middle of the same vowel said over and over."""
    count = 2 * round(1.0 / seconds)
    weights = curves(spoken([symbol] * count, [seconds] * count), count * seconds, 100.0, alphabet="arpabet")
    return float(weights[len(weights) // 2, INDEX["jawOpen"]])


def test_short_vowels_fall_short_of_their_targets() -> None:
    """Undershoot (Lindblom 1963): by duration to the power 0.35, between 0.55 and 1.15 of the target."""
    usual = steady_jaw("AA", 0.1)
    assert steady_jaw("AA", 0.05) / usual == pytest.approx(0.5**0.35, rel=0.01)
    assert steady_jaw("AA", 0.14) / usual == pytest.approx(1.4**0.35, rel=0.01)
    assert steady_jaw("AA", 0.4) / usual == pytest.approx(1.15, rel=0.015)
    assert steady_jaw("AA", 0.01) / usual == pytest.approx(0.55, rel=0.01)
    assert steady_jaw("S", 0.05) == pytest.approx(steady_jaw("S", 0.1), rel=0.01)  # consonants do not


def test_stress_opens_the_jaw() -> None:
    scales = ph.table()["coarticulation"]["stress_scale"]
    usual = steady_jaw("AA1", 0.1)
    for mark in ("0", "2"):
        assert steady_jaw("AA" + mark, 0.1) / usual == pytest.approx(scales[mark] / scales["1"], rel=0.01)
    assert scales["0"] < scales["2"] < scales["1"]


def test_silence_rests() -> None:
    weights = curves([], 1.0, 25.0, alphabet="ipa")
    assert np.abs(weights).max() < 1e-6
    tail = curves([("AA", 0.0, 0.3)], 3.0, 25.0, alphabet="arpabet")[50:]
    assert lip_gap(tail).max() < 1.5


def test_labiodentals_bring_lip_to_teeth() -> None:
    weights = curves(spoken(["AA", "F", "AA"], [0.2, 0.12, 0.2]), 0.52, 100.0, alphabet="arpabet")[26]
    assert weights[INDEX["jawOpen"]] <= 0.0701 and weights[INDEX["mouthRollLower"]] >= 0.339


def test_rounding_starts_before_its_phone() -> None:
    run = spoken(["IY", "S", "UW"], [0.4, 0.12, 0.2])
    pucker = curves(run, 0.72, 100.0, alphabet="arpabet")[:, INDEX["mouthPucker"]]
    assert pucker[50] > 0.15 > pucker[20]


def test_style_scales_the_jaw() -> None:
    run = [("AA", 0.2, 0.6)]
    jaw = [
        curves(run, 1.0, 25.0, alphabet="arpabet", style=Style(jaw=j))[:, INDEX["jawOpen"]].max()
        for j in (0.75, 1.25)
    ]
    assert jaw[1] / jaw[0] == pytest.approx(1.25 / 0.75, rel=0.02)


def test_life_blinks_and_looks_about() -> None:
    rng = np.random.default_rng(3)
    weights = curves(
        [("AA", a, a + 0.2) for a in np.arange(0, 60, 0.4)], 60.0, 25.0, alphabet="arpabet", rng=rng
    )
    lid = weights[:, INDEX["eyeBlink_L"]] > 0.5
    blinks = int((lid[1:] & ~lid[:-1]).sum())
    assert 8 <= blinks <= 45  # 10 to 33 a minute when talking, half-closed ones not counted
    for name in ("browInnerUp_L", "eyeLookOut_L", "eyeLookIn_L", "mouthSmile_R"):
        assert weights[:, INDEX[name]].std() > 1e-3
    still = curves(
        [("AA", 0.0, 0.2)], 5.0, 25.0, alphabet="arpabet", rng=np.random.default_rng(0), life=False
    )
    assert still[:, INDEX["eyeBlink_L"]].max() == 0


def test_same_seed_same_face() -> None:
    run = [("M", 0.2, 0.3), ("AA", 0.3, 0.6)]
    one, two = (curves(run, 2.0, 25.0, alphabet="arpabet", rng=np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(one, two)


def test_every_symbol_has_a_class_and_names_are_distinct() -> None:
    assert len(set(EXPRESSION_NAMES)) == 53
    for alphabet, symbols in (("arpabet", ARPABET), ("ipa", IPA)):
        for symbol in symbols:
            if ph.lookup(symbol, alphabet)[1]:
                units = ph.units_with_classes(symbol, alphabet)
                assert units[0][1] == 0.0 and units[-1][2] == 1.0


@pytest.mark.parametrize(
    ("symbol", "alphabet", "name"),
    [
        ("B", "arpabet", "b"),
        ("pʲ", "ipa", "p"),
        ("M", "arpabet", "m"),
        ("v", "ipa", "v"),
        ("NG", "arpabet", "n"),
        ("ɲ", "ipa", "n"),
        ("AH0", "arpabet", "ah"),
        ("pau", "arpabet", "silence"),
        ("ˈa", "ipa", "a"),
    ],
)
def test_classes(symbol: str, alphabet: str, name: str) -> None:
    assert ph.CLASSES[ph.units_with_classes(symbol, alphabet)[0][0]] == name


def test_class_track_covers_the_clip() -> None:
    track = ph.class_track([("P", 0.2, 0.4), ("AA", 0.4, 0.6)], 1.0, 10.0, alphabet="arpabet")
    assert [ph.CLASSES[i] for i in track] == ["silence"] * 2 + ["p"] * 2 + ["a"] * 2 + ["silence"] * 4


@pytest.mark.parametrize(
    ("run", "duration", "fps", "alphabet"),
    [
        ([], 0.0, 25.0, "ipa"),
        ([], 1.0, 0.0, "ipa"),
        ([("a", 0.5, 0.2)], 1.0, 25.0, "ipa"),
        ([], 1.0, 25.0, "sampa"),
    ],
)
def test_bad_input(run: list[ph.Phone], duration: float, fps: float, alphabet: str) -> None:
    with pytest.raises(InputError):
        curves(run, duration, fps, alphabet=alphabet)
