"""Attention through a window along the sequence: compiled for the CPU and CUDA, banded elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np

from facetalk.ops._arrays import Array, is_cupy, is_tensor
from facetalk.ops._window import Window, blocks, check_form, check_together, compiled, factor, sides
from facetalk.optional import needed_for

__all__ = ["Window", "masked_cross_attention"]


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
    arrays = query, key, value
    if any(is_tensor(array) or is_cupy(array) for array in arrays):
        with needed_for("an operation on CuPy arrays"):  # tensors have it with them
            from facetalk.ops.torch_ops import attention
        return attention.masked_cross_attention(query, key, value, window, scale)
    if not all(isinstance(array, np.ndarray) for array in arrays):
        got = ", ".join(type(array).__name__ for array in arrays)
        raise TypeError(f"query, key, value: expected three torch tensors or three NumPy arrays, got {got}")
    for name, array in zip(("query", "key", "value"), arrays, strict=True):
        check_form(name, array, ())
    check_together(query, key, value)
    left, right = sides(window)
    run = compiled if query.dtype == np.float32 else _banded
    return run(query, key, value, left, right, factor(scale, query.shape[3]))


def _banded(query: Array, key: Array, value: Array, left: int, right: int, scale: float) -> Any:
    """The same of float64, which has no kernel, a block of queries at a time."""
    rows, keys = query.shape[2], key.shape[2]
    out = np.zeros((*query.shape[:3], value.shape[3]))
    if left == 0 and right == 0:
        out[:, :, :keys] = value[:, :, :rows]
        return out
    for at, seen in blocks(rows, keys, left, right):
        i, j = np.arange(at.start, at.stop)[:, None], np.arange(seen.start, seen.stop)[None]
        hidden = np.zeros((len(i), j.shape[1]), bool)
        if left >= 0:
            hidden |= j < i - left
        if right >= 0:
            hidden |= j > i + right
        scores = query[:, :, at] @ np.swapaxes(key[:, :, seen], -1, -2) * scale
        scores = np.where(hidden, -np.inf, scores)
        largest = scores.max(axis=-1, keepdims=True)
        weights = np.exp(scores - np.where(np.isfinite(largest), largest, 0.0))
        weights /= np.maximum(weights.sum(axis=-1, keepdims=True), np.finfo(np.float64).tiny)
        out[:, :, at] = weights @ value[:, :, seen]
    return out
