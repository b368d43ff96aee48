"""What a newcomer is told: skipped sources, resuming, stages, threads, options that would do nothing."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import threadpoolctl
import torch

from facetalk import Motion, ops
from facetalk.cli import _options, _stages, main
from facetalk.data.speech import build
from facetalk.data.speech.synth import Speech
from facetalk.errors import InputError, NotInstalledError
from facetalk.training.loop import LoopOptions, TrainingLoop
from facetalk.training.resume import check_resume


def missing(*_: object, **__: object) -> None:
    raise NotInstalledError("festival is not installed; `apt-get install festival`")


@pytest.fixture
def two_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    """espeak that beeps, and a festival that is not installed."""

    class Beeps:
        def say(self, text: str, *_: object, **__: object) -> Speech:
            return Speech(np.full(16000, 0.1, np.float32), [("a", 0.0, 1.0)], "ipa")

    monkeypatch.setattr(build, "espeak", Beeps)
    monkeypatch.setattr(build, "festival", missing)
    monkeypatch.setattr(build, "DEFAULT_SOURCES", ("espeak", "festival"))


def test_a_missing_source_is_skipped_with_a_hint(two_sources, tmp_path: Path, capsys) -> None:
    assert main(["data", "--out", str(tmp_path), "--minutes", "0.1"]) == 0
    told = capsys.readouterr()
    assert "skipped festival" in told.err and "apt-get install festival" in told.err
    # Its minutes go to those that are there.
    assert len(list((tmp_path / "audio").iterdir())) == 6 and "espeak" in told.out


def test_a_missing_source_that_was_named_is_an_error(two_sources, tmp_path: Path, capsys) -> None:
    assert main(["data", "--out", str(tmp_path), "--sources", "festival", "--minutes", "0.1"]) == 2
    assert "festival is not installed" in capsys.readouterr().err


def test_no_source_at_all_is_an_error(two_sources, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(build, "espeak", missing)
    assert main(["data", "--out", str(tmp_path)]) == 2
    assert "pip install 'facetalk[speech]'" in capsys.readouterr().err


def test_one_convention_of_resuming(tmp_path: Path, capsys) -> None:
    check_resume(tmp_path, False)
    check_resume(tmp_path, True)
    assert "nothing to resume" in capsys.readouterr().err
    (tmp_path / "checkpoint").mkdir()
    check_resume(tmp_path, True)
    assert not capsys.readouterr().err
    with pytest.raises(InputError, match="add --resume"):
        check_resume(tmp_path, False)


@pytest.mark.parametrize(
    ("limits", "told"),
    [({"steps": 4}, "step 4 of 4"), ({"steps": 10**6, "max_minutes": 0.004}, "of 0.004 min")],
)
def test_the_bar_shows_the_limit_that_rules(limits, told: str, tmp_path: Path, capsys) -> None:
    line = torch.nn.Linear(2, 1)
    loop = TrainingLoop(
        "line", tmp_path, {"line": line}, torch.optim.SGD(line.parameters(), lr=0.1), LoopOptions(**limits)
    )
    loop.run(lambda index: {"loss": line(torch.ones(1, 2)).sum() ** 2})
    assert told in capsys.readouterr().err


def test_stages_are_told_apart() -> None:
    stages = _stages.Stages()

    def slow() -> object:
        for _ in range(3):
            time.sleep(0.02)
            yield 0

    with stages.stage("export"):
        for _ in _stages.Timed(slow(), stages, "decode"):
            pass
    assert stages.seconds["decode"] >= 0.06 > stages.seconds["export"]


def test_one_thread_is_one_thread() -> None:
    before = torch.get_num_threads(), ops.threads()
    limits = threadpoolctl.threadpool_limits(None)
    try:
        _options.set_threads(1)
        assert torch.get_num_threads() == ops.threads() == 1
        assert all(pool["num_threads"] == 1 for pool in threadpoolctl.threadpool_info())
    finally:
        limits.restore_original_limits()
        torch.set_num_threads(before[0])
        ops.set_threads(before[1])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["-o", "a.mp4", "--at", "0.5"], "--at is for"),
        (["-o", "a.png", "--mute"], "--mute is for"),
        (["-o", "a.png", "--audio", "b.wav"], "--audio is for"),
        (["-o", "a.png", "--fps", "30"], "--fps is for"),
        (["-o", "a.png", "--at", "1", "--frames", "3"], "not both"),
        (["-o", "a.png", "--azimuth", "nan"], "azimuth must be a finite number"),
    ],
)
def test_options_that_would_do_nothing_are_refused(words: list[str], told: str, capsys) -> None:
    assert main(["render", "a.glb", *words]) == 2
    assert told in capsys.readouterr().err


def test_a_motion_prints_its_sizes() -> None:
    motion = Motion(np.zeros((50, 53), np.float32), provenance={"seed": 3})
    assert repr(motion) == "Motion(50 frames, 53 expressions, 25 fps, 2.00 s, seed=3)"


def test_a_batch_of_a_stage_that_is_not_trained_is_refused(tmp_path: Path, capsys) -> None:
    words = ["train", "nphm", "--out", str(tmp_path / "run"), "--steps", "1", "--backward-batch", "8", "16"]
    assert main([*words, "--stages", "parts"]) == 2
    assert "which --stages leaves out" in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_heads_drawn_anew_want_a_head_and_its_stage(tmp_path: Path, capsys) -> None:
    words = ["train", "nphm", "--out", str(tmp_path / "run"), "--steps", "1", "--identity-batch", "8", "64"]
    for more, told in ((["--stages", "parts"], "which --stages leaves out"), ([], "name it by --start")):
        assert main([*words, *more]) == 2
        assert told in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_stages_are_not_taken_from_where_they_are_not(tmp_path: Path, capsys) -> None:
    """The others would be networks of one step, in a head that looks like any."""
    words = ["train", "nphm", "--out", str(tmp_path / "run"), "--steps", "1", "--stages", "backward", "parts"]
    for more in ([], ["--resume"]):
        assert main([*words, *more]) == 2
        told = capsys.readouterr().err
        assert "takes identity, blendshapes, template from" in told and "--start" in told
    assert not (tmp_path / "run").exists()


def test_figures_of_a_head_take_no_options_of_a_training(capsys) -> None:
    assert main(["train", "nphm", "--evaluate", "head", "--identity-batch", "8", "64"]) == 2
    assert "--identity-batch does nothing with --evaluate" in capsys.readouterr().err
    assert main(["train", "nphm", "--evaluate", "head", "--stages", "backward"]) == 2
    assert "--stages does nothing with --evaluate" in capsys.readouterr().err
