"""A face for a voice: what is heard, what the draw keeps, what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import lfilter

import facetalk
from facetalk.batch import generate_batch
from facetalk.batch.work import Settings
from facetalk.casting import Voice, cast, hear, seed_of
from facetalk.casting.dimorphism import DISTANCES, direction, lean
from facetalk.casting.draw import coefficients
from facetalk.casting.timbre import built_in, fit
from facetalk.casting.voice import FEATURES
from facetalk.cli import main
from facetalk.nphm.head.complexion import _directions
from facetalk.units import SAMPLE_RATE


@pytest.fixture(scope="module")
def model() -> facetalk.FaceTalk:
    return facetalk.FaceTalk.from_pretrained("default", device="cpu")


@pytest.fixture(scope="module")
def step(model: facetalk.FaceTalk) -> np.ndarray:
    linear = model.head.tables.linear
    return direction(linear["landmarks_mean"], linear["landmarks_basis"])


def talk(f0: float, tract: float, seconds: float = 4.0, seed: int = 0) -> np.ndarray:
    """A buzz whose pitch and resonances wander as a voice's do."""
    rng = np.random.default_rng(seed)
    count = round(seconds * SAMPLE_RATE)
    tone = f0 * 2.0 ** (np.sin(np.arange(count) * 2 * np.pi * 0.7 / SAMPLE_RATE) / 6.0)
    sound = lfilter([1.0], [1.0, -0.97], np.diff(np.floor(np.cumsum(tone / SAMPLE_RATE)), prepend=0.0))
    pieces, state = [], np.zeros((4, 2))
    for piece in np.array_split(sound, round(seconds / 0.2)):
        for i, shift in enumerate(rng.uniform(0.85, 1.15, 4)):
            hertz = 350.0 / (2.0 * tract) * (i + 0.5) * shift
            r = np.exp(-np.pi * 90.0 / SAMPLE_RATE)
            poles = [1.0, -2.0 * r * np.cos(2 * np.pi * hertz / SAMPLE_RATE), r * r]
            piece, state[i] = lfilter([1.0], poles, piece, zi=state[i])
        pieces.append(piece)
    out = np.concatenate(pieces)
    return (0.1 * out / np.abs(out).max()).astype(np.float32)


LOW, HIGH = talk(112.0, 0.176), talk(215.0, 0.146)


def test_what_is_heard_of_a_voice() -> None:
    voice = hear([LOW])
    assert voice.f0 == pytest.approx(112.0, rel=0.04) and voice.f0_spread > 1.0
    assert voice.tract_mm == pytest.approx(176.0, rel=0.08)
    assert voice.features.shape == (FEATURES,) and np.isfinite(voice.features).all()
    # In blocks, whatever the gain.
    again = hear(np.array_split(0.1 * LOW, 7))
    assert again.f0 == pytest.approx(voice.f0, rel=1e-3)
    np.testing.assert_allclose(again.features, voice.features, atol=0.05)


def test_no_more_is_heard_than_needed() -> None:
    taken = []

    def blocks():
        for i in range(100):
            taken.append(i)
            yield LOW

    assert hear(blocks()).seconds >= 30.0 and len(taken) < 15


