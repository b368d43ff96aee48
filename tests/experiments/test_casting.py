"""The experiment of faces for voices: what its figures say where the answer is known."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from experiments.casting.__main__ import CARD, RESULTS
from experiments.casting.recordings import HELD_OUT, microphone, recordings
from experiments.casting.report import fill, tables
from experiments.casting.scores import diversity, separation
from facetalk.casting.voice import FEATURES, Voice
from facetalk.errors import InputError


def voices(spread: float) -> tuple[list[str], list[Voice]]:
    rng = np.random.default_rng(0)
    blank = Voice(120.0, 3.0, 1000.0, 5.0, np.zeros(FEATURES, np.float32))
    names, heard = [], []
    for name in "abcdef":
        centre = rng.standard_normal(FEATURES)
        for _ in range(4):
            features = np.float32(centre + spread * rng.standard_normal(FEATURES))
            names.append(name)
            heard.append(dataclasses.replace(blank, features=features))
    return names, heard


def draw(voice: Voice, seed: int) -> np.ndarray:
    return np.float32(np.random.default_rng(seed).standard_normal((12, FEATURES)) @ voice.features)


def shape(coefficients: np.ndarray) -> np.ndarray:
    return np.float32(np.random.default_rng(9).standard_normal((68, 3, 12)) @ coefficients)


def test_separation_is_whole_of_voices_apart_and_chance_of_none() -> None:
    names, heard = voices(0.05)
    good = separation(names, heard, draw, shape, 3)
    assert good["auc"] > 0.99 and good["auc_alike"] > 0.99 and good["first"] == 1.0
    assert good["same_mm"] < 0.2 * good["other_mm"]
    assert good["first_chance"] == pytest.approx(3 / 23)
    order = np.random.default_rng(1).permutation(len(heard))
    bad = separation(names, [heard[i] for i in order], draw, shape, 3)
    assert 0.3 < bad["auc"] < 0.7 and bad["first"] < 0.5
    assert diversity(heard[:3], draw, shape, 4) > 10.0 * good["same_mm"]


def test_recordings_keep_the_held_out_apart_and_read_nothing_reserved(tmp_path: Path) -> None:
    rows = []
    for voice in ("kokoro-af_nova", "flite-slt", "asterisk-allison-smith", "kokoro-a+kokoro-b"):
        for i in range(3):
            soundfile.write(tmp_path / f"{voice}-{i}.wav", np.full(5 * 16000, 0.1 * (i + 1)), 16000)
            rows.append({"voice": voice, "audio": f"{voice}-{i}.wav"})
    (tmp_path / "manifest.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (tmp_path / "more").mkdir()
    soundfile.write(tmp_path / "more" / "some-one-000.flac", np.zeros(9 * 16000), 16000)
    folders = [tmp_path, tmp_path / "more"]
    assert [r.voice for r in recordings(folders, held_out=False, most=4)] == ["flite-slt"]
    held = [r.voice for r in recordings(folders, held_out=True, most=4)]
    assert held == ["kokoro-af_nova", "some-one"] and "kokoro-af_nova" in HELD_OUT
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no manifest"):
        list(recordings([tmp_path / "empty"], held_out=True, most=2))


def test_a_telephone_has_its_band() -> None:
    noise = np.random.default_rng(0).standard_normal(32000).astype(np.float32)
    power = np.abs(np.fft.rfft(microphone(noise, np.random.default_rng(1), hard=True))) ** 2
    hertz = np.fft.rfftfreq(32000, 1 / 16000)
    inside = power[(hertz > 500) & (hertz < 3000)].mean()
    assert power[hertz > 6000].mean() < 0.1 * inside and power[hertz < 100].mean() < 0.2 * inside


def test_the_card_has_the_figures_of_the_results(tmp_path: Path) -> None:
    report = json.loads(RESULTS.read_text())
    assert tables(report) in CARD.read_text(encoding="utf-8")
    assert report["rows"]["drawn"]["auc_interval"][0] > 0.8
    low, high = report["rows"]["control: another's voice"]["auc_interval"]
    assert low < 0.5 < high
    page = tmp_path / "page.md"
    page.write_text("nothing")
    with pytest.raises(InputError, match="no place"):
        fill(page, report)
