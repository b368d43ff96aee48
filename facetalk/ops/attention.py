"""Attention through a window along the sequence: compiled for the CPU and CUDA, banded torch elsewhere."""

import math
import sys
from typing import Any

import numpy as np
import torch
import torch.utils.dlpack
from torch import Tensor

from facetalk.ops._arrays import Array, as_array, contiguous, describe, give_back
from facetalk.ops._banded_attention import banded_attention, banded_attention_backward
from facetalk.ops._extension import load
from facetalk.ops.cuda import attention as cuda_attention

Window = tuple[int | None, int | None]
"""(left, right): query i sees key j when i - left <= j <= i + right; None means unbounded."""

_HALF = ("float16", "bfloat16")
_UNBOUNDED = -1  # how None travels through the operator's schema


def masked_cross_attention(
    query: Array, key: Array, value: Array, *, window: Window = (0, 0), scale: float | None = None
) -> Any:
    """Softmax attention in which query i sees key j only when i - left <= j <= i + right.

    At window (0, 0), the alignment mask of FaceTalk's denoiser, each query sees one key, the softmax is 1 and
    row i is value row i: neither queries nor keys are read. Elsewhere the softmax runs online over tiles of
    keys, so that no (N, M) matrix is made. Queries that see no key give 0. Differentiable in query, key and
    value, once.

    Args:
        query: (B, H, N, D) float32; on a CUDA device also float16 or bfloat16, with sums in float32.
        key: (B, H, M, D), of the query's dtype.
        value: (B, H, M, E), of the query's dtype; E is usually D.
        window: (left, right), each at least 0 or None for unbounded.
        scale: factor on the scores; None means 1 / sqrt(D).

    Returns:
        (B, H, N, E) of the arguments' dtype and kind: torch tensor, NumPy array or CuPy array (which takes no
        copy). The compiled kernels run on the CPU and, on the current stream, on CUDA devices for D and E up
        to 128; there sizes that are not multiples of 8 cost a padded copy, and the result lies in memory as
        (B, N, H, E). Other devices, float64, larger heads, and builds without CUDA take a banded torch
        version of the same mathematics. Under autocast the CPU computes in float32, which its softmax needs;
        CUDA takes autocast's dtype.

    Raises:
        TypeError: for arguments that are not arrays of one kind, dtype and device.
        ValueError: for shapes that do not fit together, a negative window or a scale that is not finite.
    """
    if any(type(array).__module__.partition(".")[0] == "cupy" for array in (query, key, value)):
        return _through_torch(query, key, value, window, scale)
    named: dict[str, Any] = {"query": query, "key": key, "value": value}
    if isinstance(query, Tensor) and query.is_cuda and torch.is_autocast_enabled("cuda"):
        wanted = torch.get_autocast_dtype("cuda")
        query, key, value = (_cast(array, wanted) for array in named.values())
        named = {"query": query, "key": key, "value": value}
    elif isinstance(query, Tensor) and not query.is_cuda and torch.is_autocast_enabled("cpu"):
        # Its linear layers give bfloat16, which there is no kernel for.
        query, key, value = (_cast(array, torch.float32) for array in named.values())
        named = {"query": query, "key": key, "value": value}
    kinds = [torch.Tensor if isinstance(array, torch.Tensor) else type(array) for array in named.values()]
    if len(set(kinds)) != 1 or kinds[0] not in (torch.Tensor, np.ndarray):
        got = ", ".join(kind.__name__ for kind in kinds)
        raise TypeError(f"query, key, value: expected three torch tensors or three NumPy arrays, got {got}")
    for name, array in named.items():
        if array.ndim != 4:
            raise ValueError(f"{name}: expected shape (B, H, length, depth), got {describe(array)}")
        if isinstance(array, Tensor) and array.layout != torch.strided:
            raise TypeError(f"{name}: expected a dense tensor, got {array.layout}; pass {name}.to_dense()")
        half = isinstance(array, Tensor) and array.device.type != "cpu"
        if str(array.dtype).removeprefix("torch.") not in ("float32", "float64", *half * _HALF):
            also = ", float16 or bfloat16" if half else ""
            raise TypeError(f"{name}: expected float32{also}, got {describe(array)}")
        if array.dtype != query.dtype:
            raise TypeError(f"{name}: expected the query's dtype, {query.dtype}, got {array.dtype}")
        if (
            isinstance(query, torch.Tensor)
            and isinstance(array, torch.Tensor)
            and array.device != query.device
        ):
            raise TypeError(f"{name}: expected the query's device, {query.device}, got {array.device}")
    batch, heads, _, depth = query.shape
    keys = key.shape[2]
    if tuple(key.shape) != (batch, heads, keys, depth):
        raise ValueError(f"key: expected shape ({batch}, {heads}, any, {depth}), got {tuple(key.shape)}")
    if tuple(value.shape[:3]) != (batch, heads, keys):
        raise ValueError(f"value: expected shape ({batch}, {heads}, {keys}, any), got {tuple(value.shape)}")
    left, right = _window(window)
    if scale is None:
        scale = 1.0 / math.sqrt(depth) if depth else 1.0
    if not math.isfinite(scale):
        raise ValueError(f"scale: expected a finite number, got {scale!r}")
    if isinstance(query, np.ndarray):
        if query.dtype == np.float64:
            tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in (query, key, value)]
            return _attention(*tensors, left, right, scale).numpy()
        return _compiled(query, key, value, left, right, scale)
    # Nothing can trace or differentiate plain tensors in inference mode, so the kernel is called at once: the
    # dispatcher's first call of a Python operator imports torch's compiler, which takes seconds.
    plain = type(query) is Tensor and type(key) is Tensor and type(value) is Tensor
    if not torch.compiler.is_compiling() and plain and torch.is_inference_mode_enabled():
        return _on_device(query, key, value, left, right, scale)  # type: ignore[arg-type]
    return _attention(query, key, value, left, right, scale)


