"""What a student is shown: how often which step, from whose states, and what its loss is made of."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from facetalk.diffusion import Denoiser, DenoiserConfig, MotionModel, Representation
from facetalk.diffusion.lip_contact import LipContact
from facetalk.diffusion.schedule import CLEAN
from facetalk.training.motion.distill import SHARES, DistillTraining
from facetalk.training.motion.distill_cache import Cache, Clips, Teacher, grid, teacher_timesteps
from facetalk.training.motion.distill_loss import DistillLoss, Steps
from facetalk.training.motion.distill_options import DistillOptions
from facetalk.training.openings import Opening

DIM, AUDIO, FRAMES = 3, 4, 10


class Told(nn.Module):
    """Answers nothing, and remembers at which steps it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.motion_in = nn.Linear(1, 1)
        self.at: list[Tensor] = []
        self.samples: list[Tensor] = []

    def condition(self, features: Tensor) -> None:
        return None

    def forward(self, sample: Tensor, at: Tensor, condition: None) -> tuple[Tensor, None]:
        self.at.append(at)
        self.samples.append(sample)
        return torch.zeros_like(sample), None


def motion_model() -> MotionModel:
    torch.manual_seed(0)
    config = DenoiserConfig(
        motion_dim=DIM, audio_dim=AUDIO, layers=1, heads=1, width=8, feedforward=8, dropout=0.0
    )
    return MotionModel(
        Denoiser(config), Representation.identity(DIM), expression_names=["a", "b", "c"],
        contact=LipContact(0.5, np.array([5.0, -5.0, 0.0]), 1),
    )  # fmt: skip


@pytest.fixture
def work(tmp_path: Path) -> DistillTraining:
    model = motion_model()
    states = grid(model.schedule, tuple(SHARES))
    teacher = Teacher(
        model, [np.zeros((30, AUDIO), np.float16)], states, timesteps=teacher_timesteps(states, 1, 2),
        guidance=(1.0, 2.5), clips=2, frames=FRAMES,
    )  # fmt: skip
    held = Clips(
        np.zeros((1, FRAMES, AUDIO), np.float16), np.zeros((1, len(states), FRAMES, DIM), np.float16),
        np.ones(1, np.float32),
    )  # fmt: skip
    options = DistillOptions(batch=4, crop=FRAMES, warm_up=2, settle=10, anchor=4, energy=0.0)
    training = DistillTraining(
        model,
        [Opening(9.0, np.array([0.0, 0.0, -9.0]))],
        Cache(tmp_path / "cache", {}, keep=9),
        teacher,
        held,
        options,
    )
    training._tools = (
        Steps(model.schedule), DistillLoss(model, [Opening(9.0, np.array([0.0, 0.0, -9.0]))], warm_up=2),
    )  # fmt: skip
    return training


def clips(work: DistillTraining, count: int) -> Clips:
    """States that tell which timestep they are of."""
    states = np.broadcast_to(np.array(work.grid, np.float32)[None, :, None, None], (count, 9, FRAMES, DIM))
    features = np.zeros((count, FRAMES, AUDIO), np.float16)
    return Clips(features, states.astype(np.float16), np.full(count, 1.5, np.float32))


def test_steps_are_shown_by_their_shares(work: DistillTraining) -> None:
    net = Told()
    work.net = net  # type: ignore[assignment]
    for seed in range(20):
        work._flow(clips(work, 200), np.random.default_rng(seed), settled=False)
    asked = torch.cat(net.at)
    pairs = Counter((int(a), int(b)) for a, b, _ in asked.tolist())
    assert set(asked[:, 2].tolist()) == {1.5}
    for count, share in SHARES.items():
        for pair in work.model.schedule.transitions(count):
            assert pairs.pop(pair) / len(asked) == pytest.approx(share / count, abs=0.02)
    assert not pairs
    assert SHARES == {1: 0.35, 2: 0.4, 4: 0.15, 8: 0.1}
    for at, sample in zip(net.at, net.samples, strict=True):  # the teacher's states, at the step's start
        np.testing.assert_array_equal(sample[:, 0, 0], at[:, 0].half())


