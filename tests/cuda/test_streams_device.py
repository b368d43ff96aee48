"""What is made once and used by everybody: ready on every stream, whichever made it. On a GPU."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from field_host import random_head, some_points
from torch import Tensor

from facetalk import ops
from facetalk.diffusion import Denoiser, DenoiserConfig
from facetalk.diffusion.cuda_graph import Replay
from facetalk.diffusion.sampler import Sampler
from facetalk.ops.cuda import marching_cubes as cuda_marching_cubes
from facetalk.ops.cuda.field import CudaField

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")

CYCLES = 20_000_000  # what is made comes late, so that who does not wait reads what was there before


def on_other_streams(
    make: Callable[[], Callable[[], Tensor]], turns: list[int] | None = None
) -> list[Tensor]:
    """What the function that `make` makes on one stream gives on that and on two more; none of them waits."""
    made, results = [], []
    torch.cuda.synchronize()
    for turn in range(3):
        if turns is not None:
            turns.append(turn)
        with torch.cuda.stream(torch.cuda.Stream()):
            if turn == 0:
                torch.cuda._sleep(CYCLES)
                made.append(make())
            results.append(made[0]())
    torch.cuda.synchronize()
    return results


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_field(precision: str) -> None:
    source, biases, rng = random_head(31)
    points, frames = some_points(rng, 60).cuda(), [b.cuda() for b in biases]

    def make() -> Callable[[], Tensor]:
        field = CudaField(source, precision=precision)
        return lambda: field.query(points, frames)["sdf"]

    first, *others = on_other_streams(make)
    assert all(torch.equal(first, other) for other in others)


def test_bricks_and_their_surface() -> None:
    source, biases, _ = random_head(32, frames=1)
    frames = [b.cuda() for b in biases]
    axes = [np.linspace(-0.6, 0.6, 9).astype(np.float32)] * 3

    def make() -> Callable[[], Tensor]:
        field = CudaField(source, precision="float32")
        return lambda: field.bricks(axes, frames).dense()

    first, *others = on_other_streams(make)
    assert all(torch.equal(first, other) for other in others)


def test_marching_cubes() -> None:
    volume = torch.randn(6, 7, 8, generator=torch.Generator().manual_seed(0)).cuda()
    cuda_marching_cubes._cases.cache_clear()
    first, *others = on_other_streams(lambda: lambda: ops.marching_cubes(volume)[0])
    assert len(first) and all(torch.equal(first, other) for other in others)


def test_recorded_sampler() -> None:
    torch.manual_seed(0)
    config = DenoiserConfig(motion_dim=4, audio_dim=3, layers=1, heads=2, width=16, feedforward=8)
    denoiser, sound = Denoiser(config).cuda().eval(), torch.randn(1, 5, 3).cuda()
    sampler = Sampler(kind="ddim", steps=2)
    noise = torch.randn(1, 1, 5, 4).cuda()

    def make() -> Callable[[], Tensor]:
        options = {"frames": 5, "before": 0, "heard": 5, "offset": 0}
        replay = Replay(denoiser, sampler, 1.5, **options, capture=True)
        # Made on the first stream, recorded on the next.
        return lambda: replay.run(sound, noise, None)[0] if len(turns) > 1 else noise

    turns: list[int] = []
    _, *others = on_other_streams(make, turns)
    assert others[0].shape == (1, 5, 4) and torch.equal(others[0], others[1])
