"""Windowed attention beside torch's scaled_dot_product_attention with the same mask, in the same run.

    python -m pytest benchmarks/bench_attention.py -s

The last test prints medians and ratios, and the floor: copying the bytes of the arguments.
"""

import statistics
import time
from collections.abc import Callable

import pytest
import torch

from facetalk import ops

WINDOWS = {
    "alignment": (0, 0),
    "narrow": (2, 2),
    "band": (50, 50),
    "causal": (None, 0),
    "full": (None, None),
}
SHAPE = (2, 8, 1000, 64)  # batch, heads, frames (40 s at 25 fps), depth


def inputs() -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return [torch.randn(SHAPE, generator=random) for _ in range(3)]


def mask(window: tuple[int | None, int | None]) -> torch.Tensor:
    """Additive mask: torch's CPU kernel takes it as it is, a boolean one it would convert on every call."""
    left, right = window
    i = torch.arange(SHAPE[2])[:, None]
    j = torch.arange(SHAPE[2])[None]
    seen = torch.ones(SHAPE[2], SHAPE[2], dtype=torch.bool)
    if left is not None:
        seen &= j >= i - left
    if right is not None:
        seen &= j <= i + right
    return torch.zeros(seen.shape).masked_fill(~seen, -torch.inf)


def peers(window: tuple[int | None, int | None]) -> dict[str, Callable[[], object]]:
    query, key, value = inputs()
    attention = torch.nn.functional.scaled_dot_product_attention
    bias = None if window == (None, None) else mask(window)
    return {
        "ours": lambda: ops.masked_cross_attention(query, key, value, window=window),
        "torch SDPA": lambda: attention(query, key, value, attn_mask=bias),
    }


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("name", ["ours", "torch SDPA"])
def test_speed(benchmark, name, window):
    benchmark.group = f"attention {window}"
    with torch.inference_mode():
        benchmark.pedantic(peers(WINDOWS[window])[name], rounds=5, warmup_rounds=1)


def median_ms(work: Callable[[], object], rounds: int = 5) -> float:
    work()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def test_ratios(capsys):
    arguments = inputs()
    copies = [torch.empty_like(array) for array in arguments]
    floor = median_ms(lambda: [to.copy_(array) for to, array in zip(copies, arguments, strict=True)])
    lines = [
        f"\nbatch, heads, frames, depth {SHAPE}; {ops.threads()} threads, torch {torch.get_num_threads()}"
    ]
    lines.append(f"  copying the arguments: {floor:.2f} ms")
    with torch.inference_mode():
        for label, window in WINDOWS.items():
            times = {name: median_ms(work) for name, work in peers(window).items()}
            ratio = times["torch SDPA"] / times["ours"]
            lines.append(
                f"  {label:10} {window!s:13} ours {times['ours']:8.2f} ms   "
                f"torch SDPA {times['torch SDPA']:8.2f} ms   {ratio:6.2f} x"
            )
    with capsys.disabled():
        print("\n".join(lines))
