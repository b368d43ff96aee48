"""The experiment of faces for voices: what its figures say where the answer is known."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from experiments.casting.__main__ import CARD, RESULTS
from experiments.casting.recordings import HELD_OUT, microphone, recordings
from experiments.casting.report import fill, tables
from experiments.casting.scores import diversity, separation
from experiments.casting.sheet import write_sheet
from experiments.common.portrait import picture as portrait
from facetalk.casting.draw import cast
from facetalk.casting.voice import FEATURES, Voice
from facetalk.errors import InputError
from facetalk.motion import Motion
from facetalk.pipeline import FaceTalk
from facetalk.render.studio import Camera


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


def test_a_sheet_has_a_row_of_each_voice_that_has_two_recordings(tmp_path: Path) -> None:
    """The same measures give the same face, another seed another one, and a file's pictures are on it."""
    rng = np.random.default_rng(0)
    voice = Voice(120.0, 3.0, 1000.0, 5.0, rng.standard_normal(FEATURES).astype(np.float32))
    face = FaceTalk.from_pretrained("default", device="cpu")
    write_sheet(face, {"one": [voice, voice], "lone": [voice]}, tmp_path / "sheet.png", seeds=2)
    picture = np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB"), np.float64)
    height, width = picture.shape[:2]
    assert (width, height) == (2 * 3 * 160, 170)  # the second column of rows is empty
    first, second, other, *empty = np.split(picture[30:], 6, axis=1)  # below the words
    assert np.array_equal(first, second) and np.abs(first - other).mean() > 2.0
    assert not np.any(empty)
    # Vertices alone have brows of one brown smear; hairs are finer than their triangles.
    code = cast(voice, face.head, 0)
    mesh = next(iter(face.decode(Motion(np.zeros((1, face.head.expression_dim), np.float32), 25.0, code))))
    plain = np.asarray(portrait(mesh, Camera((0.0, -0.02, -0.03), 15.0, 0.0, 1.1), (160, 170)), np.float64)
    assert np.abs(plain[30:] - first).max() > 40.0


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
