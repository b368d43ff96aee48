"""``evaluate`` on pipelines whose lips are known: one that listens, one that does not."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from facetalk.data.visemes import curves, lip_gap
from facetalk.errors import InputError
from facetalk.metrics.evaluate import add_arguments, evaluate, run
from facetalk.motion import Motion

PHONES = [["SIL", 0.0, 0.6]]
_WORD = [
    ("M", 0.1),
    ("AA1", 0.5),
    ("P", 0.1),
    ("AE1", 0.6),
    ("V", 0.1),
    ("AO1", 0.5),
    ("B", 0.1),
    ("AA1", 0.5),
]
for _symbol, _length in _WORD * 2:
    PHONES.append([_symbol, PHONES[-1][2], PHONES[-1][2] + _length])
PHONES.append(["SIL", PHONES[-1][2], PHONES[-1][2] + 0.6])
SECONDS = PHONES[-1][2]


class Listener:
    """Reads the phones instead of the sound, and parts the lips by the gap model of visemes.json."""

    def __init__(self, *, deaf: bool = False) -> None:
        self.deaf = deaf
        self.calls: list[dict[str, Any]] = []

    def generate(self, audio: Path, **options: Any) -> Motion:
        self.calls.append({"audio": audio, **options})
        phones = [(s, a, b) for s, a, b in PHONES]
        weights = curves(phones, SECONDS, 25.0, alphabet="arpabet")
        if self.deaf:
            weights = np.random.default_rng(options["seed"]).permutation(weights)
        return Motion(weights, 25.0)

    def landmarks(self, motion: Motion) -> np.ndarray:
        points = np.zeros((len(motion), 68, 3), np.float32)
        points[:, [67, 66, 65], 1] = -lip_gap(motion.expressions)[:, None] / 1000.0
        return points


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "a.wav", np.zeros(16000, np.float32), 16000)
    path = tmp_path / "manifest.jsonl"
    lines = [{"audio": "a.wav", "phones": PHONES, "voice": voice, "split": split}
             for voice, split in (("ann", "valid"), ("bob", "valid"), ("ann", "train"))]  # fmt: skip
    path.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    return path


def test_a_listening_face_beats_both_baselines(manifest: Path) -> None:
    report = evaluate(Listener(), manifest)
    model, static, shuffled = (report.rows[name] for name in ("model", "static", "shuffled"))
    assert model["bilabials"] == 18 and model["open_vowels"] == 24
    assert model["closed"] == 1.0 and model["open_gap_mm"] > 4.0
    assert static["closed"] == 1.0 and static["open_gap_mm"] == pytest.approx(0.8, abs=0.01)
    assert shuffled["closed"] < 1.0
    assert model["agreement"] > 0.95 and static["agreement"] == 0.0 and abs(shuffled["agreement"]) < 0.3
    assert model["silent_deviation_mm"] < 0.5 < shuffled["silent_deviation_mm"]
    assert sorted(report.voices) == ["ann", "bob"] and report.voices["ann"]["bilabials"] == 12
    assert report.diversity == {"mouth_mm": 0.0, "upper_face_mm": 0.0}
    assert report.settings["clips"] == 3 and report.settings["seconds"] == pytest.approx(3 * SECONDS, abs=0.1)


def test_a_deaf_face_does_not(manifest: Path) -> None:
    deaf, listening = evaluate(Listener(deaf=True), manifest), evaluate(Listener(), manifest)
    assert deaf.rows["model"]["closed"] < listening.rows["model"]["closed"]
    assert deaf.diversity is not None and deaf.diversity["mouth_mm"] > 0.1


def test_seed_steps_and_guidance_reach_the_pipeline(manifest: Path) -> None:
    pipeline = Listener()
    evaluate(pipeline, manifest, seed=5, steps=8, guidance=1.5, limit=2, diversity_clips=0)
    assert [call["seed"] for call in pipeline.calls] == [5, 6]
    assert all(call["steps"] == 8 and call["guidance"] == 1.5 for call in pipeline.calls)
    assert len(evaluate(pipeline, manifest, split="valid", diversity_clips=0).voices) == 2


def test_command_prints_the_table_and_writes_json(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    out = manifest.parent / "report.json"
    run(parser.parse_args([str(manifest), "--json", str(out), "--limit", "1"]), Listener())
    text = capsys.readouterr().out
    assert "model" in text and "static" in text and "shuffled" in text and "100.0%" in text
    assert json.loads(out.read_text())["rows"]["model"]["closed"] == 1.0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no usable line"),
        ("{", "line 1"),
        ('{"phones": []}', "line 1"),
        ('{"audio": "a.wav"}', "neither phones nor text"),
        ('{"audio": "a.wav", "phones": [["P", 1]]}', "line 1"),
        ('{"audio": "a.wav", "phones": [], "alphabet": "runes"}', "runes"),
        ("[1]", "line 1"),
    ],
)
def test_a_bad_manifest_is_one_clear_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        evaluate(Listener(), path)
    assert "\n" not in str(caught.value)


def test_a_missing_manifest_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no manifest"):
        evaluate(Listener(), tmp_path / "nothing.jsonl")
    with pytest.raises(InputError, match="limit"):
        evaluate(Listener(), [], limit=0)


class PaddedListener(Listener):
    """Hears its phones one second later, between two seconds of silence."""

    def generate(self, audio: Any, **options: Any) -> Motion:
        samples, rate = audio
        assert len(samples) == 16000 + 2 * rate and np.abs(samples[:rate]).max() < 1e-3
        phones = [(s, a + 1.0, b + 1.0) for s, a, b in PHONES]
        return Motion(curves(phones, SECONDS + 2.0, 25.0, alphabet="arpabet"), 25.0)


def test_padding_moves_the_phones_and_adds_silence(manifest: Path) -> None:
    plain, padded = evaluate(Listener(), manifest), evaluate(PaddedListener(), manifest, pad=1.0)
    assert padded.rows["model"]["closed"] == plain.rows["model"]["closed"] == 1.0
    assert padded.rows["model"]["open_gap_mm"] == pytest.approx(plain.rows["model"]["open_gap_mm"], abs=0.05)
    more = padded.rows["model"]["silent_frames"] - plain.rows["model"]["silent_frames"]
    assert more == 3 * 2 * 25
    with pytest.raises(InputError, match="pad"):
        evaluate(Listener(), manifest, pad=-1.0)
