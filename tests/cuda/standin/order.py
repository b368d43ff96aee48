"""Which work on streams is known to be done before which: clocks of every stream, as vectors.

Work is done at once here, so a missing wait between streams changes no result. It is found all the same:
memory that one stream wrote may be touched by another only when that one has waited, and memory may be given
back only when all streams but its own have been waited for.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

Clock = dict[int, int]
"""For each stream how much of its work is known to be done."""


def _merge(into: Clock, other: Clock) -> None:
    for stream, time in other.items():
        into[stream] = max(into.get(stream, 0), time)


class Order:
    """The clocks of the streams, by their handles, and of the host."""

    def __init__(self) -> None:
        self.clocks: dict[int, Clock] = {}
        self.host: Clock = {}
        self.mistakes: list[str] = []
        self._lock = threading.RLock()

    def clock(self, stream: int) -> Clock:
        """What a stream's next work comes after."""
        clock = self.clocks.setdefault(stream, {stream: 0})
        _merge(clock, self.host)
        return clock

    def wait(self, stream: int, other: Clock) -> None:
        """A stream waits for what is done by a clock."""
        with self._lock:
            _merge(self.clock(stream), other)

    def host_waits(self, other: Clock) -> None:
        with self._lock:
            _merge(self.host, other)

    def everything(self) -> Clock:
        with self._lock:
            whole: Clock = {}
            for clock in list(self.clocks.values()):
                _merge(whole, clock)
            return whole

    def work(self, stream: int, reads: Iterable[Any], writes: Iterable[Any], what: str) -> None:
        """One piece of work on a stream, and the blocks of memory that it touches."""
        with self._lock:
            clock = self.clock(stream)
            clock[stream] += 1
            for block in reads:
                self._after(clock, block.writes, f"{what} reads what stream %x writes, without a wait")
            for block in writes:
                for touched in (block.writes, block.reads):
                    self._after(clock, touched, f"{what} writes what stream %x still uses")
            for block in reads:
                block.reads[stream] = clock[stream]
            for block in writes:
                block.writes[stream] = clock[stream]

    def given_back(self, block: Any) -> None:
        """A block's memory is free for the next that its own stream asks for, once the streams that
        `Tensor.record_stream` named have done what they were asked until now.
        """
        with self._lock:
            clock = self.clock(block.stream)
            for touched in (block.writes, block.reads):
                others = {s: t for s, t in touched.items() if s != block.stream and s not in block.recorded}
                self._after(clock, others, "memory was given back while stream %x still uses it")

    def _after(self, clock: Clock, touched: Clock, mistake: str) -> None:
        for stream, time in touched.items():
            if clock.get(stream, 0) < time:
                self.mistakes.append(mistake % stream)


ORDER = Order()
