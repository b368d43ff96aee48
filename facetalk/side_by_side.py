"""A function over many items by several threads: results in order, few of them waiting, ended at once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from facetalk.interrupts import Uninterrupted

__all__ = ["side_by_side"]

Item = TypeVar("Item")
Result = TypeVar("Result")

_LOOK_S = 0.05
"""Seconds after which a waiting caller looks whether a signal came."""


def side_by_side(
    work: Callable[[Item, Callable[[], bool]], Result], items: Iterable[Item], threads: int, ahead: int
) -> Iterator[Result]:
    """Yield ``work(item, over)`` of every item, in order.

    A pool of threads takes its locks in Python, where a signal may come between taking and giving back; the
    lock would stay locked, and the end of the pool would wait for ever. So signals are held back there.

    Args:
        work: called in a thread; ``over()`` becomes true once nobody wants its result.
        items: taken one by one in the caller's thread, ``ahead`` more than were yielded.
        threads: number of them.
        ahead: results that may wait.
    """
    over = threading.Event()
    pool = ThreadPoolExecutor(threads)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            with Uninterrupted():
                waiting.append(pool.submit(work, item, over.is_set))
            if len(waiting) > ahead:
                yield _result(waiting.popleft())
        while waiting:
            yield _result(waiting.popleft())
    finally:
        # After Ctrl-C or an error nobody wants what is under way.
        with Uninterrupted():
            over.set()
            pool.shutdown(cancel_futures=True)


def _result(future: Future[Result]) -> Result:
    while True:
        with Uninterrupted():
            try:
                return future.result(timeout=_LOOK_S)
            except TimeoutError:
                if future.done():  # the work's own
                    raise
