"""Signals that end a run: when they may, and when they have to wait for a moment."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

_ENDING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)  # Windows knows no SIGHUP


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP came: raised like Ctrl-C, so that whatever cleans up after one does after the other.

    Attributes:
        signum: the signal's number.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class Terminable:
    """While it is open, SIGTERM and SIGHUP raise :class:`Terminated` instead of ending the process.

    Handlers that somebody else installed, and signals that are ignored (``nohup``), are left alone. Outside
    the main thread, where Python runs no handlers, it does nothing.

    Attributes:
        came: what the last signal raised. A compiled library that calls Python may lose it, or turn it into
            an error of its own; so whoever gets an error can ask, while this is open, whether that was
            the reason.
    """

    def __init__(self) -> None:
        self.came: KeyboardInterrupt | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Terminable:
        """Install the handlers."""
        if threading.current_thread() is not threading.main_thread():
            return self
        for number in _ENDING:
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                self._before[number] = signal.signal(number, self._end)
        return self

    def _end(self, signum: int, frame: FrameType | None) -> None:
        self.came = KeyboardInterrupt() if signum == signal.SIGINT else Terminated(signum)
        raise self.came

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Bring the old ones back."""
        # The exception knows the frames it went through, and one of them this object: together they would
        # keep open what a signal came between to open, until a collection that a process that ends may never
        # make.
        self.came = None
        for number, handler in self._before.items():
            signal.signal(number, handler)


class Uninterrupted:
    """While it is open, signals that end a run wait; they are raised again when it closes.

    For the few system calls between which a file would be lost. Python runs handlers in the main thread
    alone, so in other threads there is nothing to hold back.
    """

    def __init__(self) -> None:
        self._waiting: list[int] = []
        self._before: dict[int, Any] = {}

    @property
    def wanted(self) -> bool:
        """Whether a signal waits, for whoever can end early what should not be cut off."""
        return bool(self._waiting)

    def __enter__(self) -> Uninterrupted:
        """Hold signals back."""
        if threading.current_thread() is not threading.main_thread():
            return self
        for number in _ENDING:
            handler = signal.getsignal(number)
            # None: installed by something other than Python, which could not be brought back.
            if handler is not None and handler is not signal.SIG_IGN:
                self._before[number] = handler
                signal.signal(number, self._wait)
        return self

    def _wait(self, signum: int, frame: FrameType | None) -> None:
        self._waiting.append(signum)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let them go."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        for number in dict.fromkeys(self._waiting):
            signal.raise_signal(number)
