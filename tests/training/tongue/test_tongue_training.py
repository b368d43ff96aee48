"""The tongue's training, on an encoder that tells what phones are spoken, and what its figures see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from facetalk import InputError
from facetalk.arrays import Float32
from facetalk.cli import main
from facetalk.data.speech.corpus import Utterance, write_manifest
from facetalk.reading import read_json
from facetalk.tongue import TongueNetwork
from facetalk.training.tongue.train import TongueTraining, train
from facetalk.training.tongue.validate import validate

FPS = 25.0
SOUNDS = {"T": 700.0, "L": 900.0, "DH": 1300.0, "AA": 1900.0, "M": 2500.0, "SIL": 0.0}


def hear(samples: Float32) -> Float32:
    """The strength of each sound's own tone in each frame."""
    count = max(1, round(len(samples) / 640))
    padded = np.pad(samples, (0, max(0, count * 640 - len(samples))))[: count * 640].reshape(count, 640)
    tones = np.exp(2j * np.pi * np.array([*SOUNDS.values()])[:, None] * np.arange(640) / 16_000)
    return np.abs(padded @ tones.T).astype(np.float32) / 640.0


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng, made = tmp_path_factory.mktemp("corpus"), np.random.default_rng(0), []
    for number in range(24):
        clock, phones, parts = 0.0, [], []
        for name in rng.choice([*SOUNDS], size=24):
            length = 0.04 * int(rng.integers(2, 6))
            time = np.arange(round(length * 16_000)) / 16_000
            parts.append(0.3 * np.sin(2 * np.pi * SOUNDS[str(name)] * time))
            phones.append((str(name), clock, clock + length))
            clock += length
        soundfile.write(folder / f"{number}.flac", np.concatenate(parts), 16_000)
        split = "train" if number < 16 else "valid"
        made.append(
            Utterance(
                str(number), folder / f"{number}.flac", "", f"voice-{number % 3}", "en", "CC0-1.0", "made",
                split, phones, "arpabet",
            )
        )  # fmt: skip
    write_manifest(folder, made)
    return folder


@pytest.fixture(scope="module")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    config = TongueTraining((corpus,), out, minutes_heard=2.0, hidden=16, steps=400, batch=128)
    told = train(config, hear, FPS, "a")
    assert told["utterances"] == 16 and told["steps"] == 400
    assert read_json(out / "tongue/config.json")["feature_space"] == "a", "whose features it takes"
    return out


def test_contacts_are_learned_and_controls_are_not(corpus: Path, trained: Path) -> None:
    network = TongueNetwork.load(trained / "tongue")
    found = validate(network, hear, FPS, corpus, split="valid")
    assert (found["recordings"], found["voices"]) == (8, 3)
    good, shuffled, constant = (found["rows"][name] for name in ("network", "shuffled", "constant"))
    assert min(good["correlation"].values()) > 0.75
    assert min(good["made"][name] for name in ("t d", "l", "th dh")) > 0.9
    assert max(good["false"].values()) < 0.05 and max(good["unmeant"].values()) < 0.1
    assert min(shuffled["unmeant"].values()) > 0.3
    for kind in ("ridge", "teeth"):
        assert abs(shuffled["correlation"][kind]) < 0.4 and constant["correlation"][kind] == 0.0
    assert not any(constant["made"].values()) and shuffled["false"]["vowels"] > 0.1


def test_the_same_seed_gives_the_same_tongue(corpus: Path, tmp_path: Path) -> None:
    files = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        config = TongueTraining((corpus,), tmp_path / name, 0.2, hidden=4, steps=5, batch=16, seed=seed)
        train(config, hear, FPS)
        files.append((tmp_path / name / "tongue/model.safetensors").read_bytes())
    assert files[0] == files[1] != files[2]


@pytest.mark.parametrize(
    ("change", "says"),
    [({"steps": 0}, "steps"), ({"hidden": 0}, "hidden"), ({"minutes_heard": 0.0}, "minutes_heard"),
     ({"learning_rate": -1.0}, "learning_rate"), ({"corpora": ()}, "split 'train'")],
)  # fmt: skip
def test_settings_out_of_range_are_named(
    corpus: Path, tmp_path: Path, change: dict[str, object], says: str
) -> None:
    settings: dict[str, object] = {"corpora": (corpus,), "out": tmp_path, **change}
    with pytest.raises(InputError, match=says):
        train(TongueTraining(**settings), hear, FPS)  # type: ignore[arg-type]


def test_the_verb_trains_on_a_models_features_and_measures(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "run")]
    main(["train", "tongue", "--corpus", str(corpus), *out, "--heard", "0.3", "--steps", "5"])
    assert "the tongue is in" in capsys.readouterr().out
    assert TongueNetwork.load(tmp_path / "run/tongue").feature_dim == 192
    figures = tmp_path / "figures.json"
    main(["train", "tongue", "--validate", str(corpus), "--split", "valid", *out, "--json", str(figures)])
    assert "correlation ridge" in capsys.readouterr().out and figures.is_file()
    assert main(["train", "tongue", *out]) == 2
    assert main(["train", "tongue", "--validate", str(corpus), "--split", "none", *out]) == 2
    assert "no utterance of split 'none'" in capsys.readouterr().err
