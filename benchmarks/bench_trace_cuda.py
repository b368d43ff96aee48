"""Which kernels a batch of surfaces takes its time in, by torch's profiler.

    python -m pytest benchmarks/bench_trace_cuda.py -s

ncu says why a kernel is slow, this which one to ask about. A row for each of the kernels that take most,
summed over the call; "all kernels" is the device's time of the call, and what the wall says beyond it is the
host's.
"""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from _gpu import Gpu, Timing
from bench_extract import built_in, official
from bench_field_cuda import DEVICE, WAYS
from torch.profiler import ProfilerActivity, profile

from facetalk.nphm.field import Field

RESOLUTION, MOST = 256, 12


def kernels(traced: Any) -> list[tuple[str, float, int]]:
    """Names, milliseconds and calls of what ran on the device, the longest first."""
    found = [
        (str(event.key), event.self_device_time_total / 1e3, int(event.count))
        for event in traced.key_averages()
        if event.device_type.name == "CUDA"
    ]
    return sorted(found, key=lambda row: -row[1])


def trace(gpu: Gpu, name: str, field: Field, codes: torch.Tensor, way: str, frames: int) -> None:
    """Report a call's kernels."""
    codes = codes.repeat(-(-frames // len(codes)), 1)[:frames].to(field.device)

    def work() -> None:
        list(field.surfaces(codes, RESOLUTION, options=WAYS[way]))
        torch.cuda.synchronize()

    work()
    start = time.perf_counter()
    work()
    wall = 1e3 * (time.perf_counter() - start)
    with profile(activities=[ProfilerActivity.CUDA]) as traced:
        work()
    rows = kernels(traced)
    case = {"head": name, "way": way, "frames": frames, "resolution": RESOLUTION}

    def report(kernel: str, milliseconds: float, **extra: float) -> None:
        once = Timing(milliseconds, milliseconds, milliseconds, 1)
        gpu.report("kernels of surfaces", case | {"kernel": kernel}, "ours", once, extra=extra)

    device = sum(row[1] for row in rows)
    report("all kernels", device, wall_ms=wall, calls=sum(row[2] for row in rows))
    for kernel, milliseconds, calls in rows[:MOST]:
        report(
            kernel.split("(")[0].removeprefix("void ")[:120],
            milliseconds,
            of_device=milliseconds / device,
            calls=calls,
        )


@pytest.mark.parametrize("frames", [32, 1])
@pytest.mark.parametrize("way", ["bands", "cache"])
@pytest.mark.parametrize("name", ["official", "built-in"])
def test_surfaces(name: str, way: str, frames: int) -> None:
    gpu = Gpu.or_skip()
    head, codes = {"built-in": built_in, "official": official}[name]()
    field = head.model.bind(head.identity, device=DEVICE, precision="fp16")
    trace(gpu, name, field, codes, way, frames)
