"""The thread pool where the system gives no more threads, or no more memory for their stacks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

WORK = """
import os, resource, sys, threading
import numpy as np
import torch
torch.set_num_threads(1)
from facetalk import ops

rng = np.random.default_rng(0)
points = rng.standard_normal((8, 8000, 3)).astype(np.float32)
faces = rng.integers(0, 8000, (5000, 3)).astype(np.int32)
volume = rng.standard_normal((40, 40, 40)).astype(np.float32)
ops.set_threads(1)
expected = ops.vertex_normals(points, faces), *ops.marching_cubes(volume)
{limit}
right = refused = 0
for count in range(2, 60):
    ops.set_threads(2 + 17 * count)
    try:
        found = ops.vertex_normals(points, faces), *ops.marching_cubes(volume)
        right += all(np.array_equal(a, b) for a, b in zip(found, expected))
    except MemoryError:
        refused += 1
print(right, refused, len(os.listdir("/proc/self/task")))
"""


def run(limit: str, **environment: str) -> list[int]:
    """(right results, refused for lack of memory, threads) of 58 rounds."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **environment}
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", WORK.format(limit=limit)],
        capture_output=True, text=True, env=env, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return [int(n) for n in done.stdout.split()]


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Path of a library that makes pthread_create fail."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    out = tmp_path_factory.mktemp("shim") / "fail_threads.so"
    source = Path(__file__).with_name("fail_threads.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", out, source, "-ldl"], check=True)
    return str(out)


@pytest.mark.parametrize("started", [0, 3])
def test_threads_that_cannot_be_started(shim: str, started: int) -> None:
    limit = f"os.environ['FAIL_THREADS_AFTER'] = str({started})"
    right, refused, threads = run(limit, LD_PRELOAD=shim)
    assert right == 58 and refused == 0
    assert started < threads < 60


def test_no_address_space_for_stacks() -> None:
    limit = """
pages = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (pages + (200 << 20),) * 2)"""
    right, refused, _ = run(limit)
    assert right + refused == 58


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user without threads to spare")
def test_no_threads_left_for_the_user() -> None:
    limit = """
os.setgid(65533); os.setuid(65533)
resource.setrlimit(resource.RLIMIT_NPROC, (6, 6))"""
    right, refused, threads = run(limit)
    assert right == 58 and refused == 0 and threads < 60