def test_half_of_the_later_steps_of_two_and_four_start_from_the_students_own_states(
    work: DistillTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = Told()
    work.net = net  # type: ignore[assignment]
    walked: Counter[int] = Counter()

    def walk(features: Tensor, noise: Tensor, guidance: Tensor, way: list[tuple[int, int]]) -> Tensor:
        walked[len(way)] += len(noise)
        np.testing.assert_array_equal(noise[:, 0, 0], 999.0)
        return torch.full_like(noise, -7.0)

    monkeypatch.setattr(work, "_walk", walk)
    for seed in range(20):
        work._flow(clips(work, 200), np.random.default_rng(seed), settled=True)
    at, samples = torch.cat(net.at), torch.cat(net.samples)
    own = samples[:, 0, 0] == -7.0
    ends = {step for count in (2, 4) for step in work.model.schedule.transitions(count)[1:]}
    may = torch.tensor([(int(a), int(b)) in ends for a, b, _ in at.tolist()])
    assert not own[~may].any()
    assert own[may].float().mean().item() == pytest.approx(0.5, abs=0.05)
    assert sum(walked.values()) == int(own.sum()) and set(walked) == {1, 2, 3}


def test_every_so_many_updates_are_of_the_teacher_itself(
    work: DistillTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []
    loss = {"loss": torch.zeros(())}
    monkeypatch.setattr(work, "_supply", lambda index: None)
    monkeypatch.setattr(work, "_measure", lambda rng: work._held.update(new_1_mm=torch.zeros(())))
    monkeypatch.setattr(work.cache, "crops", lambda rng, count, length: None)
    monkeypatch.setattr(work, "_anchor", lambda c, rng: done.append("anchor") or loss)
    monkeypatch.setattr(
        work, "_flow", lambda c, rng, settled: done.append("settled" if settled else "early") or loss
    )
    for index in range(12):
        work.step(index)
    assert done == ["early"] * 3 + ["anchor"] + ["early"] * 3 + ["anchor"] + ["early"] * 2 + [
        "settled",
        "anchor",
    ]


def test_the_anchor_asks_at_any_timestep_for_the_guided_answer(work: DistillTraining) -> None:
    net = Told()
    work.net = net  # type: ignore[assignment]
    asked = []

    class Teaching(nn.Module):
        def guided_condition(self, features: Tensor) -> None:
            return None

        def forward(self, noisy: Tensor, timesteps: Tensor, condition: None) -> tuple[Tensor, None]:
            asked.append(timesteps)
            half = len(noisy) // 2
            return torch.cat([torch.full_like(noisy[:half], 0.2), torch.full_like(noisy[half:], 0.1)]), None

    work.model.denoiser = Teaching()  # type: ignore[assignment]
    given = clips(work, 64)
    given.states[:] = 0.0
    found = [work._anchor(given, np.random.default_rng(seed))["loss"].item() for seed in range(10)]
    # 0.1 + 1.5 (0.2 - 0.1), against an answer of nothing, under the wide loss.
    expected = 2.0 * (np.sqrt(0.25**2 + 1.0) - 1.0)
    assert found == pytest.approx([expected] * 10, rel=1e-4)
    times = torch.cat(net.at)
    assert (
        times[:, 0].min() < 30
        and times[:, 0].max() > 970
        and set((times[:, 0] - times[:, 1]).tolist()) == {1.0}
    )
    assert torch.cat(net.samples)[times[:, 0] > 980].std().item() == pytest.approx(1.0, abs=0.1)


def test_the_average_of_the_student_follows(work: DistillTraining, monkeypatch: pytest.MonkeyPatch) -> None:
    class Enough(Exception):
        """Raised where a batch would be drawn."""

    def enough(*_: object) -> None:
        raise Enough

    monkeypatch.setattr(work.cache, "crops", enough)
    with torch.no_grad():
        for parameter in work.net.parameters():
            parameter.add_(1.0)
    before = [p.clone() for p in work.average.parameters()]
    with pytest.raises(Enough):
        work.step(10)
    for was, is_now in zip(before, work.average.parameters(), strict=True):
        torch.testing.assert_close(is_now - was, torch.full_like(was, 9.0 / 20.0), atol=1e-5, rtol=0)


def test_each_part_of_the_loss_counts_by_its_weight() -> None:
    loss = DistillLoss(motion_model(), [Opening(9.0, np.array([0.0, 0.0, -9.0]))], warm_up=0)
    generator = torch.Generator().manual_seed(0)
    answer, target = torch.randn(2, 2, 12, 3, generator=generator).unbind()
    given: tuple[Any, ...] = (answer, target, torch.tensor([1.0, 0.5]), torch.tensor([True, False]))
    parts = {name: value.item() for name, value in loss(*given, width=1.0).items()}
    weights = {"error": 1.0, "gap": 1.0, "lid": 1.0, "velocity": 1.0, "acceleration": 0.1, "power": 2.0}
    assert min(parts.values()) > 1e-3
    assert parts["loss"] == pytest.approx(sum(weights[name] * parts[name] for name in weights), rel=1e-5)
    whole = loss(answer, target, torch.ones(2), given[3], width=1.0)["error"]
    halved = loss(answer, target, torch.full((2,), 0.5), given[3], width=1.0)["error"]
    assert halved.item() == pytest.approx(0.5 * whole.item(), rel=1e-5)


def test_the_openings_cost_their_error_over_the_opening() -> None:
    loss = DistillLoss(motion_model(), [Opening(9.0, np.array([0.0, 0.0, -9.0]))], warm_up=0)
    target = torch.tensor([0.7, 0.0, 0.5]).expand(1, 6, 3)
    error = torch.tensor([0.1, 0.0, 0.2]).expand(1, 6, 3)
    parts = loss(target + error, target, torch.ones(1), torch.tensor([True]), width=1.0)
    assert parts["gap"].item() == pytest.approx(0.5 * (5.0 * 0.1 / (0.5 + 5.0 * 0.7 + 1.0)) ** 2, rel=1e-4)
    assert parts["lid"].item() == pytest.approx(0.5 * (9.0 * 0.2 / (9.0 - 4.5 + 1.0)) ** 2, rel=1e-4)
    never = loss(target + error, target, torch.ones(1), torch.tensor([False]), width=1.0)
    assert never["gap"].item() == never["lid"].item() == 0.0
    size = (0.1**2 + 0.2**2) / 3
    assert parts["error"].item() == pytest.approx(2.0 * (np.sqrt(size + 1.0) - 1.0), rel=1e-4)
    assert CLEAN == -1
