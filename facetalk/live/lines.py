"""Frames as lines of JSON on standard output."""

from __future__ import annotations

import os
import select

from facetalk.live.frame import Frame, Sender


class LineSender(Sender):
    """One line of JSON a frame.

    A line is shorter than what a pipe that has any room takes at once (``PIPE_BUF``), so asking for room is
    enough to know that writing does not wait.

    Args:
        where: name for messages.
        descriptor: open file to write to; not closed here.
        wait: wait for a slow reader instead of dropping frames.
    """

    def __init__(self, where: str = "stdout", descriptor: int = 1, *, wait: bool = False) -> None:
        self.where, self._descriptor, self._wait = where, descriptor, wait

    def send(self, frame: Frame) -> None:
        """See :class:`Sender`."""
        line = (frame.to_json() + "\n").encode()
        assert len(line) <= select.PIPE_BUF
        ready = select.select([], [self._descriptor], [], None if self._wait else 0.0)[1]
        if not ready:
            self.dropped += 1
            self.trouble = "the reader is slower than the frames come"
            return
        self.trouble = ""
        try:
            while line:  # a file on a full disk may take a part
                line = line[os.write(self._descriptor, line) :]
        except OSError as error:
            error.filename = self.where  # the system knows a number alone
            raise

    def close(self) -> None:
        """Nothing is held back, so nothing is left to do."""
