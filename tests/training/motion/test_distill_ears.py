"""A student of what Whisper hears, of what the model's own encoder hears, or of both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from facetalk.cli import main
from facetalk.diffusion import MotionModel
from tests.helpers.noise_corpus import write_corpus
from tests.helpers.untaught_whisper import pretend_installed, pretend_missing, write_weights

QUICK = ["--steps", "2", "--batch", "2", "--crop", "24", "--clip", "24", "--clips", "2", "--between", "1",
         "--last", "2", "--uses", "1000", "--variants", "1"]  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    phones = [("SIL", 0.0, 0.3), ("M", 0.3, 0.8), ("AA", 0.8, 1.6), ("F", 1.6, 2.0), ("AA", 2.0, 3.0)]
    return write_corpus(tmp_path_factory.mktemp("corpus"), phones, (3.0, 3.0, 3.0))


def lengths(folder: Path, kind: str) -> dict[str, int]:
    """Frames in each file of features."""
    files = sorted((folder / "features").glob(f"{kind}*.npz"))
    return {file.name: int(np.load(file)["lengths"].sum()) for file in files}


def test_both_hear_the_same_recordings(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend_installed(monkeypatch, write_weights(tmp_path / "whisper.npz"))
    frames, heard = {}, {}
    for encoder in ("model", "whisper", "both"):
        out = tmp_path / encoder
        words = ["--audio", str(corpus), "--out", str(out), *QUICK, "--mouth", "1", "--life", "1"]
        assert main(["distill", *words, "--encoder", encoder]) == 0, capsys.readouterr().err
        student = MotionModel.load(out / "model").student_range
        assert f"--encoder {encoder}" in str(student.notes["trained_with"])
        frames[encoder] = int(student.notes["frames_of_features"])
        heard[encoder] = {**lengths(out, "variant"), **lengths(out, "valid")}
    assert heard["both"] == heard["model"] | heard["whisper"]
    assert not set(heard["model"]) & set(heard["whisper"])
    assert frames["both"] == 2 * frames["model"] == 2 * frames["whisper"]


def test_whisper_that_is_not_there_is_one_line(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend_missing(monkeypatch)
    words = ["--audio", str(corpus), "--out", str(tmp_path / "out"), "--encoder", "both"]
    assert main(["distill", *words]) == 2
    error = capsys.readouterr().err
    assert "not installed" in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
