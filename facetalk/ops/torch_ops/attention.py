"""Attention on torch tensors: an operator with a meta kernel, autograd and autocast, on any device."""

from __future__ import annotations

import sys
from typing import Any

import torch
import torch.utils.dlpack
from torch import Tensor

from facetalk.ops._arrays import Array, is_cupy
from facetalk.ops._window import Window, check_form, check_together, compiled, factor, sides
from facetalk.ops.cuda import attention as cuda_attention
from facetalk.ops.torch_ops.banded_attention import banded_attention, banded_attention_backward

_HALF = ("float16", "bfloat16")


def masked_cross_attention(
    query: Array, key: Array, value: Array, window: Window, scale: float | None
) -> Any:
    """:func:`facetalk.ops.masked_cross_attention` of tensors or CuPy arrays."""
    if any(is_cupy(array) for array in (query, key, value)):
        return _of_cupy(query, key, value, window, scale)
    named: dict[str, Any] = {"query": query, "key": key, "value": value}
    if isinstance(query, Tensor) and query.is_cuda and torch.is_autocast_enabled("cuda"):
        wanted = torch.get_autocast_dtype("cuda")
        named = {name: _cast(array, wanted) for name, array in named.items()}
    elif isinstance(query, Tensor) and not query.is_cuda and torch.is_autocast_enabled("cpu"):
        # Its linear layers give bfloat16, which there is no kernel for.
        named = {name: _cast(array, torch.float32) for name, array in named.items()}
    if not all(isinstance(array, Tensor) for array in named.values()):
        got = ", ".join("Tensor" if isinstance(a, Tensor) else type(a).__name__ for a in named.values())
        raise TypeError(f"query, key, value: expected three torch tensors or three NumPy arrays, got {got}")
    query, key, value = named.values()
    assert isinstance(query, Tensor) and isinstance(key, Tensor) and isinstance(value, Tensor)
    for name, array in named.items():
        if array.layout != torch.strided:
            raise TypeError(f"{name}: expected a dense tensor, got {array.layout}; pass {name}.to_dense()")
        check_form(name, array, _HALF if array.device.type != "cpu" else ())
        if array.device != query.device:
            raise TypeError(f"{name}: expected the query's device, {query.device}, got {array.device}")
    check_together(query, key, value)
    left, right = sides(window)
    scale = factor(scale, query.shape[3])
    # Nothing can trace or differentiate plain tensors in inference mode, so the kernel is called at once: the
    # dispatcher's first call of a Python operator imports torch's compiler, which takes seconds.
    plain = type(query) is Tensor and type(key) is Tensor and type(value) is Tensor
    if not torch.compiler.is_compiling() and plain and torch.is_inference_mode_enabled():
        return _on_device(query, key, value, left, right, scale)
    return _attention(query, key, value, left, right, scale)


def _of_cupy(query: Any, key: Any, value: Any, window: Window, scale: float | None) -> Any:
    """CuPy in and out: torch shares the memory, and each side waits for the other's stream, not the host."""
    kinds = [type(array) for array in (query, key, value)]
    if len(set(kinds)) != 1:
        got = ", ".join(kind.__name__ for kind in kinds)
        raise TypeError(f"query, key, value: expected three CuPy arrays, got {got}")
    tensors: list[Any] = [torch.utils.dlpack.from_dlpack(array) for array in (query, key, value)]
    result = masked_cross_attention(tensors[0], tensors[1], tensors[2], window, scale)
    return sys.modules["cupy"].from_dlpack(result)


def _cast(array: Any, dtype: torch.dtype) -> Any:
    if isinstance(array, Tensor) and array.is_floating_point() and array.dtype != torch.float64:
        return array.to(dtype)
    return array


def _on_device(query: Tensor, key: Tensor, value: Tensor, left: int, right: int, scale: float) -> Tensor:
    if query.device.type == "cpu" and query.dtype == torch.float32:
        return compiled(query.detach(), key.detach(), value.detach(), left, right, scale)
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
