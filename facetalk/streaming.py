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
from facetalk.mesh.pose import POSE_NAMES
from facetalk.motion import Motion
from facetalk.pose.generator import HeadMotion
from facetalk.style import StyleFilter
from facetalk.tongue import LiveContacts, Tongue
from facetalk.units import SAMPLE_RATE


class Engine(Protocol):
    """What turns sound into curves: :class:`facetalk.native.NativeStream`,
    :class:`facetalk.torch_backend.TorchEngine`."""

    @property
    def latency(self) -> float:
        """Seconds from a frame's middle to when all of the sound that it needs was pushed."""

    def push(self, samples: Float32) -> Float32:
        """Take (n,) samples, give the curves (m, E) of the frames that are ready."""

    def finish(self, progress: Callable[[int, int], None] | None = None) -> Float32:
        """The curves of the frames that were still waiting; ``progress`` is told (frames done, in all)."""


def run_through(engine: Engine, sound: Iterable[Float32], *, progress: bool) -> Float32:
    """The curves (T, E) of a recording of 16 kHz in blocks, with a bar on stderr if asked for."""
    parts = []
    with tqdm(desc="motion", unit="frame", disable=not progress or not sys.stderr.isatty()) as bar:

        def tell(done: int, frames: int) -> None:
            bar.total = frames
            bar.update(done - bar.n)

        for block in sound:
            parts.append(engine.push(block))
            bar.update(len(parts[-1]))
        parts.append(engine.finish(tell))
    return np.concatenate(parts)


@functools.cache
def resampling_lag(rate: float) -> float:
    """Seconds by which soxr's output lags at most behind what it was given: it works in blocks of its own."""
    stream, step, made, most = soxr.ResampleStream(rate, SAMPLE_RATE, 1), max(1, int(rate / 200)), 0, 0.0
    silence = np.zeros(step, np.float32)
    for count in range(1, 400):
        made += len(stream.resample_chunk(silence))
        most = max(most, count * step / rate - made / SAMPLE_RATE)
    return most


class _Made(Protocol):
    """Makes something of sound of 16 kHz, frame by frame."""

    def push(self, samples: Float32) -> Float32:
        """(n,) samples -> (m, ...) of the frames that they complete."""

    def finish(self, frames: int) -> Float32:
        """Of the frames up to number ``frames`` that were still waiting."""


class _AtAnyRate:
    """The same for sound of any rate.

    Args:
        make: what makes it, told how much later than the sound it hears it, seconds: what a resampler has
            not given yet cannot be listened to.
        rate: of the sound.
    """

    def __init__(self, make: Callable[[float], _Made], rate: float) -> None:
        self._resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1) if rate != SAMPLE_RATE else None
        self._made = make(0.0 if self._resampler is None else resampling_lag(rate))

    def push(self, samples: Float32) -> Float32:
        """Take (n,) samples, give what is made of the frames that they complete."""
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(samples)
        return self._made.push(samples)

    def finish(self, frames: int) -> Float32:
        """What is made of the frames up to number ``frames`` that were still waiting."""
        if self._resampler is None:
            return self._made.finish(frames)
        rest = self._made.push(self._resampler.resample_chunk(np.zeros(0, np.float32), last=True))
        return np.concatenate([rest, self._made.finish(frames)])


class LiveHead(_AtAnyRate):
    """The head's motion, poses (m, 6), for sound of any rate; arguments as those of :class:`HeadMotion`."""

    def __init__(self, fps: float, seed: int, rate: float, *, look_ahead: float, amount: float) -> None:
        super().__init__(
            lambda lag: HeadMotion(fps, seed, look_ahead=max(look_ahead - lag, 0.0), amount=amount),
            rate,
        )


class LiveTongue(_AtAnyRate):
    """The tongue's contacts (m, 2) for sound of any rate; arguments as those of :class:`LiveContacts`."""

    def __init__(
        self, tongue: Tongue, hear: Callable[[Float32], Float32], fps: float, rate: float, look_ahead: float
    ) -> None:
        super().__init__(lambda lag: LiveContacts(tongue.network, hear, fps, look_ahead - lag), rate)
        self.reach = tongue.reach


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
        tongue: LiveTongue | None = None,
    ) -> None:
        self._engine, self.fps, self.rate = engine, fps, rate
        self._identity, self._provenance = identity, provenance
        self._style, self._head, self._tongue = style, head, tongue
        self._nothing = np.zeros((0, curves), np.float32)
        # What waits for the others of its frame.
        self._curves, self._poses = self._nothing, np.zeros((0, len(POSE_NAMES)), np.float32)
        self._contacts = np.zeros((0, len(CONTACTS)), np.float32)
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
        curves = self._engine.push(sound)
        poses = None if self._head is None else self._head.push(sound)
        return self._motion(curves, poses, None if self._tongue is None else self._tongue.push(sound))

    def finish(self) -> Motion:
        """The sound is over: the frames that were still waiting; a second call gives none."""
        if self._over:
            return self._motion(self._nothing)
        curves = self._engine.finish()
        self._over = True
        frames = self._sampled + len(curves)
        poses = None if self._head is None else self._head.finish(frames)
        return self._motion(curves, poses, None if self._tongue is None else self._tongue.finish(frames))

    def __enter__(self) -> LiveStream:
        """The stream itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take no more sound."""
        self._over = True

    def _motion(
        self, curves: Float32, poses: Float32 | None = None, contacts: Float32 | None = None
    ) -> Motion:
        """The frames that are whole with these."""
        self._sampled += len(curves)
        styled, origin = self._style.apply(curves), dict(self._provenance)
        self._curves = np.concatenate([self._curves, styled])
        count = len(self._curves)
        if self._head is not None:
            self._poses = self._poses if poses is None else np.concatenate([self._poses, poses])
            count = min(count, len(self._poses))
        if self._tongue is not None:
            self._contacts = (
                self._contacts if contacts is None else np.concatenate([self._contacts, contacts])
            )
            count = min(count, len(self._contacts))
        codes, pose, tongue = self._curves[:count], None, None
        if self._head is not None:
            pose, self._poses = self._poses[:count], self._poses[count:]
        if self._tongue is not None:
            tongue = self._tongue.reach.weights(self._contacts[:count], codes)
            self._contacts = self._contacts[count:]
        self._curves = self._curves[count:]
        return Motion(codes, self.fps, self._identity, origin, pose, tongue)
