"""``--resume`` means the same in every training: without it, what is there is kept; with it, it goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from facetalk.cli import main
from facetalk.cli.train import PARTS
from facetalk.pipeline import FaceTalk

COMMANDS = {
    "nphm": ["train", "nphm"],
    "audio": ["train", "audio", "--corpus", "speech"],
    "motion": ["train", "motion", "--corpus", "speech", "--audio", "encoder"],
    "mouth-features": ["train", "mouth-features", "--corpus", "speech"],
    "sync": ["train", "sync", "--corpus", "speech"],
    "whisper": ["train", "whisper", "--corpus", "speech"],
}


BRIEF = {"tongue"}
"""Takes a minute, and has nothing to resume."""


def test_every_training_is_here() -> None:
    assert set(COMMANDS) | BRIEF == set(PARTS)


@pytest.mark.parametrize("part", COMMANDS)
def test_a_training_that_is_there_is_kept(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(FaceTalk, "from_pretrained", lambda *_: object())
    place = tmp_path / "run" / ("backward/checkpoint" if part == "nphm" else "checkpoint")
    place.mkdir(parents=True)
    (place / "precious").write_text("hours")
    assert main([*COMMANDS[part], "--out", "run"]) == 2
    error = capsys.readouterr().err
    assert "holds a training" in error and "--resume" in error
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["precious"]
    if part == "nphm":  # it needs no corpus, and would begin
        return
    # Asked to go on, it looks for what it goes on with: the corpus is not there.
    assert main([*COMMANDS[part], "--out", "run", "--resume"]) == 2
    error = capsys.readouterr().err
    assert "holds a training" not in error and "nothing to resume" not in error
