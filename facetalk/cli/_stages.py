"""Where the time of a verb went, for the table that it ends with."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Timed(Generic[T]):
    """An iterable whose items are timed apart from what is done with them.

    Args:
        items: what is iterated once.
        stages: where the time goes.
        name: of the stage.
    """

    def __init__(self, items: Iterable[T], stages: Stages, name: str) -> None:
        self._items, self._stages, self._name = items, stages, name

    def __iter__(self) -> Iterator[T]:
        """The items; making each one counts to the stage, and not to the one around it."""
        items = iter(self._items)
        while True:
            with self._stages.stage(self._name):
                try:
                    item = next(items)
                except StopIteration:
                    return
            yield item


class Stages:
    """Wall time of the stages of a run, for the closing table."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inner = [0.0]

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a block under ``name``, without the stages inside it."""
        start = time.perf_counter()
        self._inner.append(0.0)
        try:
            yield
        finally:
            spent, inner = time.perf_counter() - start, self._inner.pop()
            self._inner[-1] += spent
            self.seconds[name] = self.seconds.get(name, 0.0) + spent - inner

    def report(self, clip_seconds: float) -> str:
        """Table of the stages with the real-time factor: work / clip length, below 1 = faster than it plays.

        Args:
            clip_seconds: length of the clip.
        """
        lines = [f"  {name:<10} {seconds:8.2f} s" for name, seconds in self.seconds.items()]
        # Loading happens once per process, however long the clip.
        work = sum(seconds for name, seconds in self.seconds.items() if name != "load")
        factor = work / max(clip_seconds, 1e-9)
        lines.append(f"  clip {clip_seconds:.2f} s, real-time factor {factor:.3f} (without load)")
        return "\n".join(lines)
