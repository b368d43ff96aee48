"""Targets and losses of distillation, on trajectories whose truth is known."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from facetalk.diffusion import Denoiser, DenoiserConfig, MotionModel, NoiseSchedule, Representation, ddim_step
from facetalk.diffusion.lip_contact import LipContact
from facetalk.diffusion.schedule import CLEAN
from facetalk.errors import InputError
from facetalk.training.motion import distill_loss
from facetalk.training.motion.distill_cache import grid, teacher_timesteps, trajectory
from facetalk.training.motion.distill_energy import EnergyScore
from facetalk.training.motion.distill_loss import DistillLoss, Steps
from facetalk.training.openings import Opening

SCHEDULE, SPREAD = NoiseSchedule(), 0.3
GRID = grid(SCHEDULE, (1, 2, 4, 8))


def path(timestep: int) -> float:
    """Where the exact flow of N(0, SPREAD^2) data carries noise 1: the spread at that timestep."""
    power = SCHEDULE.signal_power(timestep)
    return math.sqrt(power * SPREAD**2 + 1.0 - power)


def exact_answer(sample: torch.Tensor, timestep: int) -> torch.Tensor:
    """The exact denoiser of those data."""
    power = SCHEDULE.signal_power(timestep)
    return sample * math.sqrt(power) * SPREAD**2 / path(timestep) ** 2


class Exact(nn.Module):
    """A teacher that knows the truth, whatever it hears."""

    def guided_condition(self, heard: torch.Tensor) -> None:
        """Nothing."""

    def forward(
        self, noisy: torch.Tensor, timesteps: torch.Tensor, _condition: None
    ) -> tuple[torch.Tensor, None]:
        """The exact denoiser."""
        return exact_answer(noisy, int(timesteps[0])), None


def test_the_grid_is_what_samplers_of_few_steps_pass_through() -> None:
    assert GRID == [999, 874, 749, 624, 499, 374, 249, 124, CLEAN]
    assert grid(SCHEDULE, (1, 2)) == [999, 499, CLEAN]


@pytest.mark.parametrize(("between", "last"), [(1, 1), (2, 8), (2, 12), (5, 40)])
def test_the_teacher_passes_through_every_state(between: int, last: int) -> None:
    visited = teacher_timesteps(GRID, between, last)
    assert set(GRID) - {CLEAN} <= set(visited)
    assert visited == sorted(set(visited), reverse=True)
    assert min(visited) >= 0
    # Duplicates fall away where steps would be shorter than one timestep.
    assert 7 * between < len(visited) <= 7 * between + last
    with pytest.raises(InputError, match="at least one step"):
        teacher_timesteps(GRID, 0, last)


def test_the_teachers_trajectory_is_nearer_to_the_exact_flow_than_a_hundred_steps_of_ddim() -> None:
    start = torch.full((1, 1, 1), path(999))
    ours = trajectory(
        Exact(),  # type: ignore[arg-type]
        SCHEDULE, teacher_timesteps(GRID), torch.zeros(1, 1, 1), start, torch.ones(1), GRID,
    )  # fmt: skip
    errors = [abs(ours[0, row].item() - path(timestep)) for row, timestep in enumerate(GRID)]
    peer = start
    for timestep, previous in SCHEDULE.transitions(100):
        peer = ddim_step(SCHEDULE, peer, exact_answer(peer, timestep), timestep, previous)
    assert errors[0] < 1e-7
    assert errors[-1] < 0.5 * abs(peer.item() - SPREAD)
    assert max(errors) < 0.02


@pytest.mark.parametrize(("timestep", "end"), list(itertools.combinations([*GRID[:-1], 700, 3, 0, CLEAN], 2)))
def test_the_target_moves_exactly_to_any_state(timestep: int, end: int) -> None:
    if end > timestep:
        timestep, end = end, timestep
    noise = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sample, after = noise * path(timestep), noise * path(end)
    steps, pair = Steps(SCHEDULE), (torch.tensor([timestep] * 2), torch.tensor([end] * 2))
    target = steps.target(sample, after, *pair)
    torch.testing.assert_close(steps.move(sample, target, *pair), after)
    # The same by the sampler's own rule, which is what the student will be run with.
    torch.testing.assert_close(ddim_step(SCHEDULE, sample, target, timestep, end), after)


def test_each_example_has_its_own_step() -> None:
    noise = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    steps, starts, ends = Steps(SCHEDULE), torch.tensor([999, 499]), torch.tensor([499, CLEAN])
    moved = steps.move(noise, 0.5 * noise, starts, ends)
    for row in range(2):
        alone = steps.move(
            noise[row : row + 1], 0.5 * noise[row : row + 1], starts[row, None], ends[row, None]
        )
        torch.testing.assert_close(moved[row : row + 1], alone)


def test_importance_is_what_an_error_of_the_answer_does_to_the_state() -> None:
    steps = Steps(SCHEDULE)
    starts, ends = torch.tensor([999, 999, 499]), torch.tensor([CLEAN, 499, CLEAN])
    zero, one = torch.zeros(3, 1, 1, dtype=torch.float64), torch.ones(3, 1, 1, dtype=torch.float64)
    moved = steps.move(zero, one, starts, ends) - steps.move(zero, zero, starts, ends)
    torch.testing.assert_close(
        steps.importance(starts, ends).double(), moved[:, 0, 0] ** 2, rtol=1e-5, atol=0
    )
    assert steps.importance(torch.tensor([500]), torch.tensor([499])).item() == pytest.approx(0.1)


# Weights 0 and 1 part the lips, 2 shuts an eye, 3 does nothing to either; all are seen alike.
PER_GAP, PER_LID = np.array([20.0, -20.0, 0.0, 0.0]), np.array([0.0, 0.0, -10.0, 0.0])
REST_GAP, REST_LID = 0.5, 9.0


def loss(**settings: int) -> DistillLoss:
    config = DenoiserConfig(motion_dim=4, audio_dim=3, layers=1, heads=1, width=8, feedforward=8)
    model = MotionModel(
        Denoiser(config), Representation.identity(4), expression_names=["a", "b", "c", "d"],
        contact=LipContact(REST_GAP, PER_GAP, 1),
    )  # fmt: skip
    return DistillLoss(model, [Opening(REST_LID, PER_LID)], warm_up=settings.get("warm_up", 0))


def cost(
    error: torch.Tensor, target: torch.Tensor | None = None, *, clean: bool = True, width: float = 1.0
) -> float:
    target = torch.zeros_like(error) if target is None else target
    parts = loss()(target + error, target, torch.ones(1), torch.tensor([clean]), width=width)
    return parts["loss"].item()


def along(*weights: float, frames: int = 12) -> torch.Tensor:
    """An error that does not change over time."""
    return torch.tensor(weights).expand(1, frames, -1).clone()


def test_no_error_costs_nothing_and_any_error_something() -> None:
    assert cost(along(0.0, 0.0, 0.0, 0.0)) == pytest.approx(0.0, abs=1e-6)
    assert cost(along(0.0, 0.0, 0.0, 0.1)) > 1e-4


def test_the_lips_cost_more_and_most_where_they_are_closed() -> None:
    assert cost(along(0.1, 0.0, 0.0, 0.0)) > 2 * cost(along(0.0, 0.0, 0.0, 0.1))
    open_mouth = along(0.5, 0.0, 0.0, 0.0)
    assert cost(along(0.05, 0.0, 0.0, 0.0)) > 2 * cost(along(0.05, 0.0, 0.0, 0.0), open_mouth)


def test_the_lids_cost_more_and_most_where_they_are_closed() -> None:
    shut = along(0.0, 0.0, 0.9, 0.0)
    assert cost(along(0.0, 0.0, 0.1, 0.0), shut) > 2 * cost(along(0.0, 0.0, 0.0, 0.1), shut)
    assert cost(along(0.0, 0.0, 0.05, 0.0), shut) > 2 * cost(along(0.0, 0.0, 0.05, 0.0))


def test_openings_count_only_where_the_answer_is_a_face() -> None:
    assert cost(along(0.1, 0.0, 0.0, 0.0), clean=False) == pytest.approx(
        cost(along(0.0, 0.0, 0.0, 0.1), clean=False)
    )


def test_errors_that_shake_cost_more_than_errors_that_stay() -> None:
    shaking = along(0.0, 0.0, 0.0, 0.1)
    shaking[:, ::2] *= -1.0
    assert cost(shaking) > 3 * cost(along(0.0, 0.0, 0.0, 0.1))


def test_too_little_and_too_much_jitter_cost_beside_the_error_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that bends as much as the target costs nothing here, a still one does."""
    frames = torch.arange(12.0)
    target = along(0.0, 0.0, 0.0, 0.1) * torch.where(frames % 2 == 0, 1.0, -1.0)[None, :, None]
    mirrored, still = -target, torch.zeros_like(target)
    monkeypatch.setattr(distill_loss, "VELOCITY_WEIGHT", 0.0)
    monkeypatch.setattr(distill_loss, "POWER_WEIGHT", 0.0)
    # The mirrored answer bends as much as the target and is twice as wrong; the still one does not bend.
    wrong = cost(mirrored - target, target, width=1e3)
    dull = cost(still - target, target, width=1e3)
    monkeypatch.setattr(distill_loss, "ACCELERATION_WEIGHT", 0.0)
    assert wrong == pytest.approx(cost(mirrored - target, target, width=1e3), abs=1e-5)
    assert dull > cost(still - target, target, width=1e3) + 0.05


