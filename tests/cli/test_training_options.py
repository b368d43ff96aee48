"""Options that the smaller trainings share: each with defaults of its own, all with the same limits."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from facetalk.cli import main, train_mouth, train_sync, train_tongue
from facetalk.training.mouth.train import MouthTraining
from facetalk.training.sync.train import SyncTraining
from facetalk.training.tongue.train import TongueTraining

VERBS = [
    (train_mouth, MouthTraining(Path(), Path())),
    (train_sync, SyncTraining(Path(), Path())),
    (train_tongue, TongueTraining((), Path())),
]


def parsed(verb: ModuleType, *words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    return parser.parse_args(["--out", "folder", *words])


@pytest.mark.parametrize(("verb", "defaults"), VERBS)
def test_nothing_given_is_what_the_training_does(verb: ModuleType, defaults: Any) -> None:
    args = vars(parsed(verb))
    shared = ["steps", "batch", "learning_rate", "seed"]
    if verb is not train_tongue:
        shared += ["minutes", "resume"]
    assert {name: args[name] for name in shared} == {name: getattr(defaults, name) for name in shared}
    assert parsed(verb, "--steps", "3", "--batch", "2", "--learning-rate", "0.5").learning_rate == 0.5


@pytest.mark.parametrize(("verb", "defaults"), VERBS)
@pytest.mark.parametrize("words", ["--steps 0", "--batch 0", "--learning-rate 0", "--seed -1"])
def test_limits_are_the_same(verb: ModuleType, defaults: Any, words: str, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        parsed(verb, *words.split())
    assert f"argument {words.split()[0]}: must" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["audio", "motion --audio default", "whisper"])
def test_a_corpus_that_is_none_leaves_no_folder_behind(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for there in (False, True):
        if there:
            (tmp_path / "out").mkdir()
        words = ["train", *part.split(), "--corpus", "empty", "--out", "out"]
        assert main(words) == 2
        assert capsys.readouterr().err.startswith("error: ")
        assert (tmp_path / "out").exists() is there
