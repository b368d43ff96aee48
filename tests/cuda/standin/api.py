"""torch.cuda of the stand-in device: one device, streams that are numbers, graphs that run again."""

from __future__ import annotations

import contextlib
import ctypes
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from standin.dispatch import STATE, Recording
from standin.memory import MEMORY, record_stream
from standin.order import ORDER

_FIRST_HANDLE = 0x5EED0000  # no stream is number 0, so that one that is passed for "none" is found out
_local = threading.local()


class Stream:
    """A stream; work on it is done when it is enqueued."""

    _made = 0

    def __init__(self, device: Any = None, priority: int = 0, **_: Any) -> None:
        Stream._made += 1
        self.device = torch.device("cuda", 0)
        self.cuda_stream = _FIRST_HANDLE + 16 * Stream._made

    def wait_stream(self, other: Stream) -> None:
        assert isinstance(other, Stream)
        MEMORY.collect()  # what was given back before, was so without this wait
        ORDER.wait(self.cuda_stream, ORDER.clock(other.cuda_stream))

    def wait_event(self, event: Event) -> None:
        assert isinstance(event, Event)
        MEMORY.collect()
        if not event.recorded:
            raise RuntimeError("CUDA error: waiting for an event that was never recorded")
        ORDER.wait(self.cuda_stream, event.clock)

    def record_event(self, event: Event | None = None) -> Event:
        event = event or Event()
        event.record(self)
        return event

    def synchronize(self) -> None:
        STATE.waits("Stream.synchronize")
        MEMORY.collect()
        ORDER.host_waits(ORDER.clock(self.cuda_stream))

    def query(self) -> bool:
        return True


class Event:
    """An event, with the time at which it was recorded."""

    def __init__(
        self, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False
    ) -> None:
        self.timing, self.recorded, self.at = enable_timing, False, 0.0
        self.clock: dict[int, int] = {}

    def record(self, stream: Stream | None = None) -> None:
        assert stream is None or isinstance(stream, Stream)
        self.recorded, self.at = True, time.perf_counter()
        self.clock = dict(ORDER.clock((stream or current_stream()).cuda_stream))

    def wait(self, stream: Stream | None = None) -> None:
        (stream or current_stream()).wait_event(self)

    def synchronize(self) -> None:
        STATE.waits("Event.synchronize")
        MEMORY.collect()
        ORDER.host_waits(self.clock)

    def query(self) -> bool:
        return True

    def elapsed_time(self, end: Event) -> float:
        if not (self.timing and end.timing):
            raise ValueError("Both events must be created with argument 'enable_timing=True'.")
        if not (self.recorded and end.recorded):
            raise RuntimeError("Both events must be recorded before calculating elapsed time.")
        return 1e3 * (end.at - self.at)


class ExternalStream(Stream):
    """torch.cuda.ExternalStream"""

    def __init__(self, stream_ptr: int, device: Any = None) -> None:
        self.device, self.cuda_stream = torch.device("cuda", 0), stream_ptr


_DEFAULT = Stream()


def current_stream(device: Any = None) -> Stream:
    _index(device)
    return getattr(_local, "stream", _DEFAULT)


@contextlib.contextmanager
def stream(chosen: Stream | None) -> Iterator[None]:
    before = current_stream()
    _local.stream = chosen or before
    try:
        yield
    finally:
        _local.stream = before


def _index(device: Any) -> int:
    if device is None:
        return 0
    index = device if isinstance(device, int) else torch.device(device).index or 0
    if not isinstance(device, int) and torch.device(device).type != "cuda":
        raise ValueError(f"Expected a cuda device, but got: {device}")
    if index != 0:
        raise RuntimeError("CUDA error: invalid device ordinal")
    return index


class Device:
    """torch.cuda.device"""

    def __init__(self, device: Any) -> None:
        _index(device)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


class Graph:
    """torch.cuda.CUDAGraph"""

    def __init__(self, keep_graph: bool = False) -> None:
        self.recording: Recording | None = None

    def capture_begin(self, pool: Any = None, capture_error_mode: str = "global") -> None:
        if capture_error_mode not in ("global", "thread_local", "relaxed"):
            raise RuntimeError(f"Unknown capture error mode. Expected `global`, got {capture_error_mode}")
        if current_stream() is _DEFAULT:
            raise RuntimeError("CUDA graphs must be captured on a non-default stream.")
        assert STATE.recording is None
        self.recording = STATE.recording = Recording()
        MEMORY.keep = True

    def capture_end(self) -> None:
        STATE.recording, MEMORY.keep = None, False

    def replay(self) -> None:
        if self.recording is None:
            raise RuntimeError("Called CUDAGraph::replay without a preceding successful capture.")
        self.recording.replay()

    def reset(self) -> None:
        self.recording = None

    def pool(self) -> tuple[int, int]:
        return (0, 1)


@contextlib.contextmanager
def graph(
    cuda_graph: Graph, pool: Any = None, stream: Any = None, capture_error_mode: str = "global"
) -> Iterator[None]:
    torch.cuda.synchronize()
    with torch.cuda.stream(stream or Stream()):
        cuda_graph.capture_begin(capture_error_mode=capture_error_mode)
        try:
            yield
        finally:
            cuda_graph.capture_end()


def _synchronize(device: Any = None) -> None:
    _index(device)
    STATE.waits("torch.cuda.synchronize")
    MEMORY.check()
    ORDER.host_waits(ORDER.everything())


def _set_sync_debug_mode(mode: str) -> None:
    if mode not in ("default", "warn", "error"):
        raise RuntimeError(
            f"invalid value of debug_mode, expected one of `default`, `warn`, `error`, got {mode}"
        )
    STATE.may_wait = mode != "error"


PROPERTIES = SimpleNamespace(
    name="Stand-in", major=9, minor=0, multi_processor_count=3, total_memory=80 << 30, L2_cache_size=1 << 10
)
NAMES = {
    "_lazy_init": lambda: None,
    "_sleep": lambda cycles: int(cycles),
    "is_available": lambda: True,
    "is_initialized": lambda: True,
    "device_count": lambda: 1,
    "current_device": lambda: 0,
    "get_rng_state": lambda device=None: torch.get_rng_state(),
    "set_rng_state": lambda state, device=None: torch.set_rng_state(state),
    "get_device_name": lambda device=None: PROPERTIES.name,
    "get_device_capability": lambda device=None: (9, 0),
    "get_device_properties": lambda device=None: PROPERTIES,
    "mem_get_info": lambda device=None: (8 << 30, 80 << 30),
    "memory_reserved": lambda device=None: 0,
    "is_current_stream_capturing": lambda: STATE.recording is not None,
    "set_sync_debug_mode": _set_sync_debug_mode,
    "synchronize": _synchronize,
    "current_stream": current_stream,
    "default_stream": lambda device=None: _DEFAULT,
    "stream": stream,
    "Stream": Stream,
    "ExternalStream": ExternalStream,
    "Event": Event,
    "device": Device,
    "CUDAGraph": Graph,
    "graph": graph,
}


def install(library: Path) -> None:
    """Put the stand-in in torch.cuda's place, for the rest of the process; `library` is guard.cpp's."""
    guard = ctypes.CDLL(str(library))
    guard.standin_register()
    guard.standin_next_freed.restype = ctypes.c_void_p
    MEMORY.library = guard
    MEMORY.stream = lambda: current_stream().cuda_stream
    for name, value in NAMES.items():
        setattr(torch.cuda, name, value)
    torch._C._cuda_getDevice = lambda: 0  # type: ignore[attr-defined]
    torch.Tensor.record_stream = record_stream  # type: ignore[method-assign,assignment]
