"""The way from the operator to the kernels: layouts, padding, dtypes, CuPy, and builds without CUDA."""

import sys
import types
import warnings

import numpy as np
import pytest
import torch
from attention_cases import Attention, inputs
from torch._subclasses.fake_tensor import FakeTensorMode

from facetalk import ops
from facetalk.ops import reference
from facetalk.ops.cuda import attention as cuda_attention
from facetalk.ops.torch_ops import attention as of_tensors
from facetalk.ops.torch_ops.banded_attention import banded_attention, banded_attention_backward


class EmulatedCore:
    """Takes what the extension takes, with the checks of its binding, and runs kernels on the host."""

    def __init__(self, attention):
        self.attention = attention
        self.streams = []

    def masked_cross_attention_cuda(self, query, key, value, out, lse, left, right, scale, stream):
        self.streams.append(stream)
        assert query.shape == (*out.shape[:3], key.shape[3])
        assert value.shape[:3] == key.shape[:3] and value.shape[3] == out.shape[3]
        window = tuple(None if side < 0 else side for side in (left, right))
        self.attention.forward(query, key, value, window, scale, lse=lse, out=out)

    def masked_cross_attention_backward_cuda(
        self, query, key, value, out, lse, grads, delta, left, right, scale, stream
    ):
        self.streams.append(stream)
        assert delta.shape == lse.shape == query.shape[:3]
        assert [grad.shape for grad in grads] == [out.shape, query.shape, key.shape, value.shape]
        window = tuple(None if side < 0 else side for side in (left, right))
        made = self.attention.backward(grads[0], query, key, value, out, lse, window, scale)
        for to, grad in zip(grads[1:], made, strict=True):
            to.copy_(grad)


@pytest.fixture
def core(emulated, monkeypatch):
    monkeypatch.setattr(cuda_attention, "current_stream", lambda device: 77)
    return EmulatedCore(Attention(emulated("attention")))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("window", [(0, 0), (2, 1), (60, 3), (None, None)])
def test_any_head_size_and_layout_reaches_the_kernel(core, window, dtype):
    left, right = (-1 if side is None else side for side in window)
    for depth, width in [(1, 1), (5, 3), (8, 8), (17, 40), (64, 64)]:
        query, key, value = inputs(50, 47, depth, width, batch=2, dtype=dtype)
        turned = [a.transpose(1, 2).contiguous().transpose(1, 2) for a in (query, key, value)]
        backwards = [a.transpose(2, 3).contiguous().transpose(2, 3) for a in (query, key, value)]
        shifted = [torch.cat([a[:, :, :1], a], dim=2)[:, :, 1:] for a in (query, key, value)]
        want = reference.masked_cross_attention(query.float(), key.float(), value.float(), window=window)
        results = []
        for arrays in (turned, backwards, shifted, (query, key, value)):
            got = cuda_attention.attention(core, *arrays, left, right, depth**-0.5)
            assert got.dtype == dtype and got.shape == want.shape
            results.append(got)
        limit = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}[
            dtype
        ]  # a few roundings of 3
        torch.testing.assert_close(results[0].float(), want, atol=limit, rtol=0)
        assert all(torch.equal(results[0], other) for other in results[1:])
    assert set(core.streams) == {77}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_gradients_of_any_head_size_come_back_in_its_shape(core, dtype):
    for depth, width in [(1, 1), (5, 3), (8, 8), (17, 40)]:
        arrays = inputs(30, 27, depth, width, batch=2, dtype=dtype)
        grad = torch.randn(2, 2, 30, width).to(dtype).transpose(1, 2).contiguous().transpose(1, 2)
        got = cuda_attention.attention_backward(core, grad, *arrays, 4, -1, 0.5)
        out = banded_attention(*arrays, 4, -1, 0.5)
        want = banded_attention_backward(grad, *arrays, out, 4, -1, 0.5)
        for a, b in zip(got, want, strict=True):
            assert a.is_contiguous() and a.dtype == dtype
            limit = 1e-5 if dtype == torch.float32 else 0.1  # roundings of the result to 8 bits, up to 8
            torch.testing.assert_close(a, b, atol=limit, rtol=0)


