"""The few-step student: where it starts, when it is used, and that it streams as the teacher does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from facetalk.diffusion import Denoiser, DenoiserConfig, MotionModel, Representation, Student, StudentRange
from facetalk.diffusion.cuda_graph import Replays
from facetalk.errors import InputError

DIM, AUDIO = 4, 7


def make(*, student: bool = True, window: tuple[int, int] = (0, 0)) -> MotionModel:
    """A small random model; the student's own inputs matter."""
    torch.manual_seed(1)
    config = DenoiserConfig(
        motion_dim=DIM, audio_dim=AUDIO, layers=2, heads=2, width=16, feedforward=24, window=window,
        history=5, dropout=0.0,
    )  # fmt: skip
    teacher = Denoiser(config)
    pupil = Student.of(teacher)
    for layer in (pupil.end_in, pupil.guidance_in):
        torch.nn.init.normal_(layer.weight, std=0.5)
    return MotionModel(
        teacher, Representation.identity(DIM), expression_names=[f"e{i}" for i in range(DIM)],
        default_steps=5, default_guidance=1.5, student=pupil if student else None,
    )  # fmt: skip


def features(frames: int = 30) -> torch.Tensor:
    return torch.randn(frames, AUDIO, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("end", [-1, 0, 499])
@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_a_fresh_student_is_the_teacher_without_guidance(end: int, guidance: float) -> None:
    teacher = make().denoiser
    pupil = Student.of(teacher).eval()
    noisy = torch.randn(3, 9, DIM, generator=torch.Generator().manual_seed(0))
    condition = teacher.condition(features(9).expand(3, -1, -1))
    with torch.no_grad():
        expected, _ = teacher(noisy, torch.tensor([700]), condition)
        answer, _ = pupil(noisy, pupil.at(700, end, guidance), pupil.condition(features(9).expand(3, -1, -1)))
    torch.testing.assert_close(answer, expected)


def test_end_and_guidance_are_heard_and_each_example_has_its_own() -> None:
    pupil = make().student
    assert pupil is not None
    noisy = torch.randn(1, 9, DIM, generator=torch.Generator().manual_seed(0)).expand(3, -1, -1)
    condition = pupil.condition(features(9).expand(3, -1, -1))
    at = torch.cat([pupil.at(999, -1, 1.0), pupil.at(999, 499, 1.0), pupil.at(999, -1, 2.0)])
    with torch.no_grad():
        answers, _ = pupil(noisy, at, condition)
        alone, _ = pupil(noisy[:1], at[1:2], pupil.condition(features(9)[None]))
    torch.testing.assert_close(answers[1:2], alone)
    assert (answers[0] - answers[1]).abs().max() > 1e-3
    assert (answers[0] - answers[2]).abs().max() > 1e-3


@pytest.mark.parametrize("window", [(0, 0), (2, 1)])
@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_chunked_sampling_equals_the_whole_clip(steps: int, window: tuple[int, int]) -> None:
    model = make(window=window)
    whole = model.sample(features(), steps=steps, seed=3, student=True, chunk=1000)
    for chunk in (1, 7, 29):
        pieces = model.sample(features(), steps=steps, seed=3, student=True, chunk=chunk)
        np.testing.assert_allclose(pieces, whole, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 4])
def test_fixed_buffers_give_what_the_plain_loop_gives(steps: int) -> None:
    model = make()
    plain = model.sample(features(), steps=steps, seed=3, chunk=11)
    model.replays = Replays("on")
    np.testing.assert_array_equal(model.sample(features(), steps=steps, seed=3, chunk=11), plain)


