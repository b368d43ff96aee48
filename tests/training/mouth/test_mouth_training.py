"""Training of the mouth features: a run of seconds on a few renders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from truth import small_corpus

from facetalk.cli import main
from facetalk.errors import InputError
from facetalk.metrics.image_features import MouthFeatures
from facetalk.pipeline import FaceTalk
from facetalk.training.mouth.train import MouthTraining, train, truth_frames


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_corpus(tmp_path_factory.mktemp("corpus"))


def test_a_short_run(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--corpus", str(corpus), "--out", str(tmp_path), "--crops", "20", "--identities", "1"]
    words += ["--steps", "30", "--batch", "8", "--device", "cpu"]
    assert main(["train", "mouth-features", *words]) == 0
    told = json.loads((tmp_path / "training.json").read_text())
    assert told["psnr_held_out_db"] > 10 and told["crops"] == 20 and told["steps"] == 30
    features = MouthFeatures.from_pretrained(tmp_path / "features")
    (cached,) = tmp_path.glob("crops-*.npy")
    crops = np.load(cached)
    assert crops.shape == (20, 64, 64, 3) and crops.std() > 10
    with torch.inference_mode():
        codes = features(torch.from_numpy(crops.transpose(0, 3, 1, 2).copy()))
    # Mean 0 and variance 1 over what it was trained on.
    assert codes.mean(0).abs().max() < 0.5 and 0.5 < codes.std(0).mean() < 1.5
    report = tmp_path / "distances.json"
    words = ["--out", str(tmp_path), "--validate", str(corpus), "--split", "valid", "--pictures", "8"]
    assert main(["train", "mouth-features", *words, "--json", str(report), "--device", "cpu"]) == 0
    rows = json.loads(report.read_text())["distances"]
    assert rows["truth again"]["fid"] < rows["frozen"]["fid"] and rows["doubled"]["pictures"] == 8
    assert "frozen" in capsys.readouterr().out


def test_bad_settings(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = FaceTalk.from_pretrained(device="cpu")
    for change, message in (
        ({"crops": 1}, "crops"),
        ({"learning_rate": 0.0}, "learning rate"),
        ({"corpus": tmp_path}, "make a corpus"),
    ):
        settings = {"corpus": corpus, "out": tmp_path / "out", **change}
        with pytest.raises(InputError, match=message):
            train(MouthTraining(**settings), model)  # type: ignore[arg-type]
    out = ["train", "mouth-features", "--out", str(tmp_path / "x")]
    for words, message in (
        (["--corpus", str(tmp_path)], "make a corpus"),
        ([], "--corpus"),
        (["--corpus", str(corpus), "--json", "a.json"], "--validate"),
        (["--validate", str(corpus)], "holds no mouth features"),
        (["--validate", str(corpus), "--json", str(tmp_path / "none" / "a.json")], "does not exist"),
    ):
        assert main([*out, *words]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1 and "Traceback" not in error


def test_frames_of_truth_are_many_and_a_matter_of_seed(corpus: Path) -> None:
    from facetalk.data.speech.corpus import read_manifest

    utterances = read_manifest(corpus, split="train")
    one, two, other = (truth_frames(utterances, 40, np.random.default_rng(s)) for s in (0, 0, 1))
    assert one.shape == (40, 53) and np.array_equal(one, two) and not np.array_equal(one, other)
    assert len(np.unique(one.round(3), axis=0)) > 30
