"""How recordings are joined to sessions, and how they and their faces vary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facetalk.data.expressions import INDEX
from facetalk.data.speech.corpus import Utterance
from facetalk.data.visemes import Style
from facetalk.metrics.reference import draw
from facetalk.training.motion import dataset
from facetalk.training.motion.dataset import MotionData, Session, build, sessions
from facetalk.units import SAMPLE_RATE, frame_count

PHONES = [("AA", 0.5, 1.5)]


def said(number: int, alphabet: str = "arpabet") -> Utterance:
    return Utterance(f"u{number}", Path(f"{number}"), "", "v", "en", "CC0", "t", "train", PHONES, alphabet)


@pytest.fixture(autouse=True)
def tone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every recording is two seconds of a tone of 400 Hz and level 0.5."""
    time = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    monkeypatch.setattr(
        Utterance, "samples", lambda self: (0.5 * np.sin(800 * np.pi * time)).astype(np.float32)
    )
    monkeypatch.setattr(Utterance, "seconds", 2.0)


@pytest.fixture
def unspoilt(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What would spoil sound leaves it alone and is counted."""
    calls: list[int] = []
    monkeypatch.setattr(dataset, "spoil", lambda samples, rng: calls.append(len(samples)) or samples)
    return calls


class Level:
    """Features: the level of each frame."""

    def features(self, samples: np.ndarray, *, fps: float) -> np.ndarray:
        step, count = int(SAMPLE_RATE / fps), frame_count(len(samples), fps)
        padded = np.pad(samples, (0, max(0, count * step - len(samples))))[: count * step]
        return np.abs(padded.reshape(-1, step)).mean(1, keepdims=True)


def rates_and_levels(found: list[Session]) -> np.ndarray:
    """(N, 3) of each recording: seconds of its vowel, level, and pitch in Hz, from sound and phones."""
    out = []
    for session in found:
        for _, start, end in session.phones:
            part = session.samples[int(start * SAMPLE_RATE) : int(end * SAMPLE_RATE)]
            pitch = np.abs(np.fft.rfft(part)).argmax() / (len(part) / SAMPLE_RATE)
            out.append((end - start, float(np.abs(part).max()), pitch))
    return np.array(out)


def test_rates_and_levels_vary_and_phones_go_with_them(unspoilt: list[int]) -> None:
    found = list(sessions([said(i) for i in range(150)], np.random.default_rng(0), augment=True))
    seconds, level, pitch = rates_and_levels(found).T
    rate = 1.0 / seconds
    assert rate.min() >= 0.87 and rate.max() <= 1.15
    assert rate.std() == pytest.approx(0.28 / np.sqrt(12), rel=0.15)
    np.testing.assert_allclose(pitch, 400.0 * rate, rtol=0.01)
    decades = np.log10(level / 0.05)  # what is spoilt is of unit level, and made a tenth of that
    assert decades.min() > -0.42 and decades.max() < 0.02 and decades.std() == pytest.approx(0.115, rel=0.15)
    assert len(unspoilt) == len(found) > 5


def test_plain_sessions_are_as_recorded_with_faint_noise(unspoilt: list[int]) -> None:
    (session,) = sessions([said(i) for i in range(5)], np.random.default_rng(0), augment=False)
    seconds, level, pitch = rates_and_levels([session]).T
    np.testing.assert_allclose(seconds, 1.0, atol=1e-6)
    np.testing.assert_allclose(level, 0.5, atol=0.01)
    np.testing.assert_allclose(pitch, 400.0, rtol=0.002)
    assert not unspoilt
    first = int((session.phones[0][1] - 0.5) * SAMPLE_RATE)
    whole = float(np.sqrt((session.samples**2).mean()))
    assert session.samples[:first].std() == pytest.approx(2e-3 * whole, rel=0.1)


def test_pauses_and_order_are_drawn_and_sessions_last_half_a_minute(unspoilt: list[int]) -> None:
    found = list(sessions([said(i) for i in range(200)], np.random.default_rng(0), augment=False))
    pauses = []
    for session in found:
        starts = np.array([start for _, start, _ in session.phones]) - 0.5
        ends = np.concatenate([[0.0], starts[:-1] + 2.0])
        pauses += (starts - ends).tolist()
        assert len(session.samples) == pytest.approx((starts[-1] + 2.0) * SAMPLE_RATE, abs=2)
    assert min(pauses) >= 0.149 and max(pauses) <= 1.5 and np.std(pauses) == pytest.approx(0.39, rel=0.1)
    lengths = np.array([len(session.samples) for session in found[:-1]]) / SAMPLE_RATE
    assert lengths.min() > 30.0 and lengths.max() <= 33.5
    assert sum(len(session.phones) for session in found) == 200


def test_short_sessions_begin_like_files(unspoilt: list[int]) -> None:
    everyone = [said(i) for i in range(90)]
    found = list(sessions(everyone, np.random.default_rng(0), augment=False, short=True))
    first = np.array([session.phones[0][1] for session in found]) - 0.5
    assert first.min() >= -1e-6 and first.max() <= 0.5 and first.std() > 0.1
    lengths = np.array([len(session.samples) for session in found[:-1]]) / SAMPLE_RATE
    assert lengths.min() > 4.0 and lengths.max() <= 7.5
    assert sum(len(session.phones) for session in found) == 90
    inner = [s.phones[1][1] - 0.5 - (s.phones[0][1] - 0.5 + 2.0) for s in found if len(s.phones) > 1]
    assert min(inner) >= 0.149 and max(inner) > 1.0


def test_alphabets_are_not_mixed(unspoilt: list[int]) -> None:
    mixed = [said(i, "ipa" if i % 2 else "arpabet") for i in range(6)]
    found = list(sessions(mixed, np.random.default_rng(0), augment=False))
    assert [(s.alphabet, len(s.phones)) for s in found] == [("arpabet", 3), ("ipa", 3)]


@pytest.mark.parametrize(("augment", "expected"), [(True, [False, True, True]), (False, [False] * 3)])
def test_all_variants_but_the_first_are_augmented(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, augment: bool, expected: list[bool]
) -> None:
    asked: list[bool] = []
    taken: list[set[str]] = []
    encode = dataset._encode

    def spy(encoder: Any, piece: tuple[int, list[Utterance]], **more: Any) -> Any:
        asked.append(more["augment"])
        taken.append({u.id for u in piece[1]})
        return encode(encoder, piece, **more)

    monkeypatch.setattr(dataset, "_encode", spy)
    everyone = [said(i) for i in range(10)]
    settings: dict[str, Any] = {"fps": 25.0, "variants": 3, "draws": 1, "seed": 0, "share": 0.5}
    data = build(everyone, Level(), tmp_path, augment=augment, **settings)
    assert asked == expected and len(data.features) == 3
    assert all(len(part) == 5 for part in taken) and len({tuple(sorted(t)) for t in taken}) > 1
    before = data.features[0]
    asked.clear()
    # Anything that changes what is drawn has a cache of its own; nothing else has.
    build(everyone, Level(), tmp_path, augment=augment, **settings)
    assert not asked
    for change in ({"seed": 1}, {"draws": 2}, {"share": 0.6}, {"fps": 50.0}, {"short": True}):
        build(everyone, Level(), tmp_path, augment=augment, **{**settings, **change})
        assert asked, change
        asked.clear()
    assert len(before) == data.weights[0].shape[1]


def test_faces_of_a_session_have_styles_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    styles: list[Style] = []

    def curves(phones: Any, duration: float, fps: float, *, alphabet: str, rng: Any) -> np.ndarray:
        styles.append(Style.draw(rng))  # as the curves do first of all where no style is given
        return np.zeros((round(duration * fps), 53), np.float32)

    monkeypatch.setattr(dataset, "curves", curves)
    build([said(i) for i in range(9)], Level(), tmp_path, fps=25.0, variants=1, draws=200, seed=0)
    drawn = np.array([(s.jaw, s.lips) for s in styles])
    assert drawn.shape == (200, 2) and drawn.min() >= 0.9 and drawn.max() <= 1.2
    np.testing.assert_allclose(drawn.std(0), 0.3 / np.sqrt(12), rtol=0.15)
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.25


def test_faces_that_are_learned_from_are_those_that_figures_are_held_to(tmp_path: Path) -> None:
    """Style, blinks, brows, gaze: a session's curves and the truth of the metrics are draws of one thing."""
    spoken = said(0)
    data = build([spoken], Level(), tmp_path, fps=25.0, variants=1, draws=300, seed=0)
    learned = data.weights[0].astype(np.float32)
    frames = learned.shape[1]
    # The session's utterance comes after a pause; how wide its widest frame is does not depend on when.
    drawn = np.stack([draw(spoken.phones, frames, 25.0, spoken.alphabet, seed) for seed in range(300)])
    jaw = INDEX["jawOpen"]
    for part in (np.mean, np.std):
        a, b = (part(one[:, :, jaw].max(1)) for one in (learned, drawn))
        assert 0.85 < a / b < 1.15, part.__name__


def test_crops_are_drawn_from_everywhere_and_keep_together() -> None:
    features = [np.arange(n, dtype=np.float16)[:, None] + 200 * k for k, n in enumerate((30, 10, 90))]
    weights = [np.stack([f + 0.0, f + 500.0]) for f in features]
    data, rng = MotionData(features, weights), np.random.default_rng(0)
    assert data.frames == 130
    firsts, draws = [], []
    for _ in range(800):
        heard, moved = data.crop(rng, 20)
        assert heard.shape == moved.shape == (20, 1) and heard.dtype == moved.dtype == np.float32
        np.testing.assert_allclose(np.diff(heard[:, 0]), 1.0)
        draws.append(moved[0, 0] - heard[0, 0])
        firsts.append(heard[0, 0])
    starts = np.array(firsts)
    assert set(draws) == {0.0, 500.0} and not ((starts >= 200) & (starts < 400)).any()
    # By how many places there are: 11 in the first session, 71 in the last; the ends among them.
    assert (starts < 200).mean() == pytest.approx(11 / 82, abs=0.04)
    assert {0.0, 10.0, 400.0, 470.0} <= set(firsts)


def test_processes_encode_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "_TOGETHER", 7)
    told: dict[str, Any] = {"fps": 25.0, "variants": 2, "draws": 2, "seed": 3}
    corpus = [said(number) for number in range(40)]
    alone = build(corpus, Level(), tmp_path / "alone", **told)
    shared = build(corpus, Level(), tmp_path / "shared", **told, workers=3)
    assert len(alone.features) == len(shared.features) > 6
    assert len({len(part) for part in alone.features[:5]}) > 1  # pieces of a size have pauses of their own
    for mine, theirs in zip(alone.features + alone.weights, shared.features + shared.weights, strict=True):
        np.testing.assert_array_equal(mine, theirs)
