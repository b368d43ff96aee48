"""An hour of speech to an animated .glb, as one command on one thread: its time and its memory.

    pytest benchmarks/bench_hour.py -s --benchmark-json=benchmarks/results/cpu-hour.json

The hour is the demo's recording over and over. Beside the default, which is the few-step student where the
model has one, stands the full model in ten steps, in the same run.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from pytest_benchmark.fixture import BenchmarkFixture

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 3600


@pytest.fixture(scope="session")
def hour(tmp_path_factory: pytest.TempPathFactory) -> Path:
    samples, rate = soundfile.read(ROOT / "examples" / "demo.flac", dtype="int16")
    file = tmp_path_factory.mktemp("hour") / "hour.flac"
    soundfile.write(file, np.resize(samples, SECONDS * rate), rate)
    return file


def command(*words: str) -> tuple[float, float]:
    """Run ``facetalk`` as a process: seconds, and the most memory it had in GB (its own, as wait4 says)."""
    begin = time.perf_counter()
    process = os.posix_spawn(sys.executable, [sys.executable, "-m", "facetalk", *words], os.environ)
    _, status, usage = os.wait4(process, 0)
    assert status == 0
    return time.perf_counter() - begin, usage.ru_maxrss * 1024 / 1e9


@pytest.mark.parametrize(("who", "steps"), [("default", None), ("full model, 10 steps", 10)])
def test_an_hour(
    benchmark: BenchmarkFixture, hour: Path, tmp_path: Path, who: str, steps: int | None
) -> None:
    benchmark.group = "an hour of speech to .glb, 1 thread"
    few = [] if steps is None else ["--steps", str(steps)]
    memory: list[float] = []

    def run() -> None:
        out = tmp_path / f"{len(memory)}.glb"
        memory.append(command("generate", str(hour), "-o", str(out), "--threads", "1", *few)[1])

    benchmark.pedantic(run, rounds=1)
    seconds = benchmark.stats.stats.min
    benchmark.extra_info |= {"peak_gb": max(memory), "of_real_time": seconds / SECONDS}
    print(f"\n{who}: {seconds:.0f} s, {seconds / SECONDS:.1%} of real time, {max(memory):.2f} GB")
