"""Marching cubes beside scikit-image and PyMCubes on the same volume in the same run.

    python -m pytest benchmarks/bench_marching_cubes.py -s

The last test prints medians, ratios to each peer, and the floor: the time of a plain copy of the volume
here, as every sample has to be read once. Peers are single-threaded; so is the line "ours, 1 thread".
"""

import statistics
import time
from collections.abc import Callable

import mcubes
import numpy as np
import pytest
from skimage import measure

from facetalk import ops

SIZES = [64, 128, 256]


def head_like(size: int) -> np.ndarray:
    """A sphere with ripples: about as much surface as a head, smooth, signed distance outside the ripples."""
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    x, y, z = axis[:, None, None], axis[None, :, None], axis[None, None, :]
    return (np.sqrt(x**2 + y**2 + z**2) - 0.7 + 0.05 * np.sin(20 * x) * np.cos(17 * z)).astype(np.float32)


def single(volume: np.ndarray) -> object:
    before = ops.threads()
    ops.set_threads(1)
    try:
        return ops.marching_cubes(volume)
    finally:
        ops.set_threads(before)


PEERS: dict[str, Callable[[np.ndarray], object]] = {
    "ours": ops.marching_cubes,
    "ours, 1 thread": single,
    "ours, with normals": lambda volume: ops.marching_cubes(volume, normals=True),
    "scikit-image": lambda volume: measure.marching_cubes(volume, 0.0),
    "PyMCubes": lambda volume: mcubes.marching_cubes(volume, 0.0),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PEERS)
def test_speed(benchmark, name, size):
    benchmark.group = f"marching cubes {size}^3"
    benchmark.pedantic(PEERS[name], args=(head_like(size),), rounds=5, warmup_rounds=1)


def median_ms(work: Callable[[], object], rounds: int = 5) -> float:
    work()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


@pytest.mark.parametrize("size", SIZES)
def test_ratios(size, capsys):
    volume = head_like(size)
    target = np.empty_like(volume)
    floor = median_ms(lambda: np.copyto(target, volume))
    times = {name: median_ms(lambda peer=peer: peer(volume)) for name, peer in PEERS.items()}
    vertices, faces = ops.marching_cubes(volume)
    with capsys.disabled():
        print(f"\n{size}^3: {len(vertices)} vertices, {len(faces)} faces, {ops.threads()} threads")
        print(f"  copying {volume.nbytes / 2**20:.0f} MiB: {floor:.2f} ms")
        for name, ms in times.items():
            gbps = volume.nbytes / ms / 1e6
            print(f"  {name:20} {ms:9.2f} ms  {ms / times['ours']:6.1f} x ours  {gbps:6.2f} GB/s of samples")
