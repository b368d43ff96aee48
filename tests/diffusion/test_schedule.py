"""The noise schedule and its timesteps, against diffusers and against their definitions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facetalk.diffusion import NoiseSchedule
from facetalk.diffusion.schedule import CLEAN, SPACINGS
from facetalk.errors import InputError

diffusers = pytest.importorskip("diffusers")


@pytest.mark.parametrize("train_steps", [10, 100, 1000])
def test_cosine_schedule_is_that_of_diffusers(train_steps: int) -> None:
    peer = diffusers.DDPMScheduler(num_train_timesteps=train_steps, beta_schedule="squaredcos_cap_v2")
    ours = NoiseSchedule(train_steps)
    np.testing.assert_allclose(ours.betas, peer.betas.numpy(), rtol=1e-6)
    # diffusers multiplies in float32: each factor 1 - beta is rounded to 6e-8, which is 6e-5 of the last one,
    # 0.001.
    np.testing.assert_allclose(ours.alphas_cumprod, peer.alphas_cumprod.numpy(), rtol=1e-4)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 8, 25, 50, 333, 999, 1000])
def test_timesteps_are_those_of_diffusers(spacing: str, steps: int) -> None:
    peer = diffusers.DDPMScheduler(
        num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2", timestep_spacing=spacing
    )
    peer.set_timesteps(steps)
    assert NoiseSchedule().timesteps(steps, spacing) == peer.timesteps.tolist()[:steps]


@settings(max_examples=60, deadline=None)
@given(steps=st.integers(1, 1000), spacing=st.sampled_from(SPACINGS))
def test_transitions_descend_to_clean(steps: int, spacing: str) -> None:
    pairs = NoiseSchedule().transitions(steps, spacing)
    assert len(pairs) == steps
    assert pairs[-1][1] == CLEAN
    assert all(t > p for t, p in pairs)
    assert all(first[1] == second[0] for first, second in itertools.pairwise(pairs))
    if spacing == "trailing":
        assert pairs[0][0] == 999


def test_add_noise_mixes_by_the_signal_power() -> None:
    schedule = NoiseSchedule()
    clean, noise = torch.full((2, 3), 2.0), torch.full((2, 3), -1.0)
    mixed = schedule.add_noise(clean, noise, torch.tensor([0, 999]))
    power = schedule.alphas_cumprod[[0, 999]][:, None]
    np.testing.assert_allclose(
        mixed.numpy(), np.sqrt(power) * 2 - np.sqrt(1 - power) * np.ones((1, 3)), rtol=1e-6
    )


@pytest.mark.parametrize("steps", [0, -1, 1001, 2.5, True])
def test_impossible_step_counts_are_refused(steps: object) -> None:
    with pytest.raises(InputError, match=r"steps must be a whole number in 1\.\.1000"):
        NoiseSchedule().timesteps(steps)  # type: ignore[arg-type]


def test_unknown_spacing_is_refused() -> None:
    with pytest.raises(InputError, match="spacing"):
        NoiseSchedule().timesteps(5, "random")  # type: ignore[arg-type]
