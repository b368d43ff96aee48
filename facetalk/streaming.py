"""Sound that is still going on, as motion: what ``FaceTalk.stream`` gives.

Two engines do the same to 1e-4: the C library, which takes a few milliseconds a frame, and torch, which is
its reference, runs on any device and takes any model.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike
from tqdm import tqdm

from facetalk.arrays import Float32
from facetalk.audio.hearing import Notes
from facetalk.audio.samples import samples_and_rate
from facetalk.errors import InputError
from facetalk.motion import Motion


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
    ) -> None:
        self._engine, self.fps, self.rate = engine, fps, rate
        self._identity, self._provenance = identity, provenance
        self._nothing = np.zeros((0, curves), np.float32)
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
        return self._motion(self._engine.push(np.ascontiguousarray(data.mean(axis=1), np.float32)))

    def finish(self) -> Motion:
        """The sound is over: the frames that were still waiting; a second call gives none."""
        curves = self._nothing if self._over else self._engine.finish()
        self._over = True
        return self._motion(curves)

    def __enter__(self) -> LiveStream:
        """The stream itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take no more sound."""
        self._over = True

    def _motion(self, curves: Float32) -> Motion:
        return Motion(curves, self.fps, self._identity, dict(self._provenance))
