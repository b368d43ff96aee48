"""A stream of motion without a model, and small pieces for tests of live motion."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import numpy as np

from facetalk.data.arkit import ANGLE_NAMES, ARKIT_NAMES
from facetalk.data.expressions import EXPRESSION_NAMES, INDEX
from facetalk.live.frame import Frame
from facetalk.motion import Motion


class CountingStream:
    """What ``FaceTalk.stream`` gives, of a face that opens its jaw by a thousandth a frame."""

    def __init__(self, *, rate: float = 16_000, look_ahead: float = 0.2, fps: float = 25.0, **_: Any) -> None:
        self.latency, self._fps, self._rate = look_ahead, fps, rate
        self.heard = self.given = 0
        self.finished = False

    def push(self, samples: Any) -> Motion:
        assert np.asarray(samples).ndim == 1
        self.heard += len(samples)
        seconds = self.heard / self._rate
        return self._until(int(np.floor((seconds - self.latency) * self._fps + 0.5 + 1e-9)))

    def finish(self) -> Motion:
        self.finished = True
        return self._until(max(1, round(self.heard / self._rate * self._fps)))

    def _until(self, count: int) -> Motion:
        numbers = np.arange(self.given, max(count, self.given))
        self.given += len(numbers)
        codes = np.zeros((len(numbers), len(EXPRESSION_NAMES)), np.float32)
        codes[:, INDEX["jawOpen"]] = numbers / 1000.0
        return Motion(codes, self._fps)

    def __enter__(self) -> CountingStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finished = True


def frame(index: int = 7, fps: float = 25.0) -> Frame:
    """A frame whose every value is another one, exact in 16 bits."""
    weights = (np.arange(len(ARKIT_NAMES), dtype=np.float32) + 1.0) / 64.0
    angles = (np.arange(len(ANGLE_NAMES), dtype=np.float32) - 4.0) / 16.0
    return Frame(index, (index + 0.5) / fps, weights, angles)


def listener() -> socket.socket:
    """A UDP socket of the loopback on a port of its own."""
    there = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    there.bind(("127.0.0.1", 0))
    there.settimeout(5.0)
    return there


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket(socket.AF_INET, kind) as there:
        there.bind(("127.0.0.1", 0))
        return int(there.getsockname()[1])


@contextlib.contextmanager
def hanging_up(line: Any) -> Iterator[Any]:
    """A line of websocket-client, whose socket is closed at the end.

    Its own ``close()`` leaves the socket open where the server's goodbye was read before.
    """
    try:
        yield line
    finally:
        line.close()
        line.shutdown()
