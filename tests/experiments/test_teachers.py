"""The probes of teachers and the listener who knows every phone but the next."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from experiments.hearing import foresight
from experiments.teachers import blend
from experiments.teachers.__main__ import Probe, around, figures, paired, wanted
from facetalk.audio.encoder import AudioEncoder
from facetalk.data.speech.corpus import Utterance
from facetalk.models import find_model
from facetalk.training.audio.mini_wav2vec2 import save_encoder
from facetalk.training.audio.targets import CURVES

PHONES = [
    ("SIL", 0.0, 0.3),
    ("M", 0.3, 0.5),
    ("AA", 0.5, 0.9),
    ("F", 0.9, 1.1),
    ("B", 1.1, 1.3),
    ("IY", 1.3, 2.0),
]


@pytest.fixture
def utterance() -> Utterance:
    return Utterance("a", Path("a"), "", "a", "en", "CC0", "test", "valid", PHONES, "arpabet")


def test_a_probe_finds_what_is_linear_in_the_neighbours() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.standard_normal((400, 5)).astype(np.float32) for _ in range(3)]
    inputs = around(parts)
    assert inputs.shape == (1200, 35)
    # What is two frames later, and noise that nobody can know.
    later = np.concatenate([np.roll(part[:, :1], -2, 0) for part in parts])
    probe = Probe(
        inputs,
        np.concatenate([later, rng.standard_normal((1200, 1))], 1).astype(np.float32),
        np.arange(1200) < 300,
    )
    read = probe(inputs)
    assert np.corrcoef(read[:, 0], later[:, 0])[0, 1] > 0.98
    assert abs(np.corrcoef(read[300:, 1], rng.standard_normal(900))[0, 1]) < 0.15
    assert np.array_equal(paired(np.arange(6.0, dtype=np.float32), 4), [0.5, 2.5, 4.5, 5.0])


def test_reading_the_truth_is_right(utterance: Utterance) -> None:
    truth = wanted(utterance, 50)
    told = figures(truth, truth, [utterance], [50])
    assert told["closed"] == told["classes"] == told["recall p b m"] == told["recall f v"] == 1.0
    assert told["r lip gap"] == pytest.approx(1.0)
    open_mouth = truth.copy()
    open_mouth[:, -len(CURVES)] = 5.0
    assert figures(open_mouth, truth, [utterance], [50])["closed"] == 0.0


def test_who_knows_all_errs_nowhere_and_who_knows_less_errs_more(utterance: Utterance) -> None:
    other = [
        ("SIL", 0.0, 0.4),
        ("AA", 0.4, 0.6),
        ("AA", 0.6, 1.4),
        ("M", 1.4, 1.5),
        ("AA", 1.5, 2.0),
        ("SIL", 2.0, 2.4),
    ]
    heard = foresight.places(
        [Utterance("b", Path("b"), "", "b", "en", "CC0", "test", "train", other, "arpabet")]
    )
    told = foresight.costs([utterance], heard, frames=24, guesses=3)
    assert told["500"] < 0.15 and told["60"] > told["260"] and told["60"] > 0.1
    slow = foresight.costs([utterance], heard, frames=24, guesses=3, needed_s=0.04)
    assert slow["180"] > told["180"]
    # Its own continuation is the truth.
    own = foresight.places([utterance])
    assert max(foresight.costs([utterance], own, frames=12, guesses=1).values()) < 0.02


def test_a_continuation_begins_where_what_is_known_ends() -> None:
    found = foresight.continued(PHONES, 0.65, (PHONES, 2))
    assert found == [(n, pytest.approx(a), pytest.approx(b)) for n, a, b in PHONES]
    other = [("AA", 0.0, 0.1), ("P", 0.1, 0.2)]
    shorter = foresight.continued(PHONES, 0.65, (other, 0))  # it lasts at least as long as it was heard
    assert shorter[2][1:] == (0.5, pytest.approx(0.65)) and shorter[3] == (
        "P",
        pytest.approx(0.65),
        pytest.approx(0.75),
    )


def test_a_blend_of_encoders_lies_between_them(tmp_path, capsys):
    """Weights half of the way, what cannot be blended in a line, and nothing that is there replaced."""
    shipped = find_model("default").folder / "audio"
    other = AudioEncoder.from_pretrained(shipped).model
    with torch.no_grad():
        for value in other.parameters():
            value.add_(0.25)
    save_encoder(other, tmp_path / "other")
    words = [str(shipped), str(tmp_path / "other"), "--out", str(tmp_path / "out")]
    assert blend.main([*words, "--share", "1.5"]) == 2 and "0..1" in capsys.readouterr().err
    assert blend.main([*words, "--share", "0.5"]) == 0
    old, new = (load_file(folder / "model.safetensors") for folder in (shipped, tmp_path / "out"))
    moved = np.concatenate([(new[k].astype(np.float64) - old[k]).ravel() for k in old])
    assert abs(np.median(moved) - 0.125) < 1e-3
    assert blend.main([*words, "--share", "0.5"]) == 2 and "there already" in capsys.readouterr().err
