"""Attention on a real GPU: streams, graphs, compilers, devices, CuPy, and tensors beyond 2^31 elements."""

import pytest
import torch

from facetalk import ops
from facetalk.ops import reference

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
WINDOWS = [(0, 0), (2, 1), (70, 3), (None, 0)]
TYPES = [torch.float32, torch.float16, torch.bfloat16]
FRAMES = 200


def inputs(frames=None, depth=64, dtype=torch.float16, device="cuda", seed=0):
    frames, random = frames or FRAMES, torch.Generator().manual_seed(seed)
    return [torch.randn(2, 4, frames, depth, generator=random).to(device, dtype) for _ in range(3)]


@pytest.mark.parametrize("window", WINDOWS)
def test_work_waits_for_its_stream_alone(window):
    query, key, value = inputs()
    want = ops.masked_cross_attention(query, key, value, window=window)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        late = torch.zeros_like(value)
        torch.cuda._sleep(50_000_000)  # a kernel on another stream would read the zeros
        late.copy_(value)
        got = ops.masked_cross_attention(query, key, late, window=window)
    torch.cuda.current_stream().wait_stream(stream)
    assert torch.equal(got, want)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("window", WINDOWS)
def test_cuda_graph(window, dtype):
    arrays = inputs(dtype=dtype)
    ops.masked_cross_attention(*arrays, window=window)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.inference_mode(), torch.cuda.graph(graph):
        out = ops.masked_cross_attention(*arrays, window=window)
    for seed in range(3):
        for to, fresh in zip(arrays, inputs(dtype=dtype, seed=seed), strict=True):
            to.copy_(fresh)
        graph.replay()
        assert torch.equal(out, ops.masked_cross_attention(*arrays, window=window))


def test_nothing_waits_for_the_device():
    arrays = inputs()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for window in WINDOWS:
            ops.masked_cross_attention(*arrays, window=window)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("window", WINDOWS)
def test_compiled_in_one_graph(window):
    arrays = [array.requires_grad_() for array in inputs(dtype=torch.float32)]

    def block(query, key, value):
        return torch.tanh(ops.masked_cross_attention(query * 2, key, value, window=window))

    want = block(*arrays)
    got = torch.compile(block, fullgraph=True)(*arrays)
    torch.testing.assert_close(got, want)
    grads = torch.autograd.grad(got.sum(), arrays, allow_unused=True, materialize_grads=True)
    exact = torch.autograd.grad(want.sum(), arrays, allow_unused=True, materialize_grads=True)
    for a, b in zip(grads, exact, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("window", WINDOWS)
def test_gradients_match_the_reference_and_do_not_change(window, dtype):
    def gradients(attend, kind):
        arrays = [array.to(kind).requires_grad_() for array in inputs(FRAMES - 50, 40, dtype)]
        weight = (
            torch.randn(2, 4, FRAMES - 50, 40, generator=torch.Generator().manual_seed(1)).cuda().to(kind)
        )
        out = attend(*arrays, window=window)
        return torch.autograd.grad(out, arrays, weight, allow_unused=True, materialize_grads=True)

    first, second = (gradients(ops.masked_cross_attention, dtype) for _ in range(2))
    exact = gradients(reference.masked_cross_attention, torch.float64)
    plain = gradients(reference.masked_cross_attention, dtype)
    for a, b, right, usual in zip(first, second, exact, plain, strict=True):
        assert torch.equal(a, b)
        limit = 3 * (usual - right).abs().max() + 4 * torch.finfo(dtype).eps * right.abs().max().clamp(min=1)
        assert (a - right).abs().max() <= limit


def test_autocast_takes_its_dtype():
    query, key, value = inputs(dtype=torch.float32)
    for dtype in (torch.float16, torch.bfloat16):
        with torch.autocast("cuda", dtype=dtype):
            got = ops.masked_cross_attention(query, key.half(), value, window=(3, 3))
        assert got.dtype == dtype


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_another_device_is_used_and_the_current_one_kept():
    arrays = inputs(device="cuda:1")
    with torch.cuda.device(0):
        got = ops.masked_cross_attention(*arrays, window=(3, 3))
        assert torch.cuda.current_device() == 0 and got.device.index == 1
    want = ops.masked_cross_attention(*(array.to("cuda:0") for array in arrays), window=(3, 3))
    assert torch.equal(got.cpu(), want.cpu())


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_cupy_in_and_out(dtype):
    cupy = pytest.importorskip("cupy")
    arrays = inputs(dtype=getattr(torch, dtype))
    with cupy.cuda.Stream(non_blocking=True):
        got = ops.masked_cross_attention(*(cupy.from_dlpack(array) for array in arrays), window=(3, 3))
        assert isinstance(got, cupy.ndarray) and got.dtype == dtype
        host = cupy.asnumpy(got)
    want = ops.masked_cross_attention(*arrays, window=(3, 3))
    assert torch.equal(torch.from_numpy(host), want.cpu())


@pytest.mark.parametrize("window", [(0, 0), (2, 1), (70, 3)])
def test_more_elements_than_32_bits_count(window):
    frames, depth = (1 << 25) + 3, 64  # 2^31 elements and a few: 4 GiB each
    if torch.cuda.mem_get_info()[0] < 24 << 30:
        pytest.skip("needs 24 GiB of free GPU memory")
    query, key, value = (
        torch.empty(1, 1, frames, depth, dtype=torch.float16, device="cuda").normal_() for _ in range(3)
    )
    got = ops.masked_cross_attention(query, key, value, window=window)
    tail = slice(frames - 500, None)
    want = reference.masked_cross_attention(
        *(x[:, :, tail].float() for x in (query, key, value)), window=window
    )
    torch.testing.assert_close(got[:, :, -400:].float(), want[:, :, -400:], atol=1e-2, rtol=0)


def test_memory_is_torchs_own():
    arrays = inputs(2000)
    ops.masked_cross_attention(*arrays, window=(100, 100))
    torch.cuda.synchronize()
    free = torch.cuda.mem_get_info()[0]
    reserved = torch.cuda.memory_reserved()
    for _ in range(20):
        ops.masked_cross_attention(*arrays, window=(100, 100))
    torch.cuda.synchronize()
    assert torch.cuda.mem_get_info()[0] >= free - (torch.cuda.memory_reserved() - reserved)