def test_motion_that_is_too_weak_or_too_strong_costs_beside_its_error() -> None:
    """Two answers are as wrong by their squares; one moves as much as the target, the other half as much."""
    generator = torch.Generator().manual_seed(0)
    target, other = torch.randn(2, 1, 12, 4, generator=generator).unbind()
    weak, strong = 0.5 * target, 1.5 * target
    asleep, awake = (
        loss()(answer, target, torch.ones(1), torch.tensor([False]), width=1e3) for answer in (weak, strong)
    )
    assert (
        asleep["power"].item()
        == pytest.approx(awake["power"].item(), rel=0.01)
        == pytest.approx(0.25, rel=0.01)
    )
    assert asleep["loss"].item() > asleep["error"].item() + asleep["velocity"].item() + 0.2
    # What moves as much at other times is wrong, but not weak.
    late = loss()(target.flip(1), target, torch.ones(1), torch.tensor([False]), width=1e3)
    assert late["power"].item() < 1e-6 < late["error"].item()
    assert loss()(other, target, torch.ones(1), torch.tensor([False]), width=1e3)["power"].item() > 1e-3


def test_a_narrow_loss_forgives_outliers() -> None:
    small, large = along(0.0, 0.0, 0.0, 0.02), along(0.0, 0.0, 0.0, 2.0)
    assert cost(small, width=1.0, clean=False) == pytest.approx(
        cost(small, width=0.17, clean=False), rel=0.05
    )
    assert cost(large, width=0.17, clean=False) < 0.5 * cost(large, width=1.0, clean=False)