@pytest.mark.parametrize(
    ("sound", "why"),
    [
        (LOW[: SAMPLE_RATE // 2], "needs 1 s of voiced speech"),
        (np.zeros(3 * SAMPLE_RATE, np.float32), r"0.0 s of 3.0 s is"),
        (np.zeros(0, np.float32), "needs 1 s"),
        (np.random.default_rng(0).standard_normal(3 * SAMPLE_RATE).astype(np.float32), "whisper or noise"),
        (np.sin(np.arange(3 * SAMPLE_RATE) * 0.08).astype(np.float32), "steady tone of 20"),
    ],
)
def test_what_has_no_voice_is_refused(sound: np.ndarray, why: str) -> None:
    with pytest.raises(facetalk.InputError, match=why):
        hear([sound], "a.wav")


def test_lean_is_of_both_measures_and_even_in_the_middle() -> None:
    low, high = hear([LOW]), hear([HIGH])
    assert lean(low) > 0.9 and lean(high) < -0.9
    middle = dataclasses.replace(low, f0=float(np.sqrt(120.0 * 210.0)), formant_spacing=float("nan"))
    assert lean(middle) == pytest.approx(0.0, abs=1e-9)
    assert lean(dataclasses.replace(middle, formant_spacing=low.formant_spacing)) > 0.5
    assert np.isfinite(lean(dataclasses.replace(middle, f0=500.0)))


def test_the_direction_has_the_published_distances(model: facetalk.FaceTalk, step: np.ndarray) -> None:
    linear = model.head.tables.linear
    assert 0.3 < step @ step < 1.0  # more would leave no spread within a sex
    for first, second, effect in DISTANCES.values():
        along = linear["landmarks_mean"][first] - linear["landmarks_mean"][second]
        row = (linear["landmarks_basis"][:, first] - linear["landmarks_basis"][:, second]) @ along
        within = np.sqrt(row @ row - (row @ step) ** 2)
        assert 2.0 * row @ step / within == pytest.approx(effect, rel=0.2)
    # Colours go by other directions.
    assert np.abs(_directions(len(step)) @ step).max() < 0.05


def test_draws_have_the_spread_of_people_and_lean_by_the_voice(step: np.ndarray) -> None:
    low, high = hear([LOW]), hear([HIGH])
    drawn = {name: np.stack([coefficients(v, step, seed) for seed in range(400)])
             for name, v in (("low", low), ("high", high))}  # fmt: skip
    unit = step / np.linalg.norm(step)
    difference = (drawn["low"].mean(0) - drawn["high"].mean(0)) @ unit
    assert difference == pytest.approx((lean(low) - lean(high)) * np.linalg.norm(step), rel=0.15)
    other = drawn["low"] - np.outer(drawn["low"] @ unit, unit)
    assert 0.5 < other.std() < 1.0
    # Along the step the voice has told something, so less is left to chance.
    assert (drawn["low"] @ unit).std() < 0.8 * other.std()


def test_a_voice_keeps_its_face_and_a_seed_changes_it(model: facetalk.FaceTalk, step: np.ndarray) -> None:
    one, again, other = hear([LOW]), hear([talk(112.0, 0.176, seed=3)]), hear([HIGH])

    def far(a: Voice, b: Voice, seeds: tuple[int, int] = (0, 0)) -> float:
        return float(np.linalg.norm(coefficients(a, step, seeds[0]) - coefficients(b, step, seeds[1])))

    assert far(one, one) == 0.0
    assert far(one, again) < 0.6 * far(one, other)
    assert far(one, one, (0, 1)) > far(one, again)
    # By timbre alone, where pitch and formants say the same.
    assert far(one, dataclasses.replace(one, features=other.features)) > 2.0 * far(one, again)
    code = cast(one, model.head, 5)
    np.testing.assert_allclose(model.head.coefficients(code), coefficients(one, step, 5), atol=2e-3)


def test_timbre_brings_recordings_of_a_voice_together() -> None:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((30, FEATURES)) * np.linspace(0.1, 5.0, FEATURES)
    rows = np.repeat(centres, 6, axis=0) + rng.standard_normal((180, FEATURES))
    names = [f"v{i // 6}" for i in range(180)]
    timbre = fit(rows.astype(np.float32), names, 8)
    voice = Voice(1.0, 1.0, 1.0, 1.0, rows[0].astype(np.float32))
    placed = np.stack(
        [timbre.of(dataclasses.replace(voice, features=row.astype(np.float32))) for row in rows]
    )
    assert placed.std(0) == pytest.approx(np.ones(8), abs=0.1)
    inside = placed.reshape(30, 6, 8).std(1).mean()
    assert inside < 0.4
    missing = rows[0].astype(np.float32)
    missing[-1] = np.nan
    assert np.isfinite(timbre.of(dataclasses.replace(voice, features=missing))).all()
    with pytest.raises(facetalk.InputError, match="more than 30 voices"):
        fit(rows.astype(np.float32), names, 30)
    assert built_in().axes.shape == (16, FEATURES)


def test_words_for_an_identity() -> None:
    assert seed_of("voice") == 0 and seed_of("voice:12") == 12
    assert seed_of("random:3") is None and seed_of("voice.npy") is None
    for wrong in ("voice:", "voice:-1", "voice:x", "voice:1.5"):
        with pytest.raises(facetalk.InputError, match="must be a whole number"):
            seed_of(wrong)


def test_generate_draws_the_voices_face_and_says_so(model: facetalk.FaceTalk) -> None:
    motion = model.generate((LOW, SAMPLE_RATE), steps=1, seed=0, identity="voice:2")
    np.testing.assert_array_equal(motion.identity, model.identity_from_voice((LOW, SAMPLE_RATE), seed=2))
    assert motion.identity.any() and motion.provenance["identity"] == "voice:2"
    plain = model.generate((LOW, SAMPLE_RATE), steps=1, seed=0)
    np.testing.assert_array_equal(plain.expressions, motion.expressions)
    assert "identity" not in plain.provenance
    with pytest.raises(facetalk.InputError, match="identity_from_voice"):
        model.generate((LOW, SAMPLE_RATE), steps=1, identity="random:1")
    with pytest.raises(facetalk.InputError, match="identity_from_voice"):
        model.stream(identity="voice")  # type: ignore[arg-type]
    with pytest.raises(facetalk.InputError, match="at least 0"):
        model.identity_from_voice((LOW, SAMPLE_RATE), seed=-1)
    with pytest.raises(facetalk.InputError, match="needs 1 s of voiced speech"):
        model.generate((LOW[:4000], SAMPLE_RATE), identity="voice")


def test_another_head_needs_no_other_statistics() -> None:
    """The direction is made of the head's own landmarks."""
    rng = np.random.default_rng(2)
    small = direction(rng.standard_normal((68, 3)), 0.05 * rng.standard_normal((12, 68, 3)))
    assert small.shape == (12,) and np.isfinite(small).all()


def test_the_command_draws_a_face_and_refuses_a_sound_without_voice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(tmp_path / "a.wav", LOW, SAMPLE_RATE)
    soundfile.write(tmp_path / "b.wav", LOW[:6000], SAMPLE_RATE)
    ask = ["generate", str(tmp_path / "a.wav"), "-o", str(tmp_path / "a.safetensors"), "--steps", "1"]
    assert main([*ask, "--identity", "voice:1"]) == 0
    assert "invented, nobody's likeness" in capsys.readouterr().out
    drawn = facetalk.Motion.load(tmp_path / "a.safetensors")
    assert drawn.identity.any() and drawn.provenance["identity"] == "voice:1"
    ask[1] = str(tmp_path / "b.wav")
    assert main([*ask, "--identity", "voices"]) == 2
    assert "voices is missing" in (said := capsys.readouterr().err) and "voice:SEED" in said
    assert main([*ask[:3], str(tmp_path / "b.safetensors"), "--identity", "voice"]) == 2
    assert "b.wav: a face for the voice needs 1 s of voiced speech" in capsys.readouterr().err
    assert not (tmp_path / "b.safetensors").exists()
    assert main([*ask, "--identity", "voice:x"]) == 2
    assert "whole number" in capsys.readouterr().err


def test_a_batch_keeps_the_words_and_tells_them_apart() -> None:
    kinds = [None, "voice", "voice:1", np.zeros(3, np.float32)]
    records = [Settings("motion", "default", "0", identity=kind).record()["identity"] for kind in kinds]
    assert records[:3] == [None, "voice", "voice:1"] and len(records[3]) == 64
    with pytest.raises(facetalk.InputError, match="must be a code, voice"):
        generate_batch(".", "nowhere", identity="random:1")
