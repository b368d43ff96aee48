"""What attention through a window is asked for, checked, and the compiled kernel of the CPU."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from facetalk.ops._arrays import Array, as_array, contiguous, describe, give_back
from facetalk.ops._extension import load

Window = tuple[int | None, int | None]
"""(left, right): query i sees key j when i - left <= j <= i + right; None means unbounded."""

_UNBOUNDED = -1  # how None travels to kernels
_BLOCK = 128


def check_form(name: str, array: Array, dtypes: tuple[str, ...]) -> None:
    """Refuse an array that has not four axes or another dtype.

    Raises:
        TypeError: the dtype is neither of float32, float64 and ``dtypes``.
        ValueError: the shape.
    """
    if array.ndim != 4:
        raise ValueError(f"{name}: expected shape (B, H, length, depth), got {describe(array)}")
    if str(array.dtype).removeprefix("torch.") not in ("float32", "float64", *dtypes):
        also = ", float16 or bfloat16" if dtypes else ""
        raise TypeError(f"{name}: expected float32{also}, got {describe(array)}")


def check_together(query: Array, key: Array, value: Array) -> None:
    """Refuse arrays that do not go together.

    Raises:
        TypeError: of several dtypes.
        ValueError: shapes that do not fit.
    """
    for name, array in (("key", key), ("value", value)):
        if array.dtype != query.dtype:
            raise TypeError(f"{name}: expected the query's dtype, {query.dtype}, got {array.dtype}")
    batch, heads, _, depth = query.shape
    keys = key.shape[2]
    if tuple(key.shape) != (batch, heads, keys, depth):
        raise ValueError(f"key: expected shape ({batch}, {heads}, any, {depth}), got {tuple(key.shape)}")
    if tuple(value.shape[:3]) != (batch, heads, keys):
        raise ValueError(f"value: expected shape ({batch}, {heads}, {keys}, any), got {tuple(value.shape)}")


def sides(window: Window) -> tuple[int, int]:
    """The window as two numbers, negative for unbounded.

    Raises:
        ValueError: it is no window.
    """
    if not isinstance(window, (tuple, list)) or len(window) != 2:
        raise _wrong_window(window)
    found = []
    for side in window:
        if side is not None and (
            isinstance(side, bool) or not isinstance(side, (int, np.integer)) or side < 0
        ):
            raise _wrong_window(window)
        found.append(_UNBOUNDED if side is None else min(int(side), 2**62))
    return found[0], found[1]


def _wrong_window(window: object) -> ValueError:
    # Apart, so that the window is put into words only here: a compiler that traces it as a symbol cannot.
    return ValueError(
        f"window: expected (left, right), each an integer >= 0 or None for unbounded, got {window!r}"
    )


def factor(scale: float | None, depth: int) -> float:
    """The factor on the scores.

    Raises:
        ValueError: it is not finite.
    """
    if scale is None:
        return 1.0 / math.sqrt(depth) if depth else 1.0
    if not math.isfinite(scale):
        raise ValueError(f"scale: expected a finite number, got {scale!r}")
    return scale


def compiled(query: Array, key: Array, value: Array, left: int, right: int, scale: float) -> Any:
    """Attention by the kernel of the CPU, of float32 arrays of one kind."""
    batch, heads, length, _ = query.shape
    # Heads are counted out, not inferred by -1, which is ambiguous when a length is 0.
    parts = [
        contiguous(as_array(array, name), name, "float32").reshape(batch * heads, *array.shape[2:])
        for name, array in (("query", query), ("key", key), ("value", value))
    ]
    result = load().masked_cross_attention(*parts, left, right, scale)
    return give_back(result, query).reshape(batch, heads, length, value.shape[3])


def blocks(rows: int, keys: int, left: int, right: int) -> Iterator[tuple[slice, slice]]:
    """Queries, a block at a time, and the keys that some of them see; blocks that see none are left out."""
    for first in range(0, rows, _BLOCK):
        last = min(first + _BLOCK, rows)
        begin = 0 if left < 0 else max(0, first - left)
        end = keys if right < 0 else min(keys, last + right)
        if begin < end:
            yield slice(first, last), slice(begin, end)
