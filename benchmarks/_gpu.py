"""Time on a GPU: cold caches, warm clocks, median and spread, and the floors that a figure stands beside.

    gpu = Gpu.or_skip()                                  # skips with the reason where there is none
    time = gpu.time(lambda: torch.matmul(a, b))          # L2 flushed before each round
    gpu.report("attention", {"rows": 1500}, "ours", time, bytes_moved=..., flops=...)

Work is queued without waiting between rounds: the flush in front of each and a pause of about a millisecond
keep the GPU busy while the host prepares the work, so that the time between the two events is the GPU's own
unless the work itself waits for a result or takes the host longer than that.
`report` prints one line and, when FACETALK_BENCH_JSON names a file, appends it there as a line of JSON.
Rounds end early, after three at least, where they would take longer than MOST_S.
FACETALK_BENCH_ROUNDS caps the rounds, and leaves one warm-up: for a profiler, which wants each kernel once.
FACETALK_BENCH_PEERS=0 leaves out everybody but us, whose kernels a profiler is not asked about.
"""

import functools
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

COPY_FLOATS = 1 << 28
MATMUL_SIZE = 8192
MOST_S = 1.0
_PAUSE_CYCLES = 2_000_000


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one call over several rounds."""

    median_ms: float
    low_ms: float  # a tenth of the rounds is faster
    high_ms: float  # a tenth is slower
    rounds: int

    @staticmethod
    def of(times_ms: list[float]) -> "Timing":
        """Summarise the rounds."""
        ordered = sorted(times_ms)
        tenth = (len(ordered) - 1) / 10
        return Timing(
            statistics.median(ordered), ordered[int(tenth)], ordered[round(9 * tenth)], len(ordered)
        )


class Gpu:
    """The current CUDA device of torch, with its measured copy bandwidth and matrix rates."""

    def __init__(self) -> None:
        self.properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        # Twice the cache, at least 64 MiB: writing it leaves nothing of the operands behind.
        cache = max(2 * getattr(self.properties, "L2_cache_size", 0), 64 << 20)
        self._flush = torch.empty(cache, dtype=torch.int8, device="cuda")
        self.peers = os.environ.get("FACETALK_BENCH_PEERS") != "0"

    @staticmethod
    def or_skip() -> "Gpu":
        """Return the device, or skip the benchmark and say why."""
        if not torch.cuda.is_available():
            built = torch.version.cuda
            pytest.skip("torch sees no GPU" if built else "this torch is built without CUDA")
        return _the_gpu()

    def time(
        self, work: Callable[[], object], *, rounds: int = 30, warmup: int = 5, cold: bool = True
    ) -> Timing:
        """Time `work` by events of the current stream.

        Args:
            work: enqueues the operation; what it returns is dropped.
            rounds: timed calls.
            warmup: calls before them, which also let compilers and autotuners finish.
            cold: flush the L2 cache before each call; False for work that follows its producer at once.
        """
        rounds, warmup = _capped(rounds, warmup)
        rounds = min(rounds, max(3, int(MOST_S / _warm(work, warmup))))
        events = [
            (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))
            for _ in range(rounds)
        ]
        torch.cuda.synchronize()
        for start, end in events:
            if cold:
                self._flush.zero_()
            torch.cuda._sleep(_PAUSE_CYCLES)
            start.record()
            work()
            end.record()
        torch.cuda.synchronize()
        return Timing.of([start.elapsed_time(end) for start, end in events])

    def wall(self, work: Callable[[], object], *, rounds: int = 20, warmup: int = 3) -> Timing:
        """Time `work` by the clock on the wall, until the device is idle: what a caller waits."""
        rounds, warmup = _capped(rounds, warmup)
        _warm(work, warmup)
        times: list[float] = []
        for _ in range(rounds):
            self._flush.zero_()
            torch.cuda.synchronize()
            begin = time.perf_counter()
            work()
            torch.cuda.synchronize()
            times.append(1e3 * (time.perf_counter() - begin))
            if len(times) >= 3 and sum(times) > 1e3 * MOST_S:
                break
        return Timing.of(times)

    @functools.cached_property
    def copy_bytes_per_s(self) -> float:
        """Bytes read and written per second by torch's copy of COPY_FLOATS numbers."""
        source = torch.empty(COPY_FLOATS, dtype=torch.float32, device="cuda").normal_()
        target = torch.empty_like(source)
        return 2 * source.nbytes / (1e-3 * self.time(lambda: target.copy_(source), rounds=15).median_ms)

    @functools.cache  # noqa: B019 - one Gpu lives as long as the process
    def matmul_flops_per_s(self, dtype: torch.dtype) -> float:
        """Operations per second of torch's product of two square matrices; float32 without TF32."""
        size = MATMUL_SIZE
        a, b = (torch.randn(size, size, device="cuda", dtype=dtype) for _ in range(2))
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = False
        try:
            timing = self.time(lambda: a @ b, rounds=10, cold=False)
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before
        return 2 * size**3 / (1e-3 * timing.median_ms)

    def report(
        self,
        operation: str,
        case: Mapping[str, Any],
        peer: str,
        timing: Timing,
        *,
        bytes_moved: float | None = None,
        flops: float | None = None,
        dtype: torch.dtype = torch.float16,
        extra: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Print one figure and keep it.

        Args:
            operation: what is measured.
            case: sizes and options that name the row.
            peer: who did it; "ours" for this package.
            timing: of `time` or `wall`.
            bytes_moved: the least traffic to memory the operation needs: gives bytes/s as a part of a copy's.
            flops: the operations it needs: gives FLOP/s as a part of the matrix rate in `dtype`.
            dtype: of the matrix rate.
            extra: further figures of the row.
        """
        row: dict[str, Any] = {"operation": operation, "case": dict(case), "peer": peer, **asdict(timing)}
        seconds = 1e-3 * timing.median_ms
        text = (
            f"{operation} {' '.join(f'{k}={v}' for k, v in case.items())} | {peer}: {timing.median_ms:.4f} ms"
        )
        text += f" ({timing.low_ms:.4f} to {timing.high_ms:.4f})"
        if bytes_moved is not None:
            rate = bytes_moved / seconds
            row |= {"bytes_per_s": rate, "of_copy": rate / self.copy_bytes_per_s}
            text += f", {rate / 1e9:.0f} GB/s, {row['of_copy']:.0%} of a copy"
        if flops is not None:
            rate = flops / seconds
            peak = self.matmul_flops_per_s(dtype)
            row |= {"flops_per_s": rate, "of_matmul": rate / peak, "matmul_dtype": str(dtype)}
            text += f", {rate / 1e12:.2f} TFLOP/s, {row['of_matmul']:.0%} of matmul"
        row |= dict(extra or {})
        for key, value in (extra or {}).items():
            text += f", {key} {value:.4g}" if isinstance(value, float) else f", {key} {value}"
        print(text, flush=True)
        if target := os.environ.get("FACETALK_BENCH_JSON"):
            with Path(target).open("a") as file:
                file.write(json.dumps(row) + "\n")
        return row


def _capped(rounds: int, warmup: int) -> tuple[int, int]:
    most = os.environ.get("FACETALK_BENCH_ROUNDS")
    return (min(rounds, int(most)), min(warmup, 1)) if most else (rounds, warmup)


def _warm(work: Callable[[], object], calls: int) -> float:
    """Call it so often, twice at least where that takes long; the seconds of the last call."""
    began, last = time.perf_counter(), 1e-6
    for call in range(calls):
        begin = time.perf_counter()
        work()
        torch.cuda.synchronize()
        last = time.perf_counter() - begin
        if call > 0 and time.perf_counter() - began > MOST_S:
            break
    return last


@functools.cache
def _the_gpu() -> Gpu:
    return Gpu()
