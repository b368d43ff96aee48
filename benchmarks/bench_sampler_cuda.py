"""Sampling a 10 s clip on the GPU: one CUDA graph, the same loop launched step by step, and ``diffusers``.

    python -m pytest benchmarks/bench_sampler_cuda.py -s

Times are what a caller waits, from features on the GPU to weights in NumPy, noise included. The floor is the
operations of the matrix products at the measured float32 rate.
"""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
from _gpu import Gpu

from facetalk.diffusion import Denoiser, DenoiserConfig, MotionModel, Representation, frame_noise
from facetalk.diffusion.cuda_graph import Replays

FRAMES, GUIDANCE = 250, 1.5
PRESETS = {"mini": DenoiserConfig.mini(motion_dim=32, audio_dim=192), "paper": DenoiserConfig.paper()}


def make(preset: str) -> tuple[MotionModel, torch.Tensor]:
    torch.manual_seed(0)
    config = PRESETS[preset]
    names = [f"e{i}" for i in range(config.motion_dim)]
    network = Denoiser(config).cuda()
    model = MotionModel(network, Representation.identity(config.motion_dim), expression_names=names)
    return model, torch.randn(FRAMES, config.audio_dim, device="cuda")


def product_flops(config: DenoiserConfig, steps: int) -> float:
    """Of the projections of a guided clip; attention itself adds a few percent."""
    block = 4 * config.width**2 + 2 * config.width * config.feedforward
    step = config.layers * block + 2 * config.width * config.motion_dim
    once = config.width * config.audio_dim + config.layers * 2 * config.width**2
    return 2.0 * 2 * FRAMES * (steps * step + once)


@torch.inference_mode()
def diffusers_loop(model: MotionModel, features: torch.Tensor, steps: int) -> np.ndarray:
    import diffusers

    net = model.denoiser
    scheduler = diffusers.DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="sample",
        clip_sample=False,
        timestep_spacing="trailing",
    )
    scheduler.set_timesteps(steps, device="cuda")
    sample = torch.from_numpy(frame_noise(0, 0, 0, FRAMES, net.config.motion_dim))[None].cuda()
    null = torch.tensor([True], device="cuda")
    for timestep in scheduler.timesteps:
        with_audio, _ = net(sample, timestep[None], net.condition(features[None]))
        without, _ = net(sample, timestep[None], net.condition(features[None], drop=null))
        sample = scheduler.step(
            GUIDANCE * with_audio + (1.0 - GUIDANCE) * without, timestep, sample
        ).prev_sample
    return sample[0].clip(0.0, 1.0).cpu().numpy()


@pytest.mark.parametrize("steps", [1, 2, 4, 8, 25])
@pytest.mark.parametrize("preset", PRESETS)
def test_ten_seconds(preset: str, steps: int) -> None:
    gpu = Gpu.or_skip()
    model, features = make(preset)

    def sample(mode: str) -> np.ndarray:
        model.replays.mode = mode  # type: ignore[assignment]
        return model.sample(features, steps=steps, guidance=GUIDANCE, seed=0)

    model.replays = Replays()
    half, _ = make(preset)
    half.denoiser.half()
    half.replays = Replays("on")
    works = {
        "ours, one graph": lambda: sample("on"),
        "ours, one graph, float16": lambda: half.sample(features, steps=steps, guidance=GUIDANCE, seed=0),
        "ours, step by step": lambda: sample("off"),
        "diffusers": lambda: diffusers_loop(model, features, steps),
    }
    np.testing.assert_allclose(works["ours, one graph"](), works["ours, step by step"](), atol=1e-4)
    if gpu.peers and importlib.util.find_spec("diffusers") is not None:
        # diffusers keeps its tables in float32: see tests/diffusion/test_sampler.py.
        np.testing.assert_allclose(works["ours, one graph"](), works["diffusers"](), atol=2e-2)
    else:
        del works["diffusers"]
    for peer, work in works.items():
        gpu.report(
            "sample 10 s",
            {"denoiser": preset, "steps": steps, "guidance": GUIDANCE},
            peer,
            gpu.wall(work),
            flops=product_flops(PRESETS[preset], steps),
            dtype=torch.float32,
        )
