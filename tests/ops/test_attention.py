import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facetalk import ops
from facetalk.ops import reference
from facetalk.ops.torch_ops.banded_attention import banded_attention

WINDOWS = [
    (0, 0),
    (1, 0),
    (0, 1),
    (2, 3),
    (7, 8),
    (8, 8),
    (40, 3),
    (3, 40),
    (None, 0),
    (0, None),
    (None, None),
    (500, 500),
]
LEVELS = ["baseline", "avx2", "avx512"]
CUDA = pytest.param(
    "cuda",
    marks=[
        pytest.mark.cuda,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    ],
)


@pytest.fixture(params=["cpu", CUDA])
def device(request):
    return request.param


def inputs(rows, keys, depth, width, device="cpu", *, batch=2, heads=2, seed=0, dtype=torch.float32):
    random = torch.Generator().manual_seed(seed)
    sizes = ((rows, depth), (keys, depth), (keys, width))
    return tuple(torch.randn(batch, heads, *size, generator=random, dtype=dtype).to(device) for size in sizes)


def assert_close_to_reference(got, query, key, value, window, scale=None):
    """Error against float64 at most three times that of plain torch in the same dtype, in 16 bit twice.

    The second is the criterion of FlashAttention's tests; the small additions are what rounding of the
    result, and in 32 bit of the largest score, can do where torch happens to make no error.
    """
    exact = reference.masked_cross_attention(
        query.double(), key.double(), value.double(), window=window, scale=scale
    )
    plain = reference.masked_cross_attention(query, key, value, window=window, scale=scale)
    assert got.shape == exact.shape and got.dtype == query.dtype
    usual = (plain - exact).abs().max()
    half = got.dtype in (torch.float16, torch.bfloat16)
    unit = torch.finfo(got.dtype).eps / 2
    score = (query @ key.mT).abs().max() * abs(query.shape[-1] ** -0.5 if scale is None else scale)
    rounding = unit * exact.abs().max() if half else 1e-6 + unit * score * value.abs().max()
    assert (got - exact).abs().max() <= (2 if half else 3) * usual + rounding


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("window", WINDOWS)
def test_matches_the_reference(window, level, simd):
    simd(level)
    for rows, keys, depth, width in [
        (1, 1, 1, 1),
        (7, 9, 5, 3),
        (33, 65, 64, 64),
        (100, 31, 40, 17),
        (31, 100, 16, 48),
    ]:
        query, key, value = inputs(rows, keys, depth, width)
        got = ops.masked_cross_attention(query, key, value, window=window)
        assert_close_to_reference(got, query, key, value, window)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("device", [CUDA])
def test_matches_the_reference_on_the_gpu(device, window, dtype):
    for rows, keys, depth, width in [
        (1, 1, 1, 1),
        (7, 9, 5, 3),
        (33, 65, 64, 64),
        (100, 31, 40, 17),
        (31, 100, 16, 48),
        (600, 590, 128, 128),
        (90, 80, 136, 8),
    ]:
        query, key, value = (array.to(dtype) for array in inputs(rows, keys, depth, width, device))
        got = ops.masked_cross_attention(query, key, value, window=window)
        assert_close_to_reference(got, query, key, value, window)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_shape_and_window(device, data):
    rows, keys, depth, width = (data.draw(st.integers(1, top)) for top in (70, 70, 20, 20))
    side = st.none() | st.integers(0, 80)
    window = (data.draw(side), data.draw(side))
    scale = data.draw(st.none() | st.floats(-4, 4, width=32))
    query, key, value = inputs(rows, keys, depth, width, device, seed=data.draw(st.integers(0, 1000)))
    got = ops.masked_cross_attention(query, key, value, window=window, scale=scale)
    assert_close_to_reference(got, query, key, value, window, scale)


def test_scores_far_from_0_are_rounded_too(device):
    """What chance once found: torch's own error was a fourth of the usual one."""
    query, key, value = inputs(9, 29, 19, 5, device, seed=721)
    got = ops.masked_cross_attention(query, key, value, window=(None, 0), scale=-2.0)
    assert_close_to_reference(got, query, key, value, (None, 0), -2.0)


def test_each_query_sees_its_window_and_nothing_else(device):
    """Values that name their key, equal scores: the result is the mean of what each query sees."""
    rows, keys = 60, 50
    value = torch.eye(keys, device=device)[None, None]
    zeros = torch.zeros(1, 1, rows, 4, device=device), torch.zeros(1, 1, keys, 4, device=device)
    for left, right in [(0, 0), (1, 0), (0, 1), (3, 2), (20, 0), (0, 20), (17, 30)]:
        got = ops.masked_cross_attention(*zeros, value, window=(left, right))[0, 0].cpu()
        for i in range(rows):
            seen = [j for j in range(keys) if i - left <= j <= i + right]
            want = torch.zeros(keys)
            want[seen] = 1 / max(len(seen), 1)
            torch.testing.assert_close(got[i], want, atol=1e-6, rtol=0)


