"""Training of the layers by which Whisper hears live sound: what is asked, that it learns, and goes on."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from facetalk.audio.whisper_encoder import Adapter
from facetalk.audio.whisper_weights import FOLDER
from facetalk.cli import main
from facetalk.errors import InputError
from facetalk.models import find_model
from facetalk.training.whisper.train import WhisperTraining, train


def test_it_learns_and_goes_on(corpus: Path, weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"

    def run(steps: int, **changes: object) -> dict[str, float]:
        told = {"batch": 2, "heard": 2, "weights": weights, "learning_rate": 3e-4, "live": True, **changes}
        return train(WhisperTraining((corpus,), out, steps=steps, **told))  # type: ignore[arg-type]

    first = run(1)
    kept = {file.name: file.stat().st_mtime_ns for file in (out / "heard").iterdir()}
    assert set(kept) == {"0.npz", "1.npz"} and len(list((out / "heard-held-out").iterdir())) == 6
    with pytest.raises(InputError, match="--resume"):
        run(2)
    with pytest.raises(InputError, match="another corpus"):
        run(2, resume=True, live=False)
    last = run(40, resume=True)
    assert last["resumed_at"] == 1 and last["loss"] < 0.8 * first["loss"]
    assert {file.name: file.stat().st_mtime_ns for file in (out / "heard").iterdir()} == kept

    adapter, told = Adapter.load(out / FOLDER)
    before, was = Adapter.load(find_model("default").folder / FOLDER)
    assert {**was, "live": {"window_s": 2.0}} == told and adapter.live is not None
    whole = before.state_dict()
    for name, value in adapter.state_dict().items():
        if not name.startswith("live."):
            torch.testing.assert_close(value, whole[name], rtol=0, atol=0)
    moved = (adapter.live.last.weight - before.last.weight).abs().max()
    assert 1e-3 < moved < 1.0


def test_what_is_kept_is_what_is_asked(corpus: Path, weights: Path, tmp_path: Path) -> None:
    train(WhisperTraining((corpus,), tmp_path, live=True, steps=1, heard=1, batch=2, weights=weights))
    with np.load(tmp_path / "heard" / "0.npz") as arrays:
        batch = {name: arrays[name] for name in arrays.files}
    assert batch["asked"].shape == (2, 240, 192) and batch["heard"].shape == (2, 6, 64, 96)
    moments = batch["moments"]
    assert moments.shape == (2, 6) and moments.min() >= 5 and moments.max() < 240 - 25
    assert np.abs(batch["heard"]).max() > 0.1 and np.isfinite(batch["heard"]).all()


def test_a_model_without_an_adapter(corpus: Path, weights: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(find_model("default").folder, bare)
    shutil.rmtree(bare / FOLDER)
    out = tmp_path / "out"
    with pytest.raises(InputError, match="no adapter for Whisper"):
        train(WhisperTraining((corpus,), out, init=str(bare), live=True, weights=weights))
    assert not (out / "heard").exists()


def test_the_verb(corpus: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--corpus", str(corpus), "--out", str(tmp_path), "--heard", "1", "--steps", "1", "--batch", "1"]
    assert main(["train", "whisper", "--live", *given, "--whisper-weights", str(weights)]) == 0
    assert "belongs into the model's folder" in capsys.readouterr().out
    assert Adapter.load(tmp_path / FOLDER)[0].live is not None
