"""Marching cubes on a GPU, 64^3 to 512^3, beside scikit-image, plain torch and, where it is there, Warp.

    python -m pytest benchmarks/bench_marching_cubes_cuda.py -s

Figures of ours: the call as users make it, which waits for the counts; its kernels alone, into memory that is
there already; and eight frames in one set of launches. The floor is reading every sample and writing the mesh
once at the speed of a measured copy. Peers: scikit-image runs on one core of the CPU, on a volume that is
there; the torch version cuts ambiguous faces one way and has no vertices inside cells, so it does a little
less. CuPy has no marching cubes.
"""

import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from _gpu import Gpu, Timing
from torch import Tensor

from facetalk import ops
from facetalk.ops._device import cuda_core
from facetalk.ops.cuda import marching_cubes as cuda
from facetalk.ops.marching_cubes import marching_cubes_frames

SIZES = [64, 128, 256, 512]
BATCH = 8
ORIGIN, STEP = [0.0] * 3, [1.0] * 3


@pytest.fixture(scope="module")
def gpu() -> Gpu:
    return Gpu.or_skip()


@pytest.fixture(scope="module")
def core(gpu: Gpu) -> ModuleType:
    try:
        return cuda_core("volume", torch.device("cuda"))
    except TypeError as error:
        pytest.skip(str(error))


def head_like(size: int, phase: float = 0.0) -> Tensor:
    """A sphere with ripples: about as much surface as a head, smooth, signed distance outside the ripples."""
    axis = torch.linspace(-1, 1, size, device="cuda")
    x, y, z = axis[:, None, None], axis[None, :, None], axis[None, None, :]
    return torch.sqrt(x**2 + y**2 + z**2) - 0.7 + 0.05 * torch.sin(20 * x + phase) * torch.cos(17 * z)


class Kernels:
    """Count and emit into outputs that are there already: nothing waits, nothing is allocated."""

    def __init__(self, core: ModuleType, volumes: Tensor) -> None:
        self.core = core
        shape = tuple(volumes.shape)
        vertices, faces, _, _ = cuda.run(core, volumes, None, shape, 0.0, ORIGIN, STEP, False)
        self.outputs = (vertices, None, faces)
        workspace = torch.empty(core.marching_cubes_workspace(shape), dtype=torch.uint8, device="cuda")
        header = torch.empty(4 + 2 * shape[0], dtype=torch.int64, device="cuda")
        cases = torch.from_dlpack(core.marching_cubes_cases()).cuda()
        stream = torch.cuda.current_stream().cuda_stream
        self.problem = (volumes, None, shape, cases, 0.0, ORIGIN, STEP, workspace, header, stream)
        self.bytes_moved = volumes.nbytes + vertices.nbytes + faces.nbytes

    def __call__(self) -> None:
        self.core.marching_cubes_count(*self.problem)
        self.core.marching_cubes_emit(*self.problem, *self.outputs)


class PlainTorch:
    """Marching cubes of torch operations: signs, cases, cut edges numbered by a running sum, a table."""

    def __init__(self, core: ModuleType) -> None:
        # The core's own table (McCases in csrc/cuda/marching_cubes/marching_cubes_grid.cuh): the first
        # variant of each case.
        blob = np.from_dlpack(core.marching_cubes_cases()).tobytes()
        first_variant = np.frombuffer(blob, np.uint16, 256, 256)
        variants = np.frombuffer(
            blob, np.dtype([("first", "<u2"), ("count", "u1"), ("centres", "u1")]), 656, 792
        )
        corners = np.frombuffer(blob, np.uint8, offset=792 + 4 * 656)
        table = np.full((256, 12, 3), -1, np.int64)
        for case, number in enumerate(first_variant):
            variant = variants[number]
            triangles = corners[variant["first"] : variant["first"] + 3 * int(variant["count"])].reshape(
                -1, 3
            )
            triangles = triangles[(triangles < 12).all(1)]
            table[case, : len(triangles)] = triangles
        self.table = torch.from_numpy(table).cuda()
        # Where a cell's edges start: 0-3 along z at (dx, dy), 4-7 y at (dx, dz), 8-11 x at (dy, dz).
        starts = [(a, b, 0) for a in (0, 1) for b in (0, 1)] + [(a, 0, b) for a in (0, 1) for b in (0, 1)]
        starts += [(0, a, b) for a in (0, 1) for b in (0, 1)]
        self.starts = torch.tensor(starts, device="cuda")
        self.axes = torch.tensor([2] * 4 + [1] * 4 + [0] * 4, device="cuda")

    def __call__(self, volume: Tensor) -> tuple[Tensor, Tensor]:
        inside = volume < 0
        cut = torch.zeros((3, *volume.shape), dtype=torch.bool, device=volume.device)
        for axis, size in enumerate(volume.shape):
            cut[axis].narrow(axis, 0, size - 1).copy_(
                inside.narrow(axis, 0, size - 1) ^ inside.narrow(axis, 1, size - 1)
            )
        numbers = cut.flatten().cumsum(0, dtype=torch.int32).view(cut.shape) - 1
        where = cut.nonzero()
        axis, index = where[:, 0], where[:, 1:]
        along = torch.nn.functional.one_hot(axis, 3)
        a = volume[tuple(index.T)]
        b = volume[tuple((index + along).T)]
        vertices = index + along * (a / (a - b))[:, None]
        nx, ny, nz = volume.shape
        case = torch.zeros((nx - 1, ny - 1, nz - 1), dtype=torch.uint8, device=volume.device)
        for corner in range(8):
            i, j, k = corner >> 2, corner >> 1 & 1, corner & 1
            case += inside[i : nx - 1 + i, j : ny - 1 + j, k : nz - 1 + k].to(torch.uint8) << corner
        cells = ((case != 0) & (case != 255)).nonzero()
        edges = self.table[case[tuple(cells.T)].long()]
        cell, triangle = (edges[..., 0] >= 0).nonzero(as_tuple=True)
        chosen = edges[cell, triangle]
        at = cells[cell][:, None, :] + self.starts[chosen]
        return vertices, numbers[self.axes[chosen], at[..., 0], at[..., 1], at[..., 2]]


