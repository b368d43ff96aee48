"""Windowed attention and its gradient in torch, a block of queries at a time, for any device and float dtype.

Memory is one block of queries times the keys that it sees, so a bounded window never makes an (N, M) matrix.
"""

from __future__ import annotations

import torch
from torch import Tensor

from facetalk.ops._window import blocks


def _weights(
    query: Tensor, key: Tensor, at: slice, seen: slice, left: int, right: int, scale: float
) -> Tensor:
    """(B, H, rows, keys) softmax of one block; rows that see nothing are 0."""
    scores = (query[:, :, at] @ key[:, :, seen].transpose(-1, -2)) * scale
    i = torch.arange(at.start, at.stop, device=query.device)[:, None]
    j = torch.arange(seen.start, seen.stop, device=query.device)[None]
    hidden = torch.zeros(1, 1, dtype=torch.bool, device=query.device).expand(len(i), j.shape[1])
    if left >= 0:
        hidden = hidden | (j < i - left)
    if right >= 0:
        hidden = hidden | (j > i + right)
    blind = hidden.all(dim=1, keepdim=True)
    return scores.masked_fill(hidden & ~blind, -torch.inf).softmax(dim=-1).masked_fill(blind, 0.0)


def banded_attention(
    query: Tensor, key: Tensor, value: Tensor, left: int, right: int, scale: float
) -> Tensor:
    """Forward pass; shapes as in `facetalk.ops.masked_cross_attention`, negative bounds mean unbounded."""
    rows, keys = query.shape[2], key.shape[2]
    out = query.new_zeros(*query.shape[:3], value.shape[3])
    if left == 0 and right == 0:
        shared = min(rows, keys)
        out[:, :, :shared] = value[:, :, :shared]
        return out
    query, key, value = (_at_least_float32(array) for array in (query, key, value))
    for at, seen in blocks(rows, keys, left, right):
        out[:, :, at] = _weights(query, key, at, seen, left, right, scale) @ value[:, :, seen]
    return out


def banded_attention_backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, left: int, right: int, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of query, key and value; weights are computed again (FlashAttention, Dao et al. 2022)."""
    rows, keys, dtype = query.shape[2], key.shape[2], query.dtype
    grad, query, key, value, out = (_at_least_float32(array) for array in (grad, query, key, value, out))
    grad_query, grad_key, grad_value = (
        torch.zeros_like(array, memory_format=torch.contiguous_format) for array in (query, key, value)
    )
    if left == 0 and right == 0:
        shared = min(rows, keys)
        grad_value[:, :, :shared] = grad[:, :, :shared]
        return grad_query.to(dtype), grad_key.to(dtype), grad_value.to(dtype)
    for at, seen in blocks(rows, keys, left, right):
        weights = _weights(query, key, at, seen, left, right, scale)
        delta = (grad[:, :, at] * out[:, :, at]).sum(dim=-1, keepdim=True)
        grad_scores = weights * (grad[:, :, at] @ value[:, :, seen].transpose(-1, -2) - delta) * scale
        grad_value[:, :, seen] += weights.transpose(-1, -2) @ grad[:, :, at]
        grad_query[:, :, at] = grad_scores @ key[:, :, seen]
        grad_key[:, :, seen] += grad_scores.transpose(-1, -2) @ query[:, :, at]
    return grad_query.to(dtype), grad_key.to(dtype), grad_value.to(dtype)


def _at_least_float32(array: Tensor) -> Tensor:
    return array.float() if array.dtype in (torch.float16, torch.bfloat16) else array
