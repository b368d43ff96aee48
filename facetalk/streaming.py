"""Sound that is still going on, as motion: what ``FaceTalk.stream`` gives.

Two engines do the same to 1e-4: the C library, which takes a few milliseconds a frame, and torch, which is
its reference, runs on any device and takes any model.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import soxr
from numpy.typing import ArrayLike
from tqdm import tqdm

from facetalk.arrays import Float32
from facetalk.audio.hearing import Notes
from facetalk.audio.samples import samples_and_rate
from facetalk.data.tongue import CONTACTS
from facetalk.errors import InputError
from facetalk.frames import Frames
from facetalk.mesh.pose import POSE_NAMES
from facetalk.motion import Motion
from facetalk.nphm.head.tongue import Reach
from facetalk.pose.generator import HeadMotion
from facetalk.style import StyleFilter
from facetalk.units import SAMPLE_RATE


class Engine(Protocol):
    """What turns sound into curves: :class:`facetalk.native.NativeStream`,
    :class:`facetalk.torch_backend.TorchEngine`."""

    @property
    def latency(self) -> float:
        """Seconds from a frame's middle to when all of the sound that it needs was pushed."""

    def push(self, samples: Float32) -> Frames:
        """Take (n,) samples, give the frames that are ready."""

    def finish(self, progress: Callable[[int, int], None] | None = None) -> Frames:
        """The frames that were still waiting; ``progress`` is told (frames done, in all)."""


def run_through(engine: Engine, sound: Iterable[Float32], *, progress: bool) -> Frames:
    """The frames of a recording of 16 kHz in blocks, with a bar on stderr if asked for."""
    parts = []
    with tqdm(desc="motion", unit="frame", disable=not progress or not sys.stderr.isatty()) as bar:

        def tell(done: int, frames: int) -> None:
            bar.total = frames
            bar.update(done - bar.n)

        for block in sound:
            parts.append(engine.push(block))
            bar.update(len(parts[-1].curves))
        parts.append(engine.finish(tell))
    return Frames.joined(parts)


@functools.cache
def resampling_lag(rate: float) -> float:
    """Seconds by which soxr's output lags at most behind what it was given: it works in blocks of its own."""
    stream, step, made, most = soxr.ResampleStream(rate, SAMPLE_RATE, 1), max(1, int(rate / 200)), 0, 0.0
    silence = np.zeros(step, np.float32)
    for count in range(1, 400):
        made += len(stream.resample_chunk(silence))
        most = max(most, count * step / rate - made / SAMPLE_RATE)
    return most


class LiveHead:
    """The head's motion, poses (m, 6), for sound of any rate.

    It hears no later than the face: what a resampler has not given yet is taken from the look-ahead.

    Args:
        fps, seed, look_ahead, amount: as those of :class:`HeadMotion`.
        rate: of the sound, Hz.
    """

    def __init__(self, fps: float, seed: int, rate: float, *, look_ahead: float, amount: float) -> None:
        self._resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1) if rate != SAMPLE_RATE else None
        lag = 0.0 if self._resampler is None else resampling_lag(rate)
        self._made = HeadMotion(fps, seed, look_ahead=max(look_ahead - lag, 0.0), amount=amount)

    def push(self, samples: Float32) -> Float32:
        """Take (n,) samples, give the poses of the frames that they complete."""
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(samples)
        return self._made.push(samples)

    def finish(self, frames: int) -> Float32:
        """The poses of the frames up to number ``frames`` that were still waiting."""
        if self._resampler is None:
            return self._made.finish(frames)
        rest = self._made.push(self._resampler.resample_chunk(np.zeros(0, np.float32), last=True))
        return np.concatenate([rest, self._made.finish(frames)])


class LiveStream:
    """A face that speaks along with sound as it comes; from ``FaceTalk.stream``, for one thread.

    Frame ``i`` is given as soon as what lies :attr:`latency` seconds after its middle, ``(i + 0.5) / fps``,
    was pushed. The frames do not depend on how the sound is cut into pieces, and memory does not grow.

        with model.stream() as stream:
            for block in microphone:
                show(stream.push(block).expressions)
            show(stream.finish().expressions)
    """

    def __init__(
        self,
        engine: Engine,
        *,
        curves: int,
        fps: float,
        rate: float,
        identity: Float32,
        provenance: dict[str, Any],
        style: StyleFilter,
        head: LiveHead | None,
        reach: Reach | None = None,
    ) -> None:
        self._engine, self.fps, self.rate = engine, fps, rate
        self._identity, self._provenance = identity, provenance
        self._style, self._head, self._reach = style, head, reach
        contacts = None if reach is None else np.zeros((0, len(CONTACTS)), np.float32)
        self._nothing = Frames(np.zeros((0, curves), np.float32), contacts)
        # What waits for the others of its frame.
        self._frames, self._poses = self._nothing, np.zeros((0, len(POSE_NAMES)), np.float32)
        self._sampled = 0
        self._notes = Notes("sound")
        self._over = False

    @property
    def latency(self) -> float:
        """Seconds from a frame's middle to when all of the sound that it needs was pushed."""
        return self._engine.latency

    def push(self, samples: ArrayLike) -> Motion:
        """Take the next samples and give the frames that they complete, often none.

        Args:
            samples: (n,) or (n, channels), any n, 0 too; floating in [-1, 1] or integers at full scale.

        Raises:
            InputError: samples of another form or not finite, of which none is taken; or sound after the end.
        """
        if self._over:
            raise InputError("the stream was finished; start another one for more sound")
        array = np.asarray(samples)
        if array.size == 0:
            return self._motion(self._nothing)
        data, _ = samples_and_rate((array, self.rate), self._notes)
        sound = np.ascontiguousarray(data.mean(axis=1), np.float32)
        frames = self._engine.push(sound)
        return self._motion(frames, None if self._head is None else self._head.push(sound))

    def finish(self) -> Motion:
        """The sound is over: the frames that were still waiting; a second call gives none."""
        if self._over:
            return self._motion(self._nothing)
        frames = self._engine.finish()
        self._over = True
        count = self._sampled + len(frames.curves)
        return self._motion(frames, None if self._head is None else self._head.finish(count))

    def __enter__(self) -> LiveStream:
        """The stream itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take no more sound."""
        self._over = True

    def _motion(self, frames: Frames, poses: Float32 | None = None) -> Motion:
        """The frames that are whole with these."""
        self._sampled += len(frames.curves)
        styled = Frames(self._style.apply(frames.curves), frames.contacts)
        curves, contacts, _ = Frames.joined([self._frames, styled])
        count, pose, tongue = len(curves), None, None
        if self._head is not None:
            known = self._poses if poses is None else np.concatenate([self._poses, poses])
            count = min(count, len(known))
            pose, self._poses = known[:count], known[count:]
        if self._reach is not None and contacts is not None:
            tongue = self._reach.weights(contacts[:count], curves[:count])
        self._frames = Frames(curves[count:], None if contacts is None else contacts[count:])
        return Motion(curves[:count], self.fps, self._identity, dict(self._provenance), pose, tongue)