def on_cpu(work: Callable[[], object], rounds: int) -> Timing:
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - begin))
    return Timing.of(times)


@pytest.mark.parametrize("size", SIZES)
def test_one_volume(gpu: Gpu, core: ModuleType, size: int) -> None:
    volume = head_like(size)
    kernels = Kernels(core, volume[None])
    case = {"size": size, "frames": 1}

    def report(peer: str, timing: Timing, **options: Any) -> None:
        gpu.report("marching cubes", case, peer, timing, **options)

    vertices, _, faces = kernels.outputs
    counts = {"vertices": len(vertices), "faces": len(faces)}
    report(
        "ours", gpu.wall(lambda: ops.marching_cubes(volume)), bytes_moved=kernels.bytes_moved, extra=counts
    )
    report("ours, kernels alone", gpu.time(kernels), bytes_moved=kernels.bytes_moved)
    if not gpu.peers:
        return
    plain = PlainTorch(core)
    found, triangles = plain(volume)
    for theirs, ours in ((found, vertices), (triangles, faces)):
        assert abs(len(theirs) - len(ours)) <= 0.01 * len(ours), "the peer makes another surface"
    report("torch", gpu.wall(lambda: plain(volume), rounds=10))
    if warp := _warp(size):
        report("Warp", gpu.wall(lambda: warp(volume), rounds=10))
    measure = pytest.importorskip("skimage.measure", reason="scikit-image is not installed")
    samples = volume.cpu().numpy()
    report("scikit-image, CPU", on_cpu(lambda: measure.marching_cubes(samples, 0.0), 1 if size > 256 else 3))


@pytest.mark.parametrize("size", [size for size in SIZES if size <= 256])
def test_frames_in_one_set_of_launches(gpu: Gpu, core: ModuleType, size: int) -> None:
    volumes = torch.stack([head_like(size, 0.1 * t) for t in range(BATCH)])
    kernels = Kernels(core, volumes)
    case = {"size": size, "frames": BATCH}
    timing = gpu.wall(lambda: marching_cubes_frames(volumes))
    extra = {"frames_per_s": 1e3 * BATCH / timing.median_ms}
    gpu.report("marching cubes", case, "ours", timing, bytes_moved=kernels.bytes_moved, extra=extra)
    gpu.report(
        "marching cubes", case, "ours, kernels alone", gpu.time(kernels), bytes_moved=kernels.bytes_moved
    )
    if not gpu.peers:
        return
    one_by_one = gpu.wall(lambda: [ops.marching_cubes(volume) for volume in volumes])
    gpu.report("marching cubes", case, "ours, frame by frame", one_by_one)


def _warp(size: int) -> Callable[[Tensor], object] | None:
    try:
        import warp
    except ImportError:
        return None
    grid = warp.MarchingCubes(
        size, size, size, max_verts=12 * size**2, max_tris=24 * size**2, device="cuda:0"
    )

    def run(volume: Tensor) -> object:
        grid.surface(warp.from_torch(volume), 0.0)
        return grid.verts

    return run
