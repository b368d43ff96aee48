"""Training of the sync expert: its data, its loss, and a run of seconds that learns, resumes and reports."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from truth import small_corpus

from facetalk.cli import main
from facetalk.data.speech.corpus import read_manifest
from facetalk.errors import InputError
from facetalk.metrics.sync import SyncExpert
from facetalk.metrics.sync_network import SyncConfig
from facetalk.pipeline import FaceTalk
from facetalk.training.sync.dataset import CROP, MouthRig, build, make_batch, vary, without_texts
from facetalk.training.sync.loss import NEAR, contrastive_terms, soft_labels
from facetalk.training.sync.train import SyncTraining, train


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def model() -> FaceTalk:
    return FaceTalk.from_pretrained(device="cpu")


def test_a_short_run(corpus: Path, model: FaceTalk, tmp_path: Path) -> None:
    small = SyncConfig(24, 24, 16)
    settings = {"batch": 6, "variants": 1, "faces": 1, "identities": 2}
    first = SyncTraining(corpus, tmp_path, steps=3, **settings)
    train(first, model, small)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    result = train(SyncTraining(corpus, tmp_path, steps=40, resume=True, **settings), model, small)
    assert result["resumed_at"] == 3 and result["step"] == 40
    later = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert later[-1]["loss"] < log[-1]["loss"] - 0.2
    told = json.loads((tmp_path / "training.json").read_text())
    assert told["held_out_voices"] == ["espeak-f2"] and told["step"] == 40
    expert = SyncExpert.from_pretrained(tmp_path / "expert")
    assert expert.networks.config == small
    figures = tmp_path / "figures.json"
    words = ["--validate", str(corpus), "--split", "valid", "--clips", "2", "--json", str(figures)]
    assert main(["train", "sync", "--out", str(tmp_path), *words]) == 0
    report = json.loads(figures.read_text())
    assert report["clips"] == 2 and set(report["voices"]) == {"espeak-f2"}
    assert report["delays"]["trials"] == 34
    assert {"truth", "doubled", "static", "shuffled"} <= set(report["controls"])


def test_batches_are_a_matter_of_seed(corpus: Path, model: FaceTalk, tmp_path: Path) -> None:
    data = build(read_manifest(corpus, split="train"), tmp_path, variants=1, faces=2, seed=1)
    kept = build(read_manifest(corpus, split="train"), tmp_path, variants=1, faces=2, seed=1)
    assert all(np.array_equal(a, b) for a, b in zip(data.spectra, kept.spectra, strict=True))
    rig = MouthRig.of(model, 2)
    one, two, other = (make_batch(data, rig, np.random.default_rng(s), 4) for s in (0, 0, 1))
    assert one["motion"].shape == (4, CROP, 120) and one["audio"].shape == (4, 4 * CROP, 80)
    assert all(torch.equal(one[k], two[k]) for k in one) and not torch.equal(one["motion"], other["motion"])
    assert all(bool(torch.isfinite(v).all()) for v in one.values())


def test_varied_spectra_keep_their_shape() -> None:
    spectra = np.random.default_rng(0).normal(-40, 10, (200, 80)).astype(np.float32)
    for seed in range(12):
        out = vary(spectra, np.random.default_rng(seed))
        assert out.shape == spectra.shape and out.dtype == np.float32 and np.isfinite(out).all()


def test_texts_that_are_held_out_are_not_trained_on(corpus: Path) -> None:
    train_split, valid = (read_manifest(corpus, split=s) for s in ("train", "valid"))
    assert len(without_texts(train_split, valid)) == len(train_split)
    assert without_texts([*train_split, *valid], valid) == train_split


def test_loss_prefers_the_true_pairing() -> None:
    torch.manual_seed(0)
    codes = torch.nn.functional.normalize(torch.randn(5, 40, 32), dim=-1)
    scale, weight = torch.tensor(3.0), torch.ones(5, 40)

    def loss(sound: torch.Tensor) -> dict[str, torch.Tensor]:
        return contrastive_terms(codes, sound, scale, weight, torch.Generator().manual_seed(0))

    right, late, foreign = loss(codes), loss(codes.roll(5, 1)), loss(codes.roll(1, 0))
    assert right["within_1"] == 1 and late["within_1"] < 0.2 and foreign["within_1"] < 0.3
    assert right["loss"] + 1 < min(late["loss"], foreign["loss"])


def test_labels_are_soft_and_neighbours_take_no_part() -> None:
    labels, mask = soft_labels(12, torch.device("cpu"))
    torch.testing.assert_close(labels.sum(1), torch.ones(12))
    shift = torch.arange(12)[None] - torch.arange(12)[:, None]
    assert ((labels > 0) == (shift.abs() <= 1)).all() and (mask == (shift.abs() != NEAR)).all()
    assert labels[5, 6] / labels[5, 5] == pytest.approx(np.exp(-1 / (2 * 0.49)), rel=1e-5)


def test_bad_settings(
    corpus: Path, model: FaceTalk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {"corpus": corpus, "out": tmp_path / "out", "variants": 1, "faces": 1, "identities": 1}
    for change, message in (
        ({"batch": 0}, "batch"),
        ({"learning_rate": 0.0}, "learning rate"),
        ({"steps": 0}, "steps"),
        ({"corpus": tmp_path}, "make a corpus"),
    ):
        with pytest.raises(InputError, match=message):
            train(SyncTraining(**{**small, **change}), model)  # type: ignore[arg-type]
    for words, message in (
        (["--out", str(tmp_path)], "--corpus"),
        (["--out", str(tmp_path), "--corpus", str(corpus), "--split", "valid"], "--validate"),
        (["--out", str(tmp_path), "--validate", str(corpus)], "not a sync expert"),
    ):
        assert main(["train", "sync", *words]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1 and "Traceback" not in error
