"""Sampling a 10 s clip: ours beside the loop of ``diffusers`` with the same network.

    pytest benchmarks/bench_sampler.py -k ten_seconds --benchmark-json=benchmarks/results/cpu-sampler.json
    pytest benchmarks/bench_sampler.py -k built_in --benchmark-columns=min,median

The second command times the built-in model on one thread: the few-step student beside ten guided steps of the
full model, which a model without a student takes by default.

The peer of the first, on one thread and on two, is what one writes with ``diffusers``: ``DDIMScheduler``, and
at every step the network for the audio and for the null condition, the audio terms computed anew. Both give
the same motion (checked before timing).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from facetalk import ops
from facetalk.diffusion import Denoiser, DenoiserConfig, MotionModel, Representation, frame_noise
from facetalk.models import find_model

diffusers = pytest.importorskip("diffusers")
FRAMES, GUIDANCE = 250, 1.5
PRESETS = {
    "mini": DenoiserConfig.mini(motion_dim=32, audio_dim=192),
    "paper": DenoiserConfig.paper(),
}


@pytest.fixture(params=[1, 2], ids=["1 thread", "2 threads"])
def cores(request: pytest.FixtureRequest) -> Iterator[int]:
    """Threads of torch and of the compiled core, for either side."""
    before = torch.get_num_threads(), ops.threads()
    torch.set_num_threads(request.param)
    ops.set_threads(request.param)
    yield request.param
    torch.set_num_threads(before[0])
    ops.set_threads(before[1])


def make(preset: str) -> tuple[MotionModel, torch.Tensor]:
    torch.manual_seed(0)
    config = PRESETS[preset]
    dim = config.motion_dim
    model = MotionModel(
        Denoiser(config), Representation.identity(dim), expression_names=[f"e{i}" for i in range(dim)]
    )
    return model, torch.randn(FRAMES, config.audio_dim)


def ours(model: MotionModel, features: torch.Tensor, steps: int) -> np.ndarray:
    return model.sample(features, steps=steps, guidance=GUIDANCE, seed=0)


@torch.inference_mode()
def peer(model: MotionModel, features: torch.Tensor, steps: int) -> np.ndarray:
    net = model.denoiser
    scheduler = diffusers.DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="sample",
        clip_sample=False,
        timestep_spacing="trailing",
    )
    scheduler.set_timesteps(steps)
    sample = torch.from_numpy(frame_noise(0, 0, 0, FRAMES, net.config.motion_dim))[None]
    null = torch.tensor([True])
    for timestep in scheduler.timesteps:
        with_audio, _ = net(sample, timestep[None], net.condition(features[None]))
        without, _ = net(sample, timestep[None], net.condition(features[None], drop=null))
        clean = GUIDANCE * with_audio + (1.0 - GUIDANCE) * without
        sample = scheduler.step(clean, timestep, sample).prev_sample
    return sample[0].clip(0.0, 1.0).numpy()


@pytest.mark.parametrize("who", ["ours", "diffusers"])
@pytest.mark.parametrize("steps", [1, 2, 4, 8, 25, 100])
@pytest.mark.parametrize("preset", ["mini", "paper"])
def test_ten_seconds(benchmark: BenchmarkFixture, preset: str, steps: int, who: str, cores: int) -> None:
    benchmark.group = f"{preset}, {steps} step{'s' * (steps > 1)}, {cores} thread{'s' * (cores > 1)}"
    model, features = make(preset)
    if steps == 8:
        np.testing.assert_allclose(ours(model, features, 8), peer(model, features, 8), atol=1e-3)
    run = ours if who == "ours" else peer
    benchmark.extra_info["clip_s"] = FRAMES / 25.0
    rounds = 2 if preset == "paper" and steps > 25 else 3 if steps > 8 else 9
    benchmark.pedantic(run, args=(model, features, steps), rounds=rounds, warmup_rounds=1)


@pytest.mark.parametrize(
    ("who", "steps"),
    [("full", 50), ("full", 10), ("student", 8), ("student", 4), ("student", 2), ("student", 1)],
)
def test_built_in(benchmark: BenchmarkFixture, who: str, steps: int) -> None:
    benchmark.group = "built-in model, 10 s, one thread"
    torch.set_num_threads(1)
    model = MotionModel.load(find_model("default").folder / "motion")
    if who == "student" and model.student is None:
        pytest.skip("this model has no student")
    features = torch.randn(FRAMES, model.denoiser.config.audio_dim)
    benchmark.extra_info["clip_s"] = FRAMES / 25.0
    benchmark.pedantic(
        model.sample,
        args=(features,),
        kwargs={"steps": steps, "guidance": GUIDANCE, "seed": 0, "student": who == "student"},
        rounds=15,
        warmup_rounds=2,
    )