def test_seeds_are_reproducible_and_matter() -> None:
    model = make()
    first, again, other = (model.sample(features(), steps=2, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


def passes(model: MotionModel, **settings: object) -> tuple[int, int]:
    """How many rows the student and the teacher computed for a clip in one chunk."""
    counts = [0, 0]

    def count(place: int) -> object:
        def hook(_module: object, arguments: tuple[torch.Tensor, ...], _out: object) -> None:
            counts[place] += len(arguments[0])

        return hook

    networks = [net for net in (model.student, model.denoiser) if net is not None]
    places = [0, 1] if model.student is not None else [1]
    hooks = [net.register_forward_hook(count(place)) for net, place in zip(networks, places, strict=True)]
    model.sample(features(), seed=0, **settings)  # type: ignore[arg-type]
    for hook in hooks:
        hook.remove()
    return counts[0], counts[1]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (2, 0)),  # the student's default, guidance in the same pass
        ({"steps": 1}, (1, 0)),
        ({"steps": 8, "guidance": 1.0}, (8, 0)),
        ({"steps": 3}, (0, 6)),
        ({"steps": 3, "guidance": 1.0}, (0, 3)),
        ({"steps": 2, "student": False}, (0, 4)),
        ({"guidance": 3.0}, (0, 10)),  # out of its range: the full model and its default
        ({"steps": 3, "guidance": 3.0}, (0, 6)),
        ({"steps": 2, "kind": "ddpm"}, (0, 4)),
        ({"steps": 2, "kind": "dpm++"}, (0, 4)),
        ({"steps": 2, "eta": 0.5}, (0, 4)),
    ],
)
def test_who_takes_the_steps(settings: dict[str, object], expected: tuple[int, int]) -> None:
    assert passes(make(), **settings) == expected


def test_without_a_student_the_teacher_takes_every_number_of_steps() -> None:
    model = make(student=False)
    assert passes(model) == (0, 10)
    assert passes(model, steps=2) == (0, 4)
    assert model.steps_for(None) == 5
    assert make().steps_for(None) == 2
    assert make().steps_for(None, 3.0) == 5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 2, "guidance": 2.6}, "guidance must lie in 1..2.5"),
        ({"steps": 1, "guidance": 0.5}, "guidance must lie in 1..2.5"),
        ({"student": True, "guidance": 3.0}, "guidance must lie in 1..2.5"),
        ({"steps": 3, "student": True}, "takes 1, 2, 4, 8 steps, got 3"),
        ({"steps": 2, "student": True, "kind": "ddpm"}, "by DDIM"),
    ],
)
def test_what_the_student_cannot_do_is_one_line(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        make().sample(features(), seed=0, **settings)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_asking_for_a_student_that_is_not_there() -> None:
    with pytest.raises(InputError, match="facetalk distill"):
        make(student=False).sample(features(), student=True)


def test_a_saved_student_comes_back(tmp_path: Path) -> None:
    model = make()
    model.student_range = StudentRange((1, 2), (1.0, 2.0), 1, {"figures": {"blinks": 0.99}})
    model.save(tmp_path / "m")
    again = MotionModel.load(tmp_path / "m")
    assert again.student_range == model.student_range
    assert again.student_range.notes == model.student_range.notes
    for steps in (None, 2, 3):
        np.testing.assert_array_equal(
            again.sample(features(), steps=steps, seed=1), model.sample(features(), steps=steps, seed=1)
        )
    model.save(tmp_path / "half", half=True)
    half = MotionModel.load(tmp_path / "half")
    assert half.student is not None
    np.testing.assert_allclose(half.sample(features(), seed=1), model.sample(features(), seed=1), atol=2e-2)


def test_a_folder_without_a_student_is_a_teacher_alone(tmp_path: Path) -> None:
    make(student=False).save(tmp_path / "m")
    assert "student" not in json.loads((tmp_path / "m" / "config.json").read_text())
    assert MotionModel.load(tmp_path / "m").student is None
    make().save(tmp_path / "lost")
    (tmp_path / "lost" / "student.safetensors").unlink()
    assert MotionModel.load(tmp_path / "lost").student is None


@pytest.mark.parametrize("fault", ["damaged", "of another size", "default unknown"])
def test_a_broken_student_is_one_line(tmp_path: Path, fault: str) -> None:
    make().save(tmp_path / "m")
    file, config = tmp_path / "m" / "student.safetensors", tmp_path / "m" / "config.json"
    if fault == "damaged":
        file.write_bytes(file.read_bytes()[:100])
    elif fault == "of another size":
        make(window=(2, 1)).save(tmp_path / "other")
        file.write_bytes((tmp_path / "other" / "student.safetensors").read_bytes())
    else:
        content = json.loads(config.read_text())
        content["student"]["default_steps"] = 3
        config.write_text(json.dumps(content))
    with pytest.raises(InputError) as caught:
        MotionModel.load(tmp_path / "m")
    assert "\n" not in str(caught.value)
