"""From a source of sound through a stream of motion to receivers, by the clock of the sound.

Frame ``i`` has its middle at ``(i + 0.5) / fps`` seconds of the sound. It is due when the sound that it needs
was heard: its time and the stream's latency after the beginning. One that is later than :data:`LATE_S` is
dropped and counted, unless it is the newest there is: a receiver that is shown something old is better off
than one that is shown nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from facetalk.arrays import Float32
from facetalk.data.arkit import ArkitFace
from facetalk.live.frame import Frame, Sender
from facetalk.live.sources import Source
from facetalk.motion import Motion

LATE_S = 0.1
"""Seconds after which a frame is too late to be of use."""


class MotionSource(Protocol):
    """What ``FaceTalk.stream`` gives."""

    @property
    def latency(self) -> float:
        """Seconds from a frame's middle to when the sound that it needs was pushed."""

    def push(self, samples: Float32) -> Motion:
        """Take samples, give the frames that they complete."""

    def finish(self) -> Motion:
        """The frames that were still waiting."""


class Session:
    """One run of live motion.

    Args:
        stream: gives the motion of the sound that is pushed.
        face: turns it into ARKit's blendshapes.
        senders: take the frames.
        warn: told once of every trouble of a receiver.
        tick: called with the number of frames whenever some were dealt with.

    Attributes:
        frames: frames of the motion so far.
        late: those of them that were dropped because they were late.
    """

    def __init__(
        self,
        stream: MotionSource,
        face: ArkitFace,
        senders: Sequence[Sender],
        *,
        warn: Callable[[str], None] = lambda text: None,
        tick: Callable[[int], None] = lambda frames: None,
    ) -> None:
        self._stream, self._face, self._senders = stream, face, senders
        self._warn, self._tick = warn, tick
        self._told: set[str] = set()
        self.frames = self.late = 0

    def run(self, source: Source) -> None:
        """Send everything that a source gives, to its end.

        Raises:
            InputError: of the source.
            BrokenPipeError: a receiver is gone for good.
        """
        pushed, begin = 0, None
        for chunk in source:
            pushed += len(chunk.samples)
            # Anew with every piece, so that sound cards whose clocks differ from ours never drift apart.
            begin = None if chunk.due is None else chunk.due - pushed / source.rate
            self._send(self._stream.push(chunk.samples), begin)
        self._send(self._stream.finish(), begin)

    def _send(self, piece: Motion, begin: float | None) -> None:
        if not len(piece):
            return
        weights, angles = self._face(np.asarray(piece.expressions), piece.pose, piece.tongue)
        for row in range(len(piece)):
            index = self.frames
            self.frames += 1
            frame = Frame(index, (index + 0.5) / piece.fps, weights[row], angles[row])
            if begin is not None:
                wait = begin + frame.time + self._stream.latency - time.monotonic()
                if wait > 0.0:
                    time.sleep(wait)
                elif -wait > LATE_S and row + 1 < len(piece):
                    self.late += 1
                    continue
            for sender in self._senders:
                sender.send(frame)
                self._tell(sender)
        self._tick(len(piece))

    def _tell(self, sender: Sender) -> None:
        text = f"{sender.where}: {sender.trouble}"
        if sender.trouble and text not in self._told:
            self._told.add(text)
            self._warn(text)

    def report(self, source: Source) -> str:
        """What came of it, in one line."""
        parts = [f"{self.frames - self.late} frames sent"]
        if self.late:
            parts.append(f"{self.late} dropped, being late")
        for sender in self._senders:
            if sender.dropped:
                parts.append(f"{sender.dropped} dropped by {sender.where}")
        if source.lost:
            parts.append(f"{source.lost:.1f} s of sound lost, this machine being too slow")
        return f"{source.name}: {', '.join(parts)}"
