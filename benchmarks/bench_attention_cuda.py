"""Windowed attention on the GPU beside torch: SDPA with a boolean mask, and FlexAttention compiled.

    python -m pytest benchmarks/bench_attention_cuda.py -s

Two batches (a clip with guidance), 8 heads of 64. Every row names its floor: bytes are query, key, value and
result once, operations are those of the pairs that see each other. For the full causal window SDPA's own
causal kernel, which takes no mask, is a third peer. FlexAttention is compiled anew for each of its rows,
which takes longer than all the rest: it appears in float16 from 250 frames on, without window 1.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
import torch
from _gpu import Gpu
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from facetalk import ops
from facetalk.ops import reference

BATCH, HEADS, DEPTH = 2, 8, 64
FRAMES = (48, 250, 1500, 6000)
WINDOWS: dict[str, tuple[int | None, int | None]] = {
    "0": (0, 0),
    "1": (1, 1),
    "8": (8, 8),
    "64": (64, 64),
    "causal": (None, 0),
}
DTYPES = (torch.float16, torch.float32)
FLEX_FRAMES = 250  # the fewest that FlexAttention is asked for
WIDE, WIDTHS = 1500, (1, 3, 5, 9, 15, 16, 17, 25, 33, 47, 48, 49, 65, 97, 129)  # frames; keys of a window
# Against float32 torch: a few roundings of results up to 4.
TOLERANCE = {torch.float16: 1e-2, torch.float32: 2e-5}


def visible(frames: int, window: tuple[int | None, int | None]) -> Tensor:
    distance = torch.arange(frames)[:, None] - torch.arange(frames)
    left, right = (frames if side is None else side for side in window)
    return (distance <= left) & (distance >= -right)


def peers(
    gpu: Gpu, query: Tensor, key: Tensor, value: Tensor, name: str
) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    frames, window = query.shape[2], WINDOWS[name]
    left, right = (frames if side is None else side for side in window)
    sdpa = torch.nn.functional.scaled_dot_product_attention
    yield "ours", lambda: ops.masked_cross_attention(query, key, value, window=window)
    if not gpu.peers:
        return
    mask = visible(frames, window).cuda()
    yield "SDPA with a mask", lambda: sdpa(query, key, value, attn_mask=mask)
    if name == "causal":
        yield "SDPA causal", lambda: sdpa(query, key, value, is_causal=True)

    if query.dtype != torch.float16 or frames < FLEX_FRAMES or name == "1":
        return

    def sees(_batch: Tensor, _head: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return (j >= i - left) & (j <= i + right)

    torch.compiler.reset()  # past a number of windows it would quietly go on uncompiled
    block_mask = create_block_mask(sees, None, None, frames, frames, device="cuda")
    flex = torch.compile(flex_attention, dynamic=False)
    yield "FlexAttention", lambda: flex(query, key, value, block_mask=block_mask)


@pytest.mark.parametrize(
    ("frames", "name", "dtype"),
    list(itertools.product(FRAMES, WINDOWS, DTYPES)),
    ids=lambda value: str(value).removeprefix("torch."),
)
def test_window(frames: int, name: str, dtype: torch.dtype) -> None:
    gpu = Gpu.or_skip()
    random = torch.Generator().manual_seed(0)
    shape = (BATCH, HEADS, frames, DEPTH)
    query, key, value = (torch.randn(shape, generator=random).to("cuda", dtype) for _ in range(3))
    pairs = int(visible(frames, WINDOWS[name]).sum())
    case = {"frames": frames, "window": name, "dtype": str(dtype).removeprefix("torch.")}
    with torch.inference_mode():
        want = reference.masked_cross_attention(
            query.float(), key.float(), value.float(), window=WINDOWS[name]
        )
        ours = None
        for peer, work in peers(gpu, query, key, value, name):
            try:
                got = work()
            except Exception as error:
                if peer == "ours":  # a peer that cannot do the case is a finding, not the end of the table
                    raise
                print(f"attention {case} | {peer}: {type(error).__name__}: {str(error).splitlines()[0]}")
                continue
            if peer == "ours":
                torch.testing.assert_close(got.float(), want, atol=TOLERANCE[dtype], rtol=0)
            timing = gpu.time(work)
            ours = ours or timing
            gpu.report(
                "attention",
                case,
                peer,
                timing,
                bytes_moved=4 * query.nbytes,
                flops=4 * BATCH * HEADS * DEPTH * pairs,
                dtype=dtype,
                extra={"times ours": timing.median_ms / ours.median_ms},
            )


@pytest.mark.parametrize("name", [name for name in WINDOWS if name != "0"])
@pytest.mark.parametrize("frames", [250, 1500])
def test_gradients(frames: int, name: str) -> None:
    """Forward and backward in float16."""
    gpu = Gpu.or_skip()
    random = torch.Generator().manual_seed(0)
    shape = (BATCH, HEADS, frames, DEPTH)
    arrays = [
        torch.randn(shape, generator=random).to("cuda", torch.float16).requires_grad_() for _ in range(3)
    ]
    grad = torch.randn(shape, generator=random).to("cuda", torch.float16)
    case = {"frames": frames, "window": name, "dtype": "float16"}
    ours = None
    for peer, work in peers(gpu, arrays[0], arrays[1], arrays[2], name):
        try:
            timing = gpu.time(lambda work=work: torch.autograd.grad(work(), arrays, grad))
        except Exception as error:
            if peer == "ours":
                raise
            print(f"gradients {case} | {peer}: {type(error).__name__}: {str(error).splitlines()[0]}")
            continue
        ours = ours or timing
        gpu.report(
            "attention and gradients",
            case,
            peer,
            timing,
            extra={"times ours": timing.median_ms / ours.median_ms},
        )


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda value: str(value).removeprefix("torch."))
def test_where_kernels_meet(dtype: torch.dtype) -> None:
    """Time by width at WIDE frames, across the widths at which another kernel takes over."""
    gpu = Gpu.or_skip()
    random = torch.Generator().manual_seed(0)
    shape = (BATCH, HEADS, WIDE, DEPTH)
    arrays = [torch.randn(shape, generator=random).to("cuda", dtype) for _ in range(3)]
    for keys in WIDTHS:
        window = ((keys - 1) // 2, keys // 2)
        case = {"frames": WIDE, "keys": keys, "dtype": str(dtype).removeprefix("torch.")}
        with torch.inference_mode():
            timing = gpu.time(lambda window=window: ops.masked_cross_attention(*arrays, window=window))
        gpu.report("attention by width", case, "ours", timing, bytes_moved=4 * arrays[0].nbytes)
