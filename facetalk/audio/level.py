"""How loud the speech is, at each moment of a recording.

Wav2Vec 2.0's preprocessor divides a recording by its standard deviation. One number for a whole recording is
set by whatever is loudest: a knock on the microphone, rumble, the nearer of two speakers; speech 15 dB under
it is lost to the encoder. Here the level follows voiced sound near the moment in question. Where that level
lies within a few decibels of the whole recording's, as in any clean clip, the whole recording's is used, so
that such a clip is heard as it always was.

Rumble and offsets are below speech: a recording with much of its power under 60 Hz is high-passed.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.signal import butter, sosfilt, sosfilt_zi

from facetalk.arrays import Bool, Float32, Float64
from facetalk.audio.voicing import FRAME, HOP, measure
from facetalk.units import SAMPLE_RATE

HIGH_PASS_HZ = 60.0
"""Corner of the filter through which a recording with rumble goes."""
RUMBLE_HZ = 200.0
"""Corner of the filter for measuring alone: voices have their first formant above, engines and hum little."""
RUMBLES = 1.25
"""Power of all sound over that above the corner from which on a recording is high-passed (rumble 6 dB under
speech). Others stay as they are."""
_BATCH = 64
"""Frames measured at once, always the same ones, however the sound is cut into blocks."""
_STEP = 5
"""Frames from one point of the level curve to the next, 0.1 s."""
REACH = 50
"""Frames to each side that a point of the curve looks at, 1 s."""
ENOUGH = 6
"""Voiced frames, of those, that make a level; with fewer, neighbouring points stand in."""
_KEEP_DB, _FOLLOW_DB = 6.0, 10.0
"""Deviations from the level of the whole below which it is kept, and above which the local one is taken."""
RANGE_DB = 32.0
"""What is fainter than the loudest voiced sound by more is background and is not raised."""
SCALE_FLOOR = 1e-7
"""Variance that is added before sound is divided by its root, as in Wav2Vec2FeatureExtractor."""
SPREAD_DB = 6.0
"""Spread of voiced frames (10th to 90th percentile) that speech has and hum has not."""


@functools.cache
def _sections(hertz: float) -> Float64:
    """The filter's second-order sections; to design them takes longer than to filter a second of sound."""
    return np.asarray(butter(4, hertz, "highpass", fs=SAMPLE_RATE, output="sos"))


class HighPass:
    """Sound without what lies below speech: a filter that carries its state from call to call.

    It starts as if the first sample had lasted for ever, so that an offset makes no step.
    """

    def __init__(self, hertz: float = HIGH_PASS_HZ) -> None:
        self._sections = _sections(hertz)
        self._state: Float64 | None = None

    def __call__(self, samples: npt.NDArray[Any]) -> Float64:
        """The next (n,) samples, filtered."""
        data = np.asarray(samples, np.float64)
        if not len(data):
            return data
        if self._state is None:
            self._state = sosfilt_zi(self._sections) * data[0]
        out, self._state = sosfilt(self._sections, data, zi=self._state)
        return np.asarray(out)


