"""Step rules against the diffusers schedulers, and the loop around them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facetalk.diffusion import NoiseSchedule, Sampler
from facetalk.diffusion.sampler import ddim_step, ddpm_step, guide
from facetalk.errors import InputError

diffusers = pytest.importorskip("diffusers")

SHAPE = (2, 5, 7)
# Double precision on both sides leaves rounding only.
TOLERANCE = dict(rtol=1e-9, atol=1e-9)


def _peer(kind: str, steps: int, spacing: str) -> object:
    cls = diffusers.DDPMScheduler if kind == "ddpm" else diffusers.DDIMScheduler
    extra = {} if kind == "ddpm" else {"set_alpha_to_one": True}
    scheduler = cls(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="sample",
        clip_sample=False,
        timestep_spacing=spacing,
        **extra,
    )
    # diffusers keeps these tables in float32, which costs its step up to 1e-2 where betas are small: the
    # rules are compared on one table, the tables in test_schedule.py.
    scheduler.alphas_cumprod = torch.from_numpy(NoiseSchedule().alphas_cumprod)
    scheduler.one = torch.tensor(1.0, dtype=torch.float64)
    scheduler.set_timesteps(steps)
    return scheduler


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("steps", [1, 4, 7, 25, 250])
def test_ddpm_equals_diffusers_step_by_step(
    steps: int, spacing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(steps)
    peer = _peer("ddpm", steps, spacing)
    sampler = Sampler("ddpm", steps, spacing=spacing)
    for timestep, previous in sampler.transitions:
        sample, clean, noise = (
            torch.randn(SHAPE, generator=generator, dtype=torch.float64) for _ in range(3)
        )
        # diffusers' DDPM draws its own noise: hand it ours.
        monkeypatch.setattr(
            "diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, noise=noise, **__: noise
        )
        expected = peer.step(clean, timestep, sample).prev_sample
        torch.testing.assert_close(
            sampler.step(sample, clean, timestep, previous, noise), expected, **TOLERANCE
        )


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("steps", [1, 4, 25, 250])
def test_ddim_equals_diffusers_step_by_step(steps: int, eta: float) -> None:
    generator = torch.Generator().manual_seed(steps)
    peer = _peer("ddim", steps, "trailing")
    sampler = Sampler("ddim", steps, eta=eta)
    for timestep, previous in sampler.transitions:
        sample, clean, noise = (
            torch.randn(SHAPE, generator=generator, dtype=torch.float64) for _ in range(3)
        )
        expected = peer.step(clean, timestep, sample, eta=eta, variance_noise=noise).prev_sample
        torch.testing.assert_close(
            sampler.step(sample, clean, timestep, previous, noise), expected, **TOLERANCE
        )


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 14, 15, 25, 250])
def test_dpm_solver_equals_diffusers_step_by_step(steps: int, spacing: str) -> None:
    peer = diffusers.DPMSolverMultistepScheduler(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        algorithm_type="dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
        prediction_type="sample",
        timestep_spacing=spacing,
        final_sigmas_type="zero",
    )
    sampler = Sampler("dpm++", steps, spacing=spacing)
    peer.set_timesteps(timesteps=[t for t, _ in sampler.transitions])
    # One table on both sides, as above; diffusers computes its step in float32.
    power = torch.from_numpy(NoiseSchedule().alphas_cumprod)[[t for t, _ in sampler.transitions]]
    peer.sigmas = torch.cat([((1.0 - power) / power).sqrt(), torch.zeros(1, dtype=torch.float64)])
    generator = torch.Generator().manual_seed(steps)
    before: tuple[int, torch.Tensor] | None = None
    for timestep, previous in sampler.transitions:
        sample, clean = (torch.randn(SHAPE, generator=generator, dtype=torch.float64) for _ in range(2))
        expected = peer.step(clean, timestep, sample).prev_sample
        ours = sampler.step(sample, clean, timestep, previous, None, before)
        torch.testing.assert_close(ours, expected.double(), rtol=1e-5, atol=1e-5)
        before = (timestep, clean)


def test_dpm_solver_needs_fewer_steps_than_ddim() -> None:
    """The exact denoiser of N(0, s²) data carries noise z to s z; errors of second order are smaller."""
    spread, schedule = 0.3, NoiseSchedule()

    def predict(_index: int, timestep: int, sample: torch.Tensor) -> torch.Tensor:
        power = schedule.signal_power(timestep)
        return sample * math.sqrt(power) * spread**2 / (power * spread**2 + 1.0 - power)

    def error(kind: str, steps: int) -> float:
        start = torch.ones(1, dtype=torch.float64)
        power = schedule.signal_power(schedule.train_steps - 1)
        exact = spread / math.sqrt(power * spread**2 + 1.0 - power)
        return abs(Sampler(kind, steps).run(predict, lambda _: start).item() - exact)

    assert error("dpm++", 20) < 0.3 * error("ddim", 20)
    assert error("dpm++", 100) < 0.1 * error("ddim", 100)


@settings(max_examples=40, deadline=None)
@given(steps=st.integers(1, 1000), data=st.data())
def test_ddim_with_full_eta_is_ddpm(steps: int, data: st.DataObject) -> None:
    schedule = NoiseSchedule()
    timestep, previous = data.draw(st.sampled_from(schedule.transitions(steps)))
    generator = torch.Generator().manual_seed(0)
    sample, clean, noise = (torch.randn(SHAPE, generator=generator, dtype=torch.float64) for _ in range(3))
    torch.testing.assert_close(
        ddim_step(schedule, sample, clean, timestep, previous, noise, eta=1.0),
        ddpm_step(schedule, sample, clean, timestep, previous, noise),
    )


@pytest.mark.parametrize("kind", ["ddpm", "ddim", "dpm++"])
@pytest.mark.parametrize("steps", [1, 2, 7, 100])
def test_a_perfect_denoiser_is_reproduced(kind: str, steps: int) -> None:
    truth = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    out = Sampler(kind, steps).run(
        lambda _i, _t, _x: truth, lambda index: torch.full(SHAPE, float(index % 3 - 1))
    )
    torch.testing.assert_close(out, truth)


@pytest.mark.parametrize("kind", ["ddpm", "ddim", "dpm++"])
def test_gaussian_data_keep_their_spread(kind: str) -> None:
    """With the exact denoiser of N(0, s²) data the samples have standard deviation s."""
    spread, schedule = 0.5, NoiseSchedule()

    def predict(_index: int, timestep: int, sample: torch.Tensor) -> torch.Tensor:
        power = schedule.signal_power(timestep)
        return sample * math.sqrt(power) * spread**2 / (power * spread**2 + 1.0 - power)

    generator = torch.Generator().manual_seed(0)
    out = Sampler(kind, 200).run(predict, lambda _: torch.randn(20_000, generator=generator))
    # Standard error of the deviation of 20000 draws is 0.5 %; 200 steps leave about 1 % bias.
    assert out.std().item() == pytest.approx(spread, rel=0.03)
    assert out.mean().item() == pytest.approx(0.0, abs=0.02)


def test_run_asks_only_for_the_noise_it_needs_and_reports_progress() -> None:
    asked: list[int] = []
    seen: list[tuple[int, int]] = []

    def noise(index: int) -> torch.Tensor:
        asked.append(index)
        return torch.zeros(1)

    Sampler("ddim", 3).run(lambda _i, _t, x: x, noise, lambda done, total: seen.append((done, total)))
    assert asked == [0]
    assert seen == [(1, 3), (2, 3), (3, 3)]
    asked.clear()
    Sampler("ddpm", 3).run(lambda _i, _t, x: x, noise)
    assert asked == [0, 1, 2]


def test_guidance_extrapolates_from_the_unconditional() -> None:
    cond, uncond = torch.tensor([2.0]), torch.tensor([1.0])
    assert guide(cond, uncond, 1.0).item() == 2.0
    assert guide(cond, uncond, 3.0).item() == 4.0
    assert guide(cond, uncond, 0.0).item() == 1.0


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"kind": "euler"}, "unknown sampler"),
        ({"kind": "consistency"}, "use ddpm, ddim, dpm"),
        ({"kind": "dpm++", "eta": 0.5}, "no fresh noise"),
        ({"steps": 0}, "1..1000"),
        ({"steps": 1001}, "1..1000"),
        ({"eta": -0.1}, "eta"),
        ({"spacing": "karras"}, "spacing"),
    ],
)
def test_bad_settings_are_one_line(settings_: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        Sampler(**settings_)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