def test_the_energy_score_is_least_where_the_spread_is_the_teachers() -> None:
    score = EnergyScore(loss())

    def mean(spread: float, shift: float = 0.0) -> float:
        generator = torch.Generator().manual_seed(0)  # the same draws for all, so that chance cancels
        first, second, truth = (torch.randn(400, 20, 4, generator=generator) for _ in range(3))
        return score(spread * first + shift, spread * second + shift, truth).item()

    right = mean(1.0)
    assert right < mean(0.6) and right < mean(1.5) and right < mean(1.0, shift=2.0)
    assert mean(0.0) > right  # all answers alike, though each is the best guess


def test_the_energy_score_looks_at_velocities_and_lids() -> None:
    score, still = EnergyScore(loss()), along(0.0, 0.0, 0.0, 0.0)
    shaking = along(0.0, 0.0, 0.0, 0.1)
    shaking[:, ::2] *= -1.0
    steady = score(along(0.0, 0.0, 0.0, 0.1), along(0.0, 0.0, 0.0, 0.1), still).item()
    assert score(shaking, shaking, still).item() > 3 * steady
    blink = along(0.0, 0.0, 0.1, 0.0)
    assert score(blink, blink, still).item() > 3 * steady


def test_the_warm_up_has_no_say() -> None:
    error = along(0.0, 0.0, 0.0, 0.0)
    error[:, :4] = 5.0
    parts = loss(warm_up=4)(error, torch.zeros_like(error), torch.ones(1), torch.tensor([True]), width=1.0)
    assert parts["loss"].item() == pytest.approx(0.0, abs=1e-6)
    later = loss(warm_up=3)(error, torch.zeros_like(error), torch.ones(1), torch.tensor([True]), width=1.0)
    assert later["loss"].item() > 1.0


def test_a_face_without_lips_or_lids_has_no_such_loss() -> None:
    config = DenoiserConfig(motion_dim=4, audio_dim=3, layers=1, heads=1, width=8, feedforward=8)
    bare = MotionModel(Denoiser(config), Representation.identity(4), expression_names=["a", "b", "c", "d"])
    parts = DistillLoss(bare, [], warm_up=0)(
        along(1.0, 0.0, 0.0, 0.0), along(0.0, 0.0, 0.0, 0.0), torch.ones(1), torch.tensor([True]), width=1.0
    )
    assert parts["gap"].item() == parts["lid"].item() == 0.0
    assert parts["loss"].item() > 0.0
