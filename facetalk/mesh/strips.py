"""Work on pictures strip by strip, in pieces that a processor's cache holds.

NumPy goes through memory once for every operation. Of a picture of 4096 pixels a side each such pass is 50 MB
or three times that; of a strip it stays in the cache. NumPy lets other threads run meanwhile, so that every
core works. Strips are of the same size with any number of threads: what comes out is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from facetalk import ops
from facetalk.side_by_side import side_by_side

__all__ = ["STRIP", "in_strips", "strips_of"]

STRIP = 1 << 16
"""Pixels of a strip."""

Strip = TypeVar("Strip")
Result = TypeVar("Result")


def in_strips(work: Callable[[Strip], Result], strips: Sequence[Strip]) -> Iterator[Result]:
    """Yield ``work`` of every strip, in order, by as many threads as the compiled core has."""
    threads = min(ops.threads(), len(strips))
    if threads < 2:
        yield from map(work, strips)
    else:
        yield from side_by_side(lambda strip, over: work(strip), strips, threads, 2 * threads)


def strips_of(count: int, sizes: int | Iterable[int] = 1) -> list[slice]:
    """Pieces of ``count`` things, with no more pixels than :data:`STRIP` unless one thing alone has them.

    Args:
        count: of things.
        sizes: pixels of each of them.
    """
    if isinstance(sizes, int):
        step = max(1, STRIP // max(1, sizes))
        return [slice(start, min(start + step, count)) for start in range(0, count, step)]
    out, start, total = [], 0, 0
    for number, size in enumerate(sizes):
        if total and total + size > STRIP:
            out.append(slice(start, number))
            start, total = number, 0
        total += size
    return [*out, slice(start, count)] if count else []
