"""What is made once and used by everybody: ready on every stream, whichever made it. On a GPU."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from field_host import random_head
from random_heads import some_points
from torch import Tensor

from facetalk import ops
from facetalk.diffusion import Denoiser, DenoiserConfig
from facetalk.diffusion.cuda_graph import Replay
from facetalk.diffusion.sampler import Sampler
from facetalk.ops.cuda import marching_cubes as cuda_marching_cubes
from facetalk.ops.cuda.canonical_cache import CudaCanonicalCache
from facetalk.ops.cuda.field import CudaField

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")

TIMES = 200
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


def test_a_field_may_be_dropped_while_another_stream_runs_it() -> None:
    """Its weights' memory must not become the next tensor's until that stream is done with them."""
    source, biases, rng = random_head(33)
    points, frames = some_points(rng, 60).cuda(), [b.cuda() for b in biases]
    expected = CudaField(source).query(points, frames)["sdf"]
    field, other = CudaField(source), torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(other):
        torch.cuda._sleep(CYCLES)
        result = field.query(points, frames)["sdf"]
    sizes = [64 << n for n in range(12)]
    del field
    held = [
        torch.full((size,), torch.nan, device="cuda") for size in sizes
    ]  # where the weights were, if it can
    torch.cuda.synchronize()
    assert torch.equal(result, expected) and len(held) == len(sizes)


def test_a_cache_may_be_dropped_while_another_stream_reads_it() -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "table": np.zeros((1, 1, 1), np.int32), "children": np.zeros((0, 8), np.int32),
        "data": rng.random((1, 7, 7, 7), np.float32), "error": np.zeros(1, np.float32),
        "far": np.ones((2, 2, 2), np.float32),
    }  # fmt: skip
    places = {"origin": (-1.0,) * 3, "spacing": 0.5, "far_origin": (-1.0,) * 3, "far_spacing": 2.0}
    cache = CudaCanonicalCache(**arrays, **places)
    points, other = torch.rand(50, 3, device="cuda"), torch.cuda.Stream()
    expected = cache.query(points)[0]
    torch.cuda.synchronize()
    with torch.cuda.stream(other):
        torch.cuda._sleep(CYCLES)
        result = cache.query(points)[0]
    del cache
    held = [torch.full((64 << n,), torch.nan, device="cuda") for n in range(5)]
    torch.cuda.synchronize()
    assert torch.equal(result, expected) and len(held) == 5


def test_two_threads_launch_one_kernel_with_different_widths() -> None:
    """What shared memory a kernel may have is one number for all threads; each launch asks for its own."""
    heads = [random_head(34, deformation=(width, width), deformation_skip=1) for width in (64, 512)]
    fields = [CudaField(source, precision="float32") for source, _, _ in heads]
    work = [
        (field, some_points(rng, 40).cuda(), [b.cuda() for b in biases])
        for field, (_, biases, rng) in zip(fields, heads, strict=True)
    ]
    expected = [field.query(points, frames)["sdf"] for field, points, frames in work]
    torch.cuda.synchronize()

    def repeat(number: int) -> bool:
        field, points, frames = work[number]
        with torch.cuda.stream(torch.cuda.Stream()):
            found = [field.query(points, frames)["sdf"] for _ in range(TIMES)]
            torch.cuda.current_stream().synchronize()
        return all(torch.equal(one, expected[number]) for one in found)

    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(repeat, range(2)))


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
