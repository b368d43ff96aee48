"""Attention through a window along the sequence: compiled on the CPU, banded torch elsewhere."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facetalk.ops._arrays import Array, contiguous, describe, give_back
from facetalk.ops._banded import banded_attention, banded_attention_backward
from facetalk.ops._extension import load

Window = tuple[int | None, int | None]
"""(left, right): query i sees key j when i - left <= j <= i + right; None means unbounded."""

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
        query: (B, H, N, D) float32.
        key: (B, H, M, D) float32.
        value: (B, H, M, E) float32; E is usually D.
        window: (left, right), each at least 0 or None for unbounded.
        scale: factor on the scores; None means 1 / sqrt(D).

    Returns:
        (B, H, N, E) float32; a torch tensor if the arguments are, else a NumPy array. On the CPU the compiled
        kernel runs; tensors on other devices, and float64, take a banded torch version of the same
        mathematics.

    Raises:
        TypeError: for arguments that are not arrays of one kind, dtype and device.
        ValueError: for shapes that do not fit together, a negative window or a scale that is not finite.
    """
    named = {"query": query, "key": key, "value": value}
    kinds = [torch.Tensor if isinstance(array, torch.Tensor) else type(array) for array in named.values()]
    if len(set(kinds)) != 1 or kinds[0] not in (torch.Tensor, np.ndarray):
        got = ", ".join(kind.__name__ for kind in kinds)
        raise TypeError(f"query, key, value: expected three torch tensors or three NumPy arrays, got {got}")
    for name, array in named.items():
        if array.ndim != 4:
            raise ValueError(f"{name}: expected shape (B, H, length, depth), got {describe(array)}")
        if str(array.dtype).removeprefix("torch.") not in ("float32", "float64"):
            raise TypeError(f"{name}: expected float32, got {describe(array)}")
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
    if plain and torch.is_inference_mode_enabled() and not torch.compiler.is_compiling():
        return _on_device(query, key, value, left, right, scale)  # type: ignore[arg-type]
    return _attention(query, key, value, left, right, scale)


def _window(window: Window) -> tuple[int, int]:
    wrong = f"window: expected (left, right), each an integer >= 0 or None for unbounded, got {window!r}"
    if not isinstance(window, (tuple, list)) or len(window) != 2:
        raise ValueError(wrong)
    sides = []
    for side in window:
        if side is not None and (
            isinstance(side, bool) or not isinstance(side, (int, np.integer)) or side < 0
        ):
            raise ValueError(wrong)
        sides.append(_UNBOUNDED if side is None else min(int(side), 2**62))
    return sides[0], sides[1]


def _compiled(query: Array, key: Array, value: Array, left: int, right: int, scale: float) -> Any:
    batch, heads, length, _ = query.shape
    # Heads are counted out, not inferred by -1, which is ambiguous when a length is 0.
    parts = [
        contiguous(array, name, "float32").reshape(batch * heads, *array.shape[2:])
        for name, array in (("query", query), ("key", key), ("value", value))
    ]
    result = load().masked_cross_attention(*parts, left, right, scale)
    return give_back(result, query).reshape(batch, heads, length, value.shape[3])


def _on_device(query: Tensor, key: Tensor, value: Tensor, left: int, right: int, scale: float) -> Tensor:
    if query.device.type == "cpu" and query.dtype == torch.float32:
        return _compiled(query.detach(), key.detach(), value.detach(), left, right, scale)
    return banded_attention(query, key, value, left, right, scale)


@torch.library.custom_op("facetalk::masked_cross_attention", mutates_args=())
def _attention(query: Tensor, key: Tensor, value: Tensor, left: int, right: int, scale: float) -> Tensor:
    return _on_device(query, key, value, left, right, scale)


@_attention.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, left: int, right: int, scale: float) -> Tensor:
    return query.new_empty(*query.shape[:3], value.shape[3])


@torch.library.custom_op("facetalk::masked_cross_attention_backward", mutates_args=())
def _attention_backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, left: int, right: int, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
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
# Under autocast the operation runs in float32: it is bound by memory, and the softmax wants the digits.
for _device in ("cpu", "cuda"):
    torch.library.register_autocast("facetalk::masked_cross_attention", _device, torch.float32)
