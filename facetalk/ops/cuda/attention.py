"""Windowed attention on CUDA devices: which calls have a kernel, and how tensors reach it."""

from __future__ import annotations

import functools
import warnings
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor

from facetalk.ops._device import cuda_core, current_stream

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_MAX_DIM = 128  # as in csrc/cuda/attention/attention.h
_PAD = 8


def core_for(query: Tensor, value: Tensor, left: int, right: int) -> ModuleType | None:
    """The extension, if it has a kernel for these tensors on a CUDA device."""
    if query.dtype not in _DTYPES:
        return None
    if max(query.shape[3], value.shape[3]) > _MAX_DIM and (left, right) != (0, 0):
        return None
    return _core(query.device)


@functools.cache
def _core(device: torch.device) -> ModuleType | None:
    try:
        return cuda_core("query", device)
    except TypeError as error:
        # Not an error: torch does the same, slower. Said once for each device.
        warnings.warn(f"attention runs in plain torch on this GPU; {error}", RuntimeWarning, stacklevel=2)
        return None


def empty_result(query: Tensor, value: Tensor) -> Tensor:
    """An uninitialised (B, H, N, E) in memory as (B, N, H, E) with rows of whole 8 columns.

    It is the layout from which heads are joined without a copy.
    """
    batch, heads, rows, _ = query.shape
    width = value.shape[3]
    return query.new_empty(batch, rows, heads, _padded(width)).transpose(1, 2).narrow(3, 0, width)


def attention(
    core: ModuleType, query: Tensor, key: Tensor, value: Tensor, left: int, right: int, scale: float
) -> Tensor:
    """Run the kernel on the current stream; arguments as in the operator."""
    out = empty_result(query, value)
    value = fit(value)
    if (left, right) == (0, 0):  # not read; anything of their lengths will do
        query, key = _whole(out), value
    else:
        query, key = fit(query), fit(key)
    core.masked_cross_attention_cuda(
        query, key, value, _whole(out), None, left, right, scale, current_stream(query.device)
    )
    return out


def attention_backward(
    core: ModuleType,
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    left: int,
    right: int,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of query, key and value, contiguous; not for the window (0, 0).

    The forward pass runs again for the log-sum-exp of the scores, which is cheaper than to keep it for every
    call that is never differentiated.
    """
    sizes = query.shape[3], value.shape[3]
    out = empty_result(query, value)
    query, key, value, grad = (fit(tensor) for tensor in (query, key, value, grad))
    lse, delta = (query.new_empty(query.shape[:3], dtype=torch.float32) for _ in range(2))
    grads = [tensor.new_empty(tensor.shape) for tensor in (query, key, value)]
    stream = current_stream(query.device)
    core.masked_cross_attention_cuda(query, key, value, _whole(out), lse, left, right, scale, stream)
    core.masked_cross_attention_backward_cuda(
        query, key, value, _whole(out), lse, [grad, *grads], delta, left, right, scale, stream
    )
    depth, width = sizes
    grad_query, grad_key = (part[..., :depth].contiguous() for part in grads[:2])
    return grad_query, grad_key, grads[2][..., :width].contiguous()


def fit(tensor: Tensor) -> Tensor:
    """The tensor itself where the kernels can read it, else a copy padded with columns of zeros.

    They read rows of whole 8 columns, dense and aligned to 16 bytes; zeros change neither scores nor the
    columns that are kept.
    """
    tensor = tensor.detach()
    missing = _padded(tensor.shape[3]) - tensor.shape[3]
    if missing:
        return F.pad(tensor, (0, missing))
    items = 16 // tensor.element_size()
    strides = [step for step, size in zip(tensor.stride()[:3], tensor.shape[:3], strict=True) if size > 1]
    if tensor.stride(3) == 1 and tensor.data_ptr() % 16 == 0 and all(step % items == 0 for step in strides):
        return tensor
    return tensor.clone(memory_format=torch.contiguous_format)


def _padded(width: int) -> int:
    return -(-width // _PAD) * _PAD


def _whole(out: Tensor) -> Tensor:
    """A result of `empty_result` with the columns of its padding."""
    return out.as_strided((*out.shape[:3], _padded(out.shape[3])), out.stride())
