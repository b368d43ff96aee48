"""The gradient kernels of attention, run on the host."""

import pytest
import torch
from attention_cases import Attention, inputs
from host_kernels import KernelError
from hypothesis import given, settings
from hypothesis import strategies as st

from facetalk.ops import reference

TYPES = [torch.float32, torch.float16, torch.bfloat16]


@pytest.fixture(scope="module")
def attention(emulated):
    return Attention(emulated("attention"))


def gradients(attention, arrays, grad, window, scale=None):
    """By the kernels: forward for the result and lse, then backward."""
    lse = torch.full(grad.shape[:3], torch.nan)
    out = attention.forward(*arrays, window, scale, lse=lse)
    return attention.backward(grad, *arrays, out, lse, window, scale)


def reference_gradients(arrays, grad, window, scale, dtype):
    arrays = [a.to(dtype, copy=True).requires_grad_() for a in arrays]
    out = reference.masked_cross_attention(*arrays, window=window, scale=scale)
    grads = torch.autograd.grad(out, arrays, grad.to(dtype), allow_unused=True)
    return [
        torch.zeros_like(a) if g is None else g.nan_to_num(0.0) for a, g in zip(arrays, grads, strict=True)
    ]


def assert_close(attention, arrays, window, scale=None, seed=0):
    """Errors against float64 at most three times those of plain torch in float32, in 16 bit twice.

    Where softmax has one term torch gives 0 without error, and here it is the difference of two float32 sums
    of products grad * value, times a key or query. What may be left of that is added: a float32 rounding of
    the sum of their sizes, in 16 bit half a unit in the last place of 1.
    """
    grad = torch.randn(
        *arrays[0].shape[:3], arrays[2].shape[3], generator=torch.Generator().manual_seed(seed)
    ).to(arrays[0].dtype)
    got = gradients(attention, arrays, grad, window, scale)
    exact = reference_gradients(arrays, grad, window, scale, torch.float64)
    plain = reference_gradients(arrays, grad, window, scale, arrays[0].dtype)
    half = grad.dtype != torch.float32
    query, key, value = (a.abs() for a in arrays)
    products = (grad.abs() @ value.mT).amax() if value.numel() else 0.0
    steepest = (query.shape[3] ** -0.5 if scale is None else abs(scale)) * max(
        (a.amax() for a in (query, key) if a.numel()), default=0.0
    )
    left = torch.finfo(torch.float32).eps * products * steepest
    for ours, right, usual in zip(got, exact, plain, strict=True):
        if ours.numel() == 0:
            continue
        rounding = torch.finfo(ours.dtype).eps / 2 * right.abs().max().clamp(min=1) if half else left + 2e-6
        limit = (2 if half else 3) * (usual - right).abs().max() + rounding
        assert (ours - right).abs().max() <= limit
    return got


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("dim", [8, 24, 64, 128])
@pytest.mark.parametrize("window", [(2, 1), (0, 9), (9, 30), (None, 0), (None, None)])
def test_gradients_match_the_reference(attention, window, dim, dtype):
    for rows, keys in [(1, 1), (7, 9), (70, 67), (33, 90)]:
        assert_close(attention, inputs(rows, keys, dim, dim, dtype=dtype), window)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_shape_window_and_scale(attention, data):
    dtype = data.draw(st.sampled_from(TYPES))
    rows, keys = data.draw(st.integers(1, 100)), data.draw(st.integers(0, 100))
    depth, width = (8 * data.draw(st.integers(1, 16)) for _ in range(2))
    side = st.none() | st.integers(1, 20) | st.integers(1, 150)
    window = (data.draw(side), data.draw(side | st.just(0)))
    scale = data.draw(st.none() | st.floats(-0.5, 0.5, width=32))
    arrays = inputs(rows, keys, depth, width, heads=1, seed=data.draw(st.integers(0, 99)), dtype=dtype)
    attention.library.seed(data.draw(st.integers(0, 99)))
    assert_close(attention, arrays, window, scale)


@pytest.mark.parametrize("window", [(2, 1), (3, 40)])
def test_what_is_not_seen_has_no_gradient(attention, window):
    query, _, value = assert_close(attention, inputs(200, 30, 16, 16), window)[:3]
    assert torch.equal(query[:, :, 30 + window[0] :], torch.zeros(1, 2, 170 - window[0], 16))
    _, key, value = assert_close(attention, inputs(30, 200, 16, 16), window)
    for grad in (key, value):
        unseen = grad[:, :, 30 + window[1] :]
        assert torch.equal(unseen, torch.zeros_like(unseen))


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_strides_and_order_of_blocks(attention, dtype):
    batch, heads, frames, dim = 2, 3, 70, 16
    random = torch.Generator().manual_seed(0)
    projected = torch.randn(batch, frames, 3 * heads * dim, generator=random).to(dtype)
    arrays = [part.unflatten(-1, (heads, dim)).transpose(1, 2) for part in projected.chunk(3, dim=-1)]
    grad = torch.randn(batch, frames, heads, dim, generator=random).to(dtype).transpose(1, 2)
    want = gradients(attention, [a.contiguous() for a in arrays], grad.contiguous(), (20, 4))
    for seed in range(2):
        attention.library.seed(seed)
        got = gradients(attention, arrays, grad, (20, 4))
        assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


def test_what_it_does_not_do_is_refused(attention):
    arrays = inputs(5, 5, 8, 8)
    lse = torch.zeros(1, 2, 5)
    with pytest.raises(KernelError, match=r"window: expected other than \(0, 0\)"):
        attention.backward(arrays[0], *arrays, arrays[0], lse, (0, 0))