def _window(window: Window) -> tuple[int, int]:
    if not isinstance(window, (tuple, list)) or len(window) != 2:
        raise _wrong_window(window)
    sides = []
    for side in window:
        if side is not None and (
            isinstance(side, bool) or not isinstance(side, (int, np.integer)) or side < 0
        ):
            raise _wrong_window(window)
        sides.append(_UNBOUNDED if side is None else min(int(side), 2**62))
    return sides[0], sides[1]


def _wrong_window(window: object) -> ValueError:
    # Apart, so that the window is put into words only here: a compiler that traces it as a symbol cannot.
    return ValueError(
        f"window: expected (left, right), each an integer >= 0 or None for unbounded, got {window!r}"
    )


def _compiled(query: Array, key: Array, value: Array, left: int, right: int, scale: float) -> Any:
    batch, heads, length, _ = query.shape
    # Heads are counted out, not inferred by -1, which is ambiguous when a length is 0.
    parts = [
        contiguous(as_array(array, name), name, "float32").reshape(batch * heads, *array.shape[2:])
        for name, array in (("query", query), ("key", key), ("value", value))
    ]
    result = load().masked_cross_attention(*parts, left, right, scale)
    return give_back(result, query).reshape(batch, heads, length, value.shape[3])


def _through_torch(query: Any, key: Any, value: Any, window: Window, scale: float | None) -> Any:
    """CuPy in and out: torch shares the memory, and each side waits for the other's stream, not the host."""
    kinds = [type(array) for array in (query, key, value)]
    if len(set(kinds)) != 1:
        got = ", ".join(kind.__name__ for kind in kinds)
        raise TypeError(f"query, key, value: expected three CuPy arrays, got {got}")
    tensors = [torch.utils.dlpack.from_dlpack(array) for array in (query, key, value)]
    result = masked_cross_attention(*tensors, window=window, scale=scale)
    return sys.modules["cupy"].from_dlpack(result)


def _cast(array: Any, dtype: torch.dtype) -> Any:
    if isinstance(array, Tensor) and array.is_floating_point() and array.dtype != torch.float64:
        return array.to(dtype)
    return array


def _on_device(query: Tensor, key: Tensor, value: Tensor, left: int, right: int, scale: float) -> Tensor:
    if query.device.type == "cpu" and query.dtype == torch.float32:
        return _compiled(query.detach(), key.detach(), value.detach(), left, right, scale)
    if query.device.type == "cuda":
        core = cuda_attention.core_for(query, value, left, right)
        if core is not None:
            return cuda_attention.attention(core, query, key, value, left, right, scale)
    return _empty(query, value).copy_(banded_attention(query, key, value, left, right, scale))


def _empty(query: Tensor, value: Tensor) -> Tensor:
    """Memory for the result in the layout of the query's device."""
    if query.device.type == "cuda":
        return cuda_attention.empty_result(query, value)
    return query.new_empty(*query.shape[:3], value.shape[3])


@torch.library.custom_op("facetalk::masked_cross_attention", mutates_args=())
def _attention(query: Tensor, key: Tensor, value: Tensor, left: int, right: int, scale: float) -> Tensor:
    return _on_device(query, key, value, left, right, scale)


@_attention.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, left: int, right: int, scale: float) -> Tensor:
    return _empty(query, value)


@torch.library.custom_op("facetalk::masked_cross_attention_backward", mutates_args=())
def _attention_backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, left: int, right: int, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    # Empty tensors and the alignment window, whose gradient is a copy, need no kernel.
    if query.device.type == "cuda" and (left, right) != (0, 0) and grad.numel() and key.numel():
        core = cuda_attention.core_for(query, value, left, right)
        if core is not None:
            return cuda_attention.attention_backward(core, grad, query, key, value, left, right, scale)
    return banded_attention_backward(grad, query, key, value, out, left, right, scale)


@_attention_backward.register_fake
def _(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, left: int, right: int, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        torch.empty_like(query, memory_format=torch.contiguous_format),
        torch.empty_like(key, memory_format=torch.contiguous_format),
        torch.empty_like(value, memory_format=torch.contiguous_format),
    )


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    query, key, value, ctx.left, ctx.right, ctx.scale = inputs
    ctx.save_for_backward(query, key, value, output)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    query, key, value, out = ctx.saved_tensors
    grads = _attention_backward(grad, query, key, value, out, ctx.left, ctx.right, ctx.scale)
    return (*grads, None, None, None)


_attention.register_autograd(_backward, setup_context=_remember)
torch.library.register_autocast("facetalk::masked_cross_attention", "cpu", torch.float32)