def test_alignment_window_copies_values_and_ignores_the_rest(device):
    query, key, value = inputs(9, 6, 4, 5, device)
    got = ops.masked_cross_attention(query * torch.nan, key * torch.inf, value)
    assert torch.equal(got[:, :, :6], value)
    assert torch.equal(got[:, :, 6:], torch.zeros(2, 2, 3, 5, device=device))
    got[0, 0, 0, 0] = 7.0  # not a view of the value
    assert value[0, 0, 0, 0] != 7.0
    shorter = ops.masked_cross_attention(query[:, :, :4], key, value)
    assert torch.equal(shorter, value[:, :, :4])


@pytest.mark.parametrize("window", [(2, 2), (20, 20), (None, None)])
def test_scores_of_any_size(device, window):
    query, key, value = inputs(40, 40, 8, 8, device)
    got = ops.masked_cross_attention(200 * query, key, value, window=window)
    assert torch.isfinite(got).all()
    want = reference.masked_cross_attention(200 * query.double(), key.double(), value.double(), window=window)
    torch.testing.assert_close(got.double(), want, atol=2e-3, rtol=0)  # float32 scores of about 1000
    query[0, 0, 3] = torch.nan
    spoilt = ops.masked_cross_attention(query, key, value, window=window).isnan()
    assert spoilt[0, 0, 3].all() and spoilt.sum() == 8


def test_threads_do_not_change_the_result(thread_count):
    query, key, value = inputs(200, 190, 33, 21)
    for window in [(3, 3), (50, 0), (None, None)]:
        results = []
        for threads in (1, 2, 5):
            thread_count(threads)
            results.append(ops.masked_cross_attention(query, key, value, window=window))
        assert all(torch.equal(results[0], other) for other in results[1:])


def test_numpy_arrays_give_numpy_arrays():
    query, key, value = inputs(12, 14, 6, 6)
    want = ops.masked_cross_attention(query, key, value, window=(3, 1))
    got = ops.masked_cross_attention(query.numpy(), key.numpy(), value.numpy(), window=(3, 1))
    assert isinstance(got, np.ndarray) and np.array_equal(got, want.numpy())


def test_kinds_of_tensors(device):
    query, key, value = inputs(12, 14, 6, 6, device)
    want = ops.masked_cross_attention(query, key, value, window=(3, 1))
    assert want.device == query.device
    strided = [array.transpose(1, 2).contiguous().transpose(1, 2) for array in (query, key, value)]
    assert torch.equal(ops.masked_cross_attention(*strided, window=(3, 1)), want)
    doubles = [array.double() for array in (query, key, value)]
    exact = ops.masked_cross_attention(*doubles, window=(3, 1))
    assert exact.dtype == torch.float64
    torch.testing.assert_close(exact.float(), want)
    assert ops.masked_cross_attention(query[:, :, :0], key, value, window=(1, 1)).shape == (2, 2, 0, 6)
    assert ops.masked_cross_attention(query, key[:, :, :0], value[:, :, :0], window=(20, 20)).abs().sum() == 0
    meta = ops.masked_cross_attention(*(array.to("meta") for array in (query, key, value)), window=(3, 1))
    assert meta.shape == want.shape and meta.device.type == "meta"


# --- Gradients and torch's machinery


@pytest.mark.parametrize("window", [(0, 0), (2, 1), (None, 0), (None, None)])
def test_gradients(device, window):
    arrays = [a.requires_grad_() for a in inputs(7, 5, 3, 4, device, batch=1, dtype=torch.float64)]
    assert torch.autograd.gradcheck(lambda *a: ops.masked_cross_attention(*a, window=window), arrays)


