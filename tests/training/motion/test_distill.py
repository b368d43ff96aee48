"""Distillation: what is heard, the cache of trajectories, the training step, and the verb itself."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from facetalk.cli import main
from facetalk.data.speech.corpus import Utterance, write_manifest
from facetalk.diffusion import MotionModel, Sampler, Student
from facetalk.errors import InputError
from facetalk.training.loop import LoopOptions, TrainingLoop
from facetalk.training.motion.distill import DistillTraining, hold_out
from facetalk.training.motion.distill_audio import features, recordings
from facetalk.training.motion.distill_cache import Cache, Clips
from facetalk.training.motion.distill_options import DistillOptions
from facetalk.training.openings import Opening
from tests.helpers.small_distillation import AUDIO, CLIPS, FRAMES, make_teacher, motion_model

OPTIONS = DistillOptions(
    steps=6, batch=4, crop=16, warm_up=4, rate=1e-2, uses=10.0, anchor=3, settle=3, guidance=(1.0, 2.5)
)


def training(folder: Path, options: DistillOptions = OPTIONS, *, keep: int = 50) -> DistillTraining:
    model = motion_model()
    teacher = make_teacher(model, options.guidance)
    folder.mkdir(exist_ok=True)
    return DistillTraining(
        model, [Opening(9.0, np.array([0.0, 0.0, -9.0]))], Cache(folder / "cache", {}, keep=keep), teacher,
        hold_out(teacher, 0, folder / "held_out.npz"), options,
    )  # fmt: skip


def fit(out: Path, steps: int, *, resume: bool = False) -> DistillTraining:
    """Train to ``steps`` of the 6 that the schedule knows."""
    work = training(out)

    def stop(index: int) -> dict[str, torch.Tensor]:
        if index == steps:
            raise KeyboardInterrupt
        return work.step(index)

    loop = TrainingLoop(
        "t", out, {"student": work.net, "average": work.average}, work.optimizer,
        LoopOptions(steps=OPTIONS.steps, resume=resume),
    )  # fmt: skip
    with contextlib.suppress(KeyboardInterrupt):
        loop.run(stop, work.save)
    return work


# What is heard


def sound(path: Path, seed: int, seconds: float = 1.5) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    soundfile.write(path, 0.1 * rng.normal(size=int(16000 * seconds)), 16000)


class Level:
    """An encoder that hears levels."""

    calls = 0

    def features(self, samples: np.ndarray, *, fps: float) -> torch.Tensor:
        self.calls += 1
        frames = samples[: len(samples) // 640 * 640].reshape(-1, 640)
        return torch.from_numpy(np.tile(frames.std(1)[:, None], (1, AUDIO)).astype(np.float32))


def test_a_folder_of_recordings_needs_no_texts_and_holds_some_out(tmp_path: Path) -> None:
    for index in range(5):
        sound(tmp_path / "sub" / f"{index}.wav", index)
    (tmp_path / "notes.txt").write_text("no sound")
    train, valid = recordings(tmp_path, "train"), recordings(tmp_path, "valid")
    assert (len(train), len(valid)) == (4, 1)
    assert not {u.audio for u in train} & {u.audio for u in valid}
    encoder = Level()
    heard = features(tmp_path, encoder, tmp_path / "cache", fps=25.0, variants=2, seed=0)
    assert len(heard) == 2 and all(part.dtype == np.float16 and len(part) > 100 for part in heard)
    calls = encoder.calls
    again = features(tmp_path, encoder, tmp_path / "cache", fps=25.0, variants=2, seed=0)
    np.testing.assert_array_equal(heard[1], again[1])
    assert encoder.calls == calls + 2  # two probes for the names, nothing encoded again


def test_a_corpus_says_itself_what_is_held_out(tmp_path: Path) -> None:
    told = []
    for index, split in enumerate(("train", "train", "valid")):
        sound(tmp_path / "audio" / f"{index}.flac", index)
        audio = tmp_path / "audio" / f"{index}.flac"
        told.append(Utterance(f"u{index}", audio, "", f"v{index}", "en", "CC0", "t", split, [], "ipa"))
    write_manifest(tmp_path, told)
    assert [u.id for u in recordings(tmp_path, "train")] == ["u0", "u1"]
    assert [u.id for u in recordings(tmp_path, "valid")] == ["u2"]


@pytest.mark.parametrize("content", ["missing", "empty", "one file"])
def test_nothing_to_hear_is_one_line(tmp_path: Path, content: str) -> None:
    place = tmp_path / "place"
    if content != "missing":
        place.mkdir()
    if content == "one file":
        sound(place / "a.wav", 0)
    with pytest.raises(InputError, match="recordings") as caught:
        recordings(place, "train")
    assert "\n" not in str(caught.value)


# Training


def test_no_trajectory_is_used_more_often_than_asked(tmp_path: Path) -> None:
    options = dataclasses.replace(OPTIONS, uses=2.0)
    work = training(tmp_path, options)
    for index in range(25):
        work.step(index)
        drawn = (index + 1) * options.batch * options.crop
        assert drawn <= options.uses * work.cache.frames_made
    # And not much more is made than that needs.
    assert work.cache.frames_made <= drawn / options.uses + 2 * CLIPS * FRAMES


def test_a_fresh_student_has_nothing_to_learn_where_the_teacher_has_no_guidance(tmp_path: Path) -> None:
    options = dataclasses.replace(OPTIONS, guidance=(1.0, 1.0), anchor=1)
    assert training(tmp_path / "none", options).step(0)["loss"].item() == pytest.approx(0.0, abs=1e-6)
    guided = dataclasses.replace(OPTIONS, guidance=(2.0, 2.0), anchor=1)
    assert training(tmp_path / "some", guided).step(0)["loss"].item() > 1e-3


def test_the_students_own_states_are_those_of_its_sampler(tmp_path: Path) -> None:
    work = training(tmp_path)
    work.step(0)
    torch.nn.init.normal_(work.net.end_in.weight)
    clips = work.cache.crops(np.random.default_rng(0), 2, 16)
    heard, states, guidance = work._tensors(clips)
    sampler = Sampler("ddim", 4)
    mine = work._walk(heard, states[:, 0], guidance, sampler.transitions)
    condition = work.net.condition(heard[:1])

    def predict(index: int, _timestep: int, sample: torch.Tensor) -> torch.Tensor:
        return work.net(sample, work.net.at(*sampler.transitions[index], float(guidance[0])), condition)[0]

    with torch.no_grad():
        expected = sampler.run(predict, lambda _: states[:1, 0])
    torch.testing.assert_close(mine[:1], expected)


def test_the_energy_score_joins_the_loss(tmp_path: Path) -> None:
    without = training(tmp_path / "a").step(0)
    parts = training(tmp_path / "b", dataclasses.replace(OPTIONS, energy=0.5)).step(0)
    assert parts["loss"].item() == pytest.approx((without["loss"] + 0.5 * parts["energy"]).item(), rel=1e-5)
    parts["loss"].backward()  # type: ignore[no-untyped-call]


def test_after_a_while_later_steps_start_from_the_students_own_states(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, walks = training(tmp_path), []
    walk = work._walk

    def spy(*arguments: object) -> torch.Tensor:
        walks.append(arguments)
        return walk(*arguments)  # type: ignore[arg-type]

    work.step(0)
    monkeypatch.setattr(work, "_walk", spy)
    clips = work.cache.crops(np.random.default_rng(0), 16, 16)
    work._flow(clips, np.random.default_rng(0), settled=False)
    assert not walks
    work._flow(clips, np.random.default_rng(0), settled=True)
    assert walks and all(len(arguments[3]) in (1, 2, 3) for arguments in walks)  # type: ignore[arg-type]


def test_training_learns_the_trajectories(tmp_path: Path) -> None:
    options = dataclasses.replace(OPTIONS, steps=150, batch=8, anchor=0, uses=1e9, settle=100)
    work = training(tmp_path, options)
    loop = TrainingLoop(
        "t", tmp_path, {"student": work.net, "average": work.average}, work.optimizer,
        LoopOptions(steps=options.steps, log_every=10, resume=False),
    )  # fmt: skip
    result = loop.run(work.step)
    first = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])
    work._measure(np.random.default_rng(0))
    assert float(work._held["used_1_mm"]) < 0.5 * first["used_1_mm"]
    assert float(work._held["ratio"]) > 1.0  # eight clips are learnt by heart
    assert result["loss"] < first["loss"]


def test_a_resumed_training_ends_where_an_unbroken_one_does(tmp_path: Path) -> None:
    whole = fit(tmp_path / "whole", OPTIONS.steps)
    fit(tmp_path / "broken", 3)
    again = fit(tmp_path / "broken", OPTIONS.steps, resume=True)
    for name, value in whole.average.state_dict().items():
        torch.testing.assert_close(again.average.state_dict()[name], value, msg=name)
    saved = MotionModel.load(tmp_path / "broken" / "model")
    assert isinstance(saved.student, Student) and saved.student_range.guidance == OPTIONS.guidance
    assert saved.student_range.notes["frames_of_trajectories"] == again.cache.frames_made
    assert {"new_1_mm", "used_1_mm", "ratio"} <= set(saved.student_range.notes)


# The verb

QUICK = ["--steps", "2", "--variants", "1", "--clips", "2", "--clip", "16", "--crop", "12", "--batch", "2",
         "--between", "1", "--last", "2", "--uses", "1000"]  # fmt: skip


def test_the_verb_distils_resumes_and_produces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for index in range(2):
        sound(tmp_path / "audio" / f"{index}.wav", index, seconds=2.0)
    words = ["distill", "--audio", str(tmp_path / "audio"), "--out", str(tmp_path / "out"), *QUICK]
    assert main([*words, "--produce", "1", "--minutes", "0.001"]) == 0
    assert list((tmp_path / "out" / "trajectories").glob("001-*.npz"))
    assert main(words) == 0
    assert "error on new noise" in capsys.readouterr().out
    model = MotionModel.load(tmp_path / "out" / "model")
    assert model.student is not None and model.steps_for(None) == 2
    assert "facetalk distill --steps 2" in str(model.student_range.notes["trained_with"])
    assert main(words) == 2 and "--resume" in capsys.readouterr().err
    words[words.index("2", words.index("--steps"))] = "3"
    assert main([*words, "--resume", "--init", str(tmp_path / "out" / "model")]) == 0
    steps = [json.loads(line)["step"] for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert steps == [2, 3]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--guidance", "2.5", "1"], "smaller first"),
        (["--crop", "100", "--clip", "50"], "--clip at least as long"),
        (["--anchor", "-1"], "at least 0"),
        (["--model", "nobody"], "no model 'nobody'"),
        ([], "no such folder of recordings"),
    ],
)
def test_bad_options_are_one_line(
    tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["--audio", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")]
    assert main(["distill", *place, *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_producer_is_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    sound(tmp_path / "audio" / "a.wav", 0)
    place = ["--audio", str(tmp_path / "audio"), "--out", str(tmp_path / "out")]
    assert main(["distill", *place, "--produce", "1", "--minutes", "0.001"]) == 2
    assert "--produce is one process" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_is_held_out_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Maker:
        def make(self, rng: np.random.Generator) -> Clips:
            return Clips(np.ones((2, 4, 3), np.float16), np.ones((2, 5, 4, 1), np.float16), np.ones(2, "f4"))

    def cut(file: Any, **arrays: Any) -> None:
        file.write(b"PK half of it")
        raise KeyboardInterrupt

    file = tmp_path / "held_out.npz"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(np, "savez", cut)
        hold_out(Maker(), 0, file)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
    assert len(hold_out(Maker(), 0, file)) == 2  # type: ignore[arg-type]
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match=r"held_out\.npz: damaged .*; remove it"):
        hold_out(Maker(), 0, file)  # type: ignore[arg-type]
