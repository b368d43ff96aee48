"""The attention kernels' logic, run on the host: every kernel, head dimension, dtype and kind of window."""

import math

import pytest
import torch
from attention_cases import LEVELS, Attention, inputs
from host_kernels import KernelError
from hypothesis import given, settings
from hypothesis import strategies as st

from facetalk import ops
from facetalk.ops import reference

TYPES = [torch.float32, torch.float16, torch.bfloat16]
WIDE = {
    torch.float32: "attention_tiles",
    torch.float16: "attention_tensor",
    torch.bfloat16: "attention_tensor",
}


@pytest.fixture(scope="module")
def attention(emulated):
    return Attention(emulated("attention"))


def assert_close(got, query, key, value, window, scale=None):
    """float32: error against float64 at most three times that of plain torch, as on the CPU.

    16 bit: at most twice that of torch in the same dtype (the criterion of FlashAttention's tests) and half a
    unit in the last place of the largest value, which is the rounding of the result itself.
    """
    exact = reference.masked_cross_attention(
        query.double(), key.double(), value.double(), window=window, scale=scale
    )
    plain = reference.masked_cross_attention(query, key, value, window=window, scale=scale)
    assert got.dtype == query.dtype and got.shape == exact.shape
    error, usual = (got - exact).abs(), (plain - exact).abs()
    if got.numel() == 0:
        return
    if got.dtype == torch.float32:
        assert error.max() <= 3 * usual.max() + 1e-6
    else:
        spacing = torch.finfo(got.dtype).eps * exact.abs().max()
        assert error.max() <= 2 * usual.max() + spacing / 2


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("dim", [8, 24, 32, 64, 128])
@pytest.mark.parametrize(
    "window", [(0, 0), (2, 1), (0, 15), (15, 0), (9, 60), (None, 0), (0, None), (None, None), (500, 500)]
)
def test_every_kernel_matches_the_reference(attention, window, dim, dtype):
    for rows, keys in [(1, 1), (7, 9), (70, 67), (65, 150)]:
        query, key, value = inputs(rows, keys, dim, dim, heads=1 if rows > 60 else 2, dtype=dtype)
        got = attention.forward(query, key, value, window)
        assert_close(got, query, key, value, window)
        left, right = (
            edge if side is None else min(side, edge) for side, edge in zip(window, (rows, keys), strict=True)
        )
        if window == (0, 0):
            assert attention.kernel == "attention_copy"
        elif left + right + 1 <= (48 if dtype == torch.float32 else 16):
            assert attention.kernel == "attention_narrow"
        else:
            assert attention.kernel == WIDE[dtype]


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_any_shape_window_and_scale(attention, data):
    dtype = data.draw(st.sampled_from(TYPES))
    rows, keys = data.draw(st.integers(1, 140)), data.draw(st.integers(0, 140))
    depth, width = (8 * data.draw(st.integers(1, 16)) for _ in range(2))
    side = st.none() | st.integers(0, 20) | st.integers(0, 200)
    window = (data.draw(side), data.draw(side))
    scale = data.draw(st.none() | st.floats(-1, 1, width=32))
    query, key, value = inputs(
        rows, keys, depth, width, heads=1, seed=data.draw(st.integers(0, 99)), dtype=dtype
    )
    attention.library.seed(data.draw(st.integers(0, 99)))  # the order of blocks and warps
    got = attention.forward(query, key, value, window, scale)
    assert_close(got, query, key, value, window, scale)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize(
    ("left", "right"), [(0, 0), (1, 0), (0, 1), (3, 2), (60, 0), (0, 60), (70, 66), (129, 3)]
)
def test_each_query_sees_its_window_and_nothing_else(attention, left, right, dtype):
    """Values that name their key, equal scores: the result is the mean of what each query sees."""
    rows, keys = 150, 128
    value = torch.eye(keys, dtype=dtype)[None, None]
    query, key = torch.zeros(1, 1, rows, 8, dtype=dtype), torch.zeros(1, 1, keys, 8, dtype=dtype)
    got = attention.forward(query, key, value, (left, right))[0, 0].float()
    for i in range(rows):
        seen = range(max(0, i - left), min(keys, i + right + 1))
        want = torch.zeros(keys)
        want[list(seen)] = 1 / max(len(seen), 1)
        torch.testing.assert_close(got[i], want.to(dtype).float(), atol=1e-6, rtol=torch.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("scale", [0.0, -0.7, 1e-30])
@pytest.mark.parametrize("window", [(2, 3), (60, 3), (None, 0)])
def test_scales_of_any_sign_and_size(attention, window, scale, dtype):
    query, key, value = inputs(100, 90, 16, 16, heads=1, dtype=dtype)
    got = attention.forward(query, key, value, window, scale)
    assert_close(got, query, key, value, window, scale)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_the_alignment_window_reads_neither_queries_nor_keys(attention, dtype):
    query, key, value = inputs(9, 6, 8, 24, dtype=dtype)
    got = attention.forward(query * torch.nan, key * torch.inf, value, (0, 0))
    assert torch.equal(got[:, :, :6], value) and torch.equal(
        got[:, :, 6:], torch.zeros(1, 2, 3, 24, dtype=dtype)
    )
    for width in (8, 200):  # any width
        query, key, value = inputs(9, 20, 8, width, dtype=dtype)
        assert torch.equal(attention.forward(query, key, value, (0, 0)), value[:, :, :9])


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("window", [(2, 1), (3, 60), (None, 60)])
def test_queries_that_see_nothing_give_zero(attention, window, dtype):
    query, key, value = inputs(200, 30, 16, 16, dtype=dtype)
    lse = torch.zeros(1, 2, 200)
    got = attention.forward(query, key, value, window, lse=lse)
    assert_close(got, query, key, value, window)
    blind = torch.zeros(200, dtype=torch.bool)
    if window[0] is not None:
        blind[30 + window[0] :] = True
    assert torch.equal(got[:, :, blind], torch.zeros_like(got[:, :, blind]))
    assert torch.equal(lse == -torch.inf, blind.expand(1, 2, -1))
    nothing = attention.forward(query, key[:, :, :0], value[:, :, :0], window)
    assert torch.equal(nothing, torch.zeros_like(got))


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("window", [(2, 1), (60, 3), (None, None)])
def test_log_sum_exp(attention, window, dtype):
    query, key, value = inputs(90, 100, 40, 8, dtype=dtype)
    lse = torch.full((1, 2, 90), torch.nan)
    attention.forward(query, key, value, window, 0.3, lse=lse)
    scores = query.double() @ key.double().transpose(-1, -2) * 0.3
    i, j = torch.arange(90)[:, None], torch.arange(100)[None]
    left, right = (math.inf if side is None else side for side in window)
    want = scores.masked_fill((j < i - left) | (j > i + right), -torch.inf).logsumexp(-1)
    torch.testing.assert_close(lse.double(), want, atol=2e-5, rtol=1e-6)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("window", [(0, 0), (2, 2), (60, 3), (None, None)])
def test_strides(attention, window, dtype):
    """Heads taken out of one projection, (B, T, 3 H D); the result in the layout that heads are joined in."""
    batch, heads, frames, dim = 2, 3, 70, 16
    random = torch.Generator().manual_seed(0)
    projected = torch.randn(batch, frames, 3 * heads * dim, generator=random).to(dtype)
    parts = [part.unflatten(-1, (heads, dim)).transpose(1, 2) for part in projected.chunk(3, dim=-1)]
    out = torch.full((batch, frames, heads, dim), torch.nan, dtype=dtype).transpose(1, 2)
    attention.forward(*parts, window, out=out)
    assert torch.equal(out, attention.forward(*(part.contiguous() for part in parts), window))
    shared = [parts[0], *(part[:, :1].expand(-1, heads, -1, -1) for part in parts[1:])]
    got = attention.forward(*shared, window)  # stride 0: one head of keys for all
    assert torch.equal(got, attention.forward(*(part.contiguous() for part in shared), window))


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("window", [(2, 2), (30, 30), (None, None)])
def test_scores_of_any_size_and_nan(attention, window, dtype):
    query, key, value = inputs(80, 80, 8, 8, dtype=dtype)
    got = attention.forward(200 * query, key, value, window)
    assert torch.isfinite(got).all()
    assert_close(got, 200 * query, key, value, window)
    query[0, 0, 3] = torch.nan
    spoilt = attention.forward(query, key, value, window).isnan()
    assert spoilt[0, 0, 3].all() and spoilt.sum() == 8


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("window", [(0, 0), (4, 4), (60, 0), (None, None)])
def test_order_of_blocks_does_not_change_a_bit(attention, window, dtype):
    query, key, value = inputs(200, 190, 40, 24, dtype=dtype)
    results = []
    for seed in range(3):
        attention.library.seed(seed)
        results.append(attention.forward(query, key, value, window))
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


@pytest.mark.parametrize("window", [(0, 0), (3, 3), (40, 30), (None, 0), (None, None)])
def test_same_as_the_cpu_backend(attention, window):
    query, key, value = inputs(130, 120, 64, 64)
    want = ops.masked_cross_attention(query, key, value, window=window)
    torch.testing.assert_close(
        attention.forward(query, key, value, window), want, atol=LEVELS[torch.float32], rtol=0
    )


def test_nothing_to_do(attention):
    for sizes in [(0, 5, 8, 8), (5, 5, 8, 0)]:
        assert attention.forward(*inputs(*sizes), (3, 3)).numel() == 0


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ((5, 5, 4, 8), "query: expected a depth that is a multiple of 8 up to 128, got 4"),
        ((5, 5, 136, 8), "query: expected a depth that is a multiple of 8 up to 128, got 136"),
        ((5, 5, 8, 12), "value: expected a width that is a multiple of 8 up to 128, got 12"),
    ],
)
def test_sizes_without_a_kernel_are_refused(attention, sizes, says):
    with pytest.raises(KernelError, match=says):
        attention.forward(*inputs(*sizes), (3, 3))


def test_unaligned_rows_are_refused(attention):
    _, key, value = inputs(5, 6, 8, 8)
    shifted = torch.zeros(1, 2, 5, 9)[..., 1:]
    with pytest.raises(KernelError, match="rows aligned to 16 bytes"):
        attention.forward(shifted, key, value, (3, 3))