@pytest.mark.parametrize("window", [(0, 0), (5, 5), (200, None)])
def test_training_in_float32_has_the_gradients_of_the_reference(device, window):
    ours = [a.requires_grad_() for a in inputs(150, 140, 8, 6, device)]
    theirs = [a.detach().double().requires_grad_() for a in ours]
    weight = torch.randn(2, 2, 150, 6, generator=torch.Generator().manual_seed(1)).to(device)
    (ops.masked_cross_attention(*ours, window=window) * weight).sum().backward()
    (reference.masked_cross_attention(*theirs, window=window) * weight).sum().backward()
    for a, b in zip(ours, theirs, strict=True):
        want = torch.zeros_like(b) if b.grad is None else b.grad
        torch.testing.assert_close(a.grad.double(), want.nan_to_num(0.0), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("window", [(0, 0), (2, 1), (-1, -1)])
def test_operator_is_registered_properly(device, window):
    arrays = [a.requires_grad_() for a in inputs(9, 8, 4, 5, device, batch=1)]
    torch.library.opcheck(torch.ops.facetalk.masked_cross_attention.default, (*arrays, *window, 0.5))


def test_autocast(device):
    query, key, value = inputs(9, 9, 4, 4, device)
    with torch.autocast(device, dtype=torch.bfloat16):
        got = ops.masked_cross_attention(
            query, key.bfloat16() if device == "cuda" else key, value, window=(2, 0)
        )
    assert got.dtype == (torch.float32 if device == "cpu" else torch.bfloat16)


def test_export_and_compile(device):
    query, key, value = inputs(9, 9, 4, 4, device)

    class Block(torch.nn.Module):
        def forward(self, q, k, v):
            return ops.masked_cross_attention(q * 2, k, v, window=(2, 0)) + 1

    want = Block()(query, key, value)
    program = torch.export.export(Block(), (query, key, value))
    torch.testing.assert_close(program.module()(query, key, value), want)
    compiled = torch.compile(Block(), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(query, key, value), want)
    compiled(query.requires_grad_(), key, value).sum().backward()
    assert query.grad is not None and query.grad.abs().sum() > 0


def test_one_compiled_function_takes_any_window(device):
    """From the second on the compiler traces the window's numbers as symbols."""
    query, key, value = inputs(9, 9, 4, 4, device)
    compiled = torch.compile(
        lambda q, k, v, window: ops.masked_cross_attention(q * 2, k, v, window=window),
        fullgraph=True,
        backend="aot_eager",
    )
    for window in [(2, 0), (3, 1), (0, 0), (None, 4)]:
        want = ops.masked_cross_attention(query * 2, key, value, window=window)
        torch.testing.assert_close(compiled(query, key, value, window), want)


def test_banded_torch_takes_blocks_apart_rightly(device):
    query, key, value = inputs(300, 280, 4, 4, device, batch=1, dtype=torch.float64)
    for left, right in [(0, 0), (5, 2), (200, 0), (-1, 3), (0, -1), (-1, -1)]:
        window = tuple(None if side < 0 else side for side in (left, right))
        want = reference.masked_cross_attention(query, key, value, window=window)
        torch.testing.assert_close(banded_attention(query, key, value, left, right, 0.5), want)


# --- Wrong input


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"query": torch.zeros(2, 3, 4)}, ValueError, r"query: expected shape \(B, H"),
        ({"key": torch.zeros(2, 2, 8, 5)}, ValueError, r"key: expected shape \(2, 2, any, 4\)"),
        ({"value": torch.zeros(2, 2, 7, 5)}, ValueError, r"value: expected shape \(2, 2, 8, any\)"),
        ({"value": torch.zeros(2, 2, 8, 5).double()}, TypeError, "value: expected the query's dtype"),
        ({"query": torch.zeros(2, 2, 9, 4).int()}, TypeError, "query: expected float32"),
        ({"query": torch.zeros(2, 2, 9, 4).half()}, TypeError, "query: expected float32"),
        ({"query": np.zeros((2, 2, 9, 4), np.float32)}, TypeError, "three torch tensors or three NumPy"),
        ({"query": [1.0]}, TypeError, "three torch tensors or three NumPy"),
        ({"key": torch.zeros(2, 2, 8, 4, device="meta")}, TypeError, "key: expected the query's device"),
        ({"window": (-1, 0)}, ValueError, "window"),
        ({"window": (0.5, 0)}, ValueError, "window"),
        ({"window": (True, 0)}, ValueError, "window"),
        ({"window": 3}, ValueError, "window"),
        ({"scale": float("nan")}, ValueError, "scale"),
    ],
)
def test_wrong_input_is_named(change, error, says):
    query, key, value = inputs(9, 8, 4, 5)
    arguments = {"query": query, "key": key, "value": value} | change
    with pytest.raises(error, match=says):
        ops.masked_cross_attention(
            arguments.pop("query"), arguments.pop("key"), arguments.pop("value"), **arguments
        )


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_sparse_input_is_named_in_every_mode(mode):
    query, key, value = inputs(9, 8, 4, 5)
    with mode(), pytest.raises(TypeError, match=r"key: expected a dense tensor"):
        ops.masked_cross_attention(query, key.to_sparse(), value)


def test_inference_mode_gives_the_same_without_importing_the_compiler():
    """The direct path of inference mode is the operator's, and its first call is quick."""
    code = (
        "import sys, torch\n"
        "from facetalk.ops import masked_cross_attention as attend\n"
        "torch.manual_seed(0)\n"
        "q, k, v = (torch.randn(1, 2, 9, 4) for _ in range(3))\n"
        "with torch.inference_mode():\n"
        "    quick = attend(q, k, v, window=(2, 1))\n"
        "assert 'torch._dynamo' not in sys.modules\n"
        "assert torch.equal(quick, attend(q, k, v, window=(2, 1)))\n"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True)


@pytest.mark.parametrize("window", [(0, 0), (2, 1), (None, 3), (0, None), (None, None), (200, 0)])
@pytest.mark.parametrize(("rows", "keys"), [(300, 290), (5, 140), (3, 0), (0, 4)])
def test_float64_of_numpy_needs_no_torch_and_equals_the_reference(window, rows, keys):
    rng = np.random.default_rng(rows)
    query, key, value = (rng.standard_normal((2, 1, n, d)) for n, d in ((rows, 4), (keys, 4), (keys, 3)))
    found = ops.masked_cross_attention(query, key, 30.0 * value, window=window)
    arrays = [torch.from_numpy(array) for array in (query, key, 30.0 * value)]
    expected = reference.masked_cross_attention(*arrays, window=window)
    assert found.dtype == np.float64 and found.shape == (2, 1, rows, 3)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-12)
