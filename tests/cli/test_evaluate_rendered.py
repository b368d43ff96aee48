"""``facetalk evaluate --rendered``: pictures beside the other figures, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from truth import small_corpus

from facetalk.cli import main


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_corpus(tmp_path_factory.mktemp("corpus"))


def test_pictures_and_synchrony(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report.json"
    words = ["--split", "valid", "--limit", "1", "--steps", "1", "--rendered", "--crops", "8"]
    assert main(["evaluate", str(corpus), *words, "--json", str(report), "--device", "cpu"]) == 0
    content = json.loads(report.read_text())
    assert content["rendered"]["settings"]["features"] == "mouth-ae"
    assert set(content["rendered"]["rows"]["model"]) == {"fid", "kid", "kid_sd"}
    assert content["rows"]["truth"]["sync_distance"] < content["rows"]["shuffled"]["sync_distance"]
    assert content["rows"]["truth"]["sync_offset_frames"] == pytest.approx(0.0, abs=1.0)
    table = capsys.readouterr().out
    assert "rendered, by mouth-ae" in table and "D at 0" in table


def test_bad_options(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.pth"
    torch.save({"a": torch.zeros(1)}, other)
    for words, message in (
        (["--crops", "5"], "--crops goes with --rendered"),
        (["--inception", "x.pth"], "--inception goes with --rendered"),
        (["--syncnet", "x.model"], "--syncnet goes with --rendered"),
        (["--rendered", "--pad", "1"], "--pad does not go with --rendered"),
        (["--rendered", "--seeds", "2"], "--seeds does not go with --rendered"),
        (["--rendered", "--inception", str(tmp_path / "none.pth")], "no file at"),
        (["--rendered", "--inception", str(other)], "is not the Inception of pytorch-fid"),
        (["--rendered", "--syncnet", str(other)], "is not SyncNet"),
    ):
        assert main(["evaluate", str(corpus), *words]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1 and "Traceback" not in error
