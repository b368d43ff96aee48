"""Training of Whisper's adapter: what was heard is kept, the training goes on, and it learns."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from facetalk.audio.whisper_encoder import FOLDER, Adapter
from facetalk.cli import main
from facetalk.diffusion import MotionModel
from facetalk.errors import InputError
from facetalk.models import find_model
from facetalk.training.whisper import settings as training
from facetalk.training.whisper.train import WhisperTraining, train


def test_it_learns_and_goes_on(corpus: Path, weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"

    def run(steps: int, **changes: object) -> dict[str, float]:
        told = {"batch": 2, "heard": 2, "weights": weights, "learning_rate": 3e-3, **changes}
        return train(WhisperTraining((corpus,), out, steps=steps, **told))  # type: ignore[arg-type]

    first = run(1)
    kept = {file.name: file.stat().st_mtime_ns for file in (out / "heard").iterdir()}
    assert set(kept) == {"0.npz", "1.npz"} and len(list((out / "heard-held-out").iterdir())) == 6
    with pytest.raises(InputError, match="--resume"):
        run(2)
    for other in ({"batch": 3}, {"seed": 4}):
        with pytest.raises(InputError, match="another corpus, model, batch or seed"):
            run(2, resume=True, **other)
    last = run(60, resume=True)
    assert last["resumed_at"] == 1 and last["loss"] < 0.5 * first["loss"]
    assert {file.name: file.stat().st_mtime_ns for file in (out / "heard").iterdir()} == kept
    adapter, told = Adapter.load(out / FOLDER)
    assert adapter.sizes["features"] == 192 and told["feature_space"] and told["utterances"] == 2
    assert 0.0 < told["variance_floor"] < 1.0
    # Within what a student takes, and less than the motion model's own.
    default = MotionModel.load(find_model("default").folder / "motion")
    assert 1.0 <= told["guidance"] < default.default_guidance
    shipped = json.loads((find_model("default").folder / FOLDER / "config.json").read_text())
    assert told["guidance"] == shipped["guidance"]

    (out / "heard" / "1.npz").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"1\.npz.*damaged.*--resume"):
        run(61, resume=True)


def test_what_is_kept_is_what_is_asked(corpus: Path, weights: Path, tmp_path: Path) -> None:
    train(WhisperTraining((corpus,), tmp_path, steps=1, heard=1, batch=3, weights=weights))
    with np.load(tmp_path / "heard" / "0.npz") as arrays:
        batch = {name: arrays[name] for name in arrays.files}
    frames = 120
    assert batch["features"].shape == (3, frames, 192) and batch["heard"].shape == (3, 240, 96)
    assert batch["weight"].shape == (3, frames) and not batch["weight"][:, [0, 4, 115, 119]].any()
    assert (batch["weight"][:, 5:115] == 1.0).all()
    assert np.abs(batch["heard"]).max() > 0.1 and np.isfinite(batch["heard"]).all()


def test_settings_out_of_range(
    corpus: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("heard", "batch", "learning_rate"):
        with pytest.raises(InputError, match=name):
            train(WhisperTraining((corpus,), tmp_path / "x", weights=weights, **{name: 0}))  # type: ignore[arg-type]
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "manifest.jsonl").write_text("")
    with pytest.raises(InputError):
        train(WhisperTraining((tmp_path / "empty",), tmp_path / "y", weights=weights))
    monkeypatch.setattr(training, "process_count", lambda: 2)
    with pytest.raises(InputError, match="one process"):
        train(WhisperTraining((corpus,), tmp_path / "z", weights=weights))


def test_the_verb(corpus: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--corpus", str(corpus), "--out", str(tmp_path), "--heard", "1", "--steps", "1", "--batch", "1"]
    assert main(["train", "whisper", *given, "--whisper-weights", str(weights)]) == 0
    assert "belongs into the model's folder" in capsys.readouterr().out
    assert json.loads((tmp_path / FOLDER / "config.json").read_text())["format"] == "facetalk-whisper"
    assert main(["train", "whisper", *given, "--whisper-weights", str(tmp_path / "none.bin")]) == 2