def test_heads_of_a_projection_are_read_where_they_lie(core, monkeypatch):
    projected = torch.randn(2, 40, 3 * 4 * 16).chunk(3, dim=-1)
    arrays = [part.unflatten(-1, (4, 16)).transpose(1, 2) for part in projected]
    read = []
    forward = core.attention.forward
    monkeypatch.setattr(
        core.attention,
        "forward",
        lambda *a, **k: read.extend(x.data_ptr() for x in a[:3]) or forward(*a, **k),
    )
    out = cuda_attention.attention(core, *arrays, 5, 5, 0.25)
    assert read == [array.data_ptr() for array in arrays]
    assert out.transpose(1, 2).is_contiguous()  # joined without a copy
    read.clear()
    cuda_attention.attention(core, *(array[..., 1:] for array in arrays), 5, 5, 0.25)
    assert not set(read) & {array[..., 1:].data_ptr() for array in arrays}


@pytest.mark.parametrize("width", [8, 5])
def test_fake_results_lie_as_real_ones(core, width, monkeypatch):
    query, key, value = inputs(9, 7, 8, width, batch=2)
    real = cuda_attention.attention(core, query, key, value, 2, 2, 1.0)
    with FakeTensorMode():
        arrays = [torch.empty(a.shape, device="cuda") for a in (query, key, value)]
        for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
            fake = ops.masked_cross_attention(*(a.to(dtype) for a in arrays), window=(2, 2))
            assert fake.dtype == dtype and fake.device.type == "cuda"
            assert fake.shape == real.shape and fake.stride() == real.stride()
        # Without a GPU torch.autocast("cuda") does nothing, so its switch is set by hand.
        monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: kind == "cuda")
        mixed = ops.masked_cross_attention(arrays[0], arrays[1].bfloat16(), arrays[2], window=(2, 2))
        assert mixed.dtype == torch.get_autocast_dtype("cuda") == torch.float16


def test_which_calls_have_a_kernel(monkeypatch):
    module = types.ModuleType("core")
    monkeypatch.setattr(cuda_attention, "_core", lambda device: module)

    def has(depth, width, dtype=torch.float16, window=(3, 3)):
        query, _, value = inputs(5, 5, depth, width, dtype=dtype)
        return cuda_attention.core_for(query, value, *window) is module

    assert has(8, 128) and has(3, 5) and has(128, 128, torch.float32) and has(64, 64, torch.bfloat16)
    assert not has(129, 8) and not has(8, 136) and not has(8, 8, torch.float64)
    assert has(200, 200, window=(0, 0))


def test_a_build_without_cuda_says_so_once_and_works(monkeypatch):
    def missing(name, where):
        raise TypeError(f"{name}: no kernels on {where}: built without CUDA")

    monkeypatch.setattr(cuda_attention, "cuda_core", missing)
    cuda_attention._core.cache_clear()
    query, _, value = inputs(5, 5, 8, 8)
    with pytest.warns(RuntimeWarning, match="in plain torch on this GPU; query: .*built without CUDA"):
        assert cuda_attention.core_for(query, value, 1, 1) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cuda_attention.core_for(query, value, 1, 1) is None
    cuda_attention._core.cache_clear()


class CupyArray:
    """Stands for a CuPy array: DLPack in and out, memory of its own."""

    __module__ = "cupy.core"

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__()

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def test_cupy_arrays_go_in_and_out_without_a_copy(monkeypatch):
    handed = []
    cupy = types.ModuleType("cupy")
    cupy.from_dlpack = lambda tensor: CupyArray(np.from_dlpack(tensor))
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    arrays = inputs(12, 14, 8, 8)
    want = ops.masked_cross_attention(*arrays, window=(3, 1))
    plain, operator = ops.masked_cross_attention, of_tensors._attention
    monkeypatch.setattr(
        of_tensors, "_attention", lambda *a: handed.extend(x.data_ptr() for x in a[:3]) or operator(*a)
    )
    given = [CupyArray(array.numpy()) for array in arrays]
    got = plain(*given, window=(3, 1))
    assert isinstance(got, CupyArray) and np.array_equal(got.array, want.numpy())
    assert handed == [array.data_ptr() for array in arrays]
    with pytest.raises(TypeError, match="three CuPy arrays, got CupyArray, Tensor, CupyArray"):
        plain(given[0], arrays[1], given[2])
