"""The experiment on hearing: its sounds are what they are called, and its figures those of known cases."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.hearing import __main__ as hearing
from experiments.hearing.sounds import CHANGES, UNSPOKEN, changed, unspoken
from facetalk.units import SAMPLE_RATE


def level(samples: np.ndarray) -> float:
    return float(10 * np.log10((samples.astype(np.float64) ** 2).mean()))


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    time = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    return (0.2 * np.sin(2 * np.pi * 300 * time) * np.sin(2 * np.pi * 3 * time)).astype(np.float32)


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_changes_keep_length_and_are_repeatable(speech: np.ndarray, name: str) -> None:
    one, two = (changed(name, speech, speech[::-1][:9000], 3) for _ in range(2))
    assert one.shape == speech.shape and one.dtype == np.float32 and np.abs(one).max() <= 1.0
    assert np.array_equal(one, two) and not np.allclose(one, speech, atol=1e-4)


def test_changes_are_as_far_down_as_they_say(speech: np.ndarray) -> None:
    other = np.random.default_rng(0).normal(0, 0.1, len(speech)).astype(np.float32)
    far = changed("far_speaker", speech, other, 0) - speech
    assert level(far) - level(speech) == pytest.approx(-24.0, abs=0.1)
    quiet = changed("quiet_with_pop", speech, other, 0)
    assert level(quiet[: len(quiet) // 5]) - level(speech[: len(quiet) // 5]) == pytest.approx(-26.0, abs=0.1)
    assert np.abs(quiet).max() > 0.8
    rumble = changed("rumble", speech, other, 0) - speech
    assert np.abs(np.fft.rfft(rumble)).argmax() == 20  # 10 Hz of 2 s


@pytest.mark.parametrize("name", sorted(UNSPOKEN))
def test_sounds_without_speech(name: str) -> None:
    one, other = unspoken(name, 1.5, 0), unspoken(name, 1.5, 1)
    assert one.shape == (24_000,) and np.isfinite(one).all() and np.abs(one).max() == pytest.approx(0.5)
    assert not np.array_equal(one, other)


def test_models_beside_each_other(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CHANGES", "UNSPOKEN"):
        first = dict(list(getattr(hearing, name).items())[:1])
        monkeypatch.setattr(hearing, name, first)
    monkeypatch.setattr(hearing, "LOOK_AHEADS_MS", (100, 2000))
    monkeypatch.setattr(hearing, "_UNSPOKEN_S", 1.0)
    out = tmp_path / "figures.json"
    arguments = ["--corpus", str(corpus), "--out", str(out), "--seeds", "1", "--live", "1", "--clips", "1"]
    assert hearing.main(["--models", "one=default", "two=default", *arguments]) == 0
    told = json.loads(out.read_text())
    one, two = told["models"]["one"], told["models"]["two"]
    assert one == two and told["clips"] == 1
    assert one["lips"]["rest"]["closed"] == 1.0 and one["lips"]["rest"]["agreement"] == 0.0
    assert one["lips"]["clean"]["bilabials"] == 2 and list(one["voices"]) == ["new"]
    # A look-ahead beyond the clip's end is the whole of it, but for the level, which is measured on the way.
    errors = [one["look_ahead"][ms]["gap_error_mm"] for ms in ("100", "2000")]
    assert 0.0 <= errors[1] < errors[0]
    # What is there is kept, figures of other settings are not mixed with, and models have to exist.
    assert hearing.main(["--models", "one=nobody", *arguments]) == 0
    assert hearing.main(["--models", "three=nobody", *arguments]) == 2
    assert hearing.main(["--models", "one=default", *arguments, "--seeds", "2"]) == 2
    assert json.loads(out.read_text()) == told


def test_voices_take_turns(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "someone").mkdir()
    for name in ("a", "b"):
        (tmp_path / f"someone/{name}.flac").write_bytes((corpus / "audio/new0.flac").read_bytes())
    clips, speakers = hearing.by_turns([corpus, tmp_path / "someone"], 4)
    assert [speakers[clip.audio] for clip in clips] == ["new", "someone", "new", "someone"]
    assert [bool(clip.phones) for clip in clips] == [True, False, True, False]