class Level:
    """Level of a recording, over all and over time, from the samples seen so far, each counted once.

    It keeps five bytes for every 20 ms.

    Attributes:
        count: samples taken in.
    """

    def __init__(self) -> None:
        self.count = 0
        self._total = 0.0
        self._squares = 0.0
        self._squares_above = 0.0
        self._high_pass, self._measured_band = HighPass(), HighPass(RUMBLE_HZ)
        self._waiting = np.zeros(0, np.float64)
        self._decibels: list[Float32] = []
        self._voiced: list[Bool] = []
        self._curve: tuple[int, Float64 | None] = (-1, None)

    @classmethod
    def of(cls, blocks: Iterable[Float32]) -> Level:
        """Measure a recording that comes in blocks, as it is read."""
        level = cls()
        for block in blocks:
            level.update(np.asarray(block, np.float32), level.count)
        return level

    def update(self, samples: Float32, origin: int) -> None:
        """Take in what lies beyond the samples counted before.

        Args:
            samples: (n,) sound as it was read.
            origin: index of ``samples[0]`` in the recording.
        """
        fresh = samples[max(0, self.count - origin) :].astype(np.float64)
        if not len(fresh):
            return
        self.count += len(fresh)
        self._total += float(fresh.sum())
        self._squares += float((fresh**2).sum())
        self._squares_above += float((self._high_pass(fresh) ** 2).sum())
        waiting = np.concatenate([self._waiting, self._measured_band(fresh)])
        batch = (_BATCH - 1) * HOP + FRAME
        while len(waiting) >= batch:
            self._measure(waiting[:batch])
            waiting = waiting[_BATCH * HOP :]
        self._waiting = waiting

    def _measure(self, sound: Float64) -> None:
        decibels, voiced = measure(sound)
        self._decibels.append(decibels)
        self._voiced.append(voiced)

    @property
    def mean(self) -> float:
        """Mean of all samples."""
        return self._total / max(self.count, 1)

    @property
    def variance(self) -> float:
        """Variance of all samples."""
        return max(0.0, self._squares / max(self.count, 1) - self.mean**2)

    @property
    def rumbles(self) -> bool:
        """Whether a good part of the recording's power lies below speech, and must be taken out of it."""
        above = self._squares_above / max(self.count, 1)
        return self.variance > RUMBLES * above

    def scale(self, first: int, last: int, floor: float) -> Float64:
        """What samples ``first`` to ``last`` are multiplied with to have speech at unit variance.

        Args:
            first: index of a sample.
            last: index after the last one.
            floor: variance below which sound is not raised, unless there is speech in it.
        """
        curve = self._points(floor)
        at = (np.arange(first, last) - FRAME / 2) / (HOP * _STEP)
        decibels = np.interp(at, np.arange(len(curve)), curve)
        return np.asarray(1.0 / np.sqrt(10.0 ** (decibels / 10.0) + SCALE_FLOOR))

    def _points(self, floor: float) -> Float64:
        """Level in dB at every tenth of a second."""
        if self._curve[0] != self.count or self._curve[1] is None:
            self._curve = self.count, self._measure_curve(floor)
        return self._curve[1]  # type: ignore[return-value]

    def _measure_curve(self, floor: float) -> Float64:
        power = self._squares_above / max(self.count, 1) if self.rumbles else self.variance
        whole = 10.0 * np.log10(max(power, 1e-12))
        lowest = 10.0 * np.log10(max(floor, 1e-12))
        decibels, voiced = list(self._decibels), list(self._voiced)
        if len(self._waiting) >= FRAME:
            rest = measure(self._waiting)
            decibels.append(rest[0])
            voiced.append(rest[1])
        if not decibels:
            return np.array([max(whole, lowest)])
        return level_curve(np.concatenate(decibels), np.concatenate(voiced), whole, lowest)


def level_curve(decibels: Float32, voiced: Bool, whole: float, lowest: float) -> Float64:
    """Level of speech in dB at every ``_STEP``-th frame.

    Args:
        decibels: (F,) power of every frame.
        voiced: (F,) whether it is voiced.
        whole: level of the whole recording, dB.
        lowest: level below which a recording is taken for silence unless it has speech.
    """
    points = np.arange(0, len(decibels), _STEP)
    local = np.full(len(points), np.nan)
    loudest = float(np.percentile(decibels[voiced], 90)) if voiced.sum() >= ENOUGH else -np.inf
    speech = voiced & (decibels > loudest - RANGE_DB)
    ends = np.concatenate([[0], np.cumsum(speech)])
    values = decibels[speech]
    for index, point in enumerate(points.tolist()):
        first, last = ends[max(0, point - REACH)], ends[min(len(decibels), point + REACH + 1)]
        if last - first >= ENOUGH:
            local[index] = np.median(values[first:last])
    known = np.isfinite(local)
    spread = float(np.ptp(np.percentile(values, [10, 90]))) if len(values) else 0.0
    if not known.any() or spread < SPREAD_DB:
        return np.full(len(points), max(whole, lowest))
    return blend_levels(whole, np.interp(points, points[known], local[known]))


def blend_levels(whole: float, local: Float64) -> Float64:
    """Between the level of the whole and that around a moment, dB: the whole's where they are near."""
    away = local - whole
    part = np.clip((np.abs(away) - _KEEP_DB) / (_FOLLOW_DB - _KEEP_DB), 0.0, 1.0)
    return np.asarray(whole + away * part * part * (3.0 - 2.0 * part))
