"""What is not well with a recording, found while it is read: silence, near-silence, clipping, channels that
are silent or cancel.
"""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np

from facetalk.arrays import Bool, Float32
from facetalk.errors import HearingWarning

FAINT = 1e-5
"""Mean square (-50 dB of full scale) below which a recording is fainter than speech at any usual gain."""
_SILENT_PEAK = 1e-4
"""Amplitude (-80 dB) that dither and the noise of a converter do not reach."""
_FULL = 0.9999
"""Amplitude from which on a sample of 16 bits is at the end of its scale."""
_NEAR = 0.9
"""Share of the peak from which on a sample is on its way to it."""
_CLIPPED = 1e-3
"""Share of samples at the end of the scale from which on one hears it."""
_BLOCK_S = 0.4
"""Seconds of the pieces among which the loudest decides on faintness (as in ITU-R BS.1770)."""


class Notes:
    """What was said of a recording: each thing once, as :class:`HearingWarning` and in ``said``."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.said: list[str] = []

    def say(self, note: str) -> None:
        """Warn, unless the same was said before."""
        if note not in self.said:
            self.said.append(note)
            warnings.warn(f"{self.name}: {note}" if self.name else note, HearingWarning, stacklevel=3)


@dataclasses.dataclass
class Loudness:
    """Peak, loudest piece and clipping of sound that comes in blocks of (n, channels)."""

    rate: int
    count: int = 0
    peak: float = 0.0
    loudest: float = 0.0
    at_end: int = 0
    near_end: int = 0
    at_peak: int = 0
    near_peak: int = 0

    def update(self, block: Float32) -> None:
        """Take in the next block."""
        size = np.abs(block)
        peak = float(size.max(initial=0.0))
        if peak > self.peak * 1.000001:
            self.peak, self.at_peak, self.near_peak = peak, 0, 0
        self.count += block.shape[0]
        self.at_end += _runs(size >= _FULL, 2)
        self.near_end += _most((size >= _NEAR) & (size < _FULL))
        if self.peak > 0.05:
            top = size >= self.peak * 0.999999
            self.at_peak += _runs(top, 3)
            self.near_peak += _most((size >= self.peak * _NEAR) & ~top)
        step = max(1, round(_BLOCK_S * self.rate))
        # The mean is the microphone's, not sound; a piece shorter than half a step tells too little.
        for start in range(0, len(block), step):
            piece = block[start : start + step]
            if len(piece) >= step // 2 or self.count <= step:
                self.loudest = max(self.loudest, float(piece.var(axis=0, dtype=np.float64).max(initial=0.0)))

    def notes(self) -> list[str]:
        """What there is to say, when all was taken in."""
        said = []
        if self.peak <= _SILENT_PEAK:
            said.append("the sound is silent; the face will not speak")
        elif self.loudest < FAINT:
            decibels = 10 * np.log10(max(self.loudest, 1e-20))
            said.append(
                f"the sound is almost silent ({decibels:.0f} dB of full scale at its loudest, speech is "
                "above -50 dB); the face may hardly move. Record it louder, or give samples at their scale"
            )
        # Waves that were not cut off spend more time on the way to their peaks than there.
        end = self.at_end if self.at_end >= self.near_end else 0
        top = self.at_peak if self.at_peak >= self.near_peak else 0
        clipped = max(end, top) / max(self.count, 1)
        # What hardly moves is no wave that was cut off: a constant is all the time at its own peak.
        if clipped >= _CLIPPED and self.loudest >= FAINT:
            said.append(f"the sound is clipped ({clipped:.1%} of its samples are at the end of the scale)")
        return said


def _most(flags: Bool) -> int:
    return int(flags.sum(axis=0).max(initial=0))


def _runs(flags: Bool, length: int) -> int:
    """Samples in runs of at least ``length`` flags, along time, in the worst channel."""
    if not flags.any() or len(flags) < length:
        return 0
    whole = flags[: len(flags) - length + 1].copy()
    for shift in range(1, length):
        whole &= flags[shift : len(flags) - length + 1 + shift]
    starts = whole.sum(axis=0)
    # A run of n flags has n - length + 1 starts; every run adds its last length - 1 samples.
    ends = (whole[:-1] & ~whole[1:]).sum(axis=0) + whole[-1]
    return int((starts + ends * (length - 1)).max())
