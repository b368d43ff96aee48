"""Silence around a recording, so that a face comes from rest and goes to rest.

A recording that was cut in a word has the mouth open in its first or last frame, where an animation then
begins or stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from facetalk.arguments import real_number
from facetalk.arrays import Float32
from facetalk.audio.voicing import measure
from facetalk.errors import InputError
from facetalk.units import MAX_PAD, SAMPLE_RATE

DEFAULT_PAD = 0.2
"""Seconds put where a recording is cut hard: mouths close, or open for a word, in about as much."""

_HUSH = 1.2e-4
"""Standard deviation of near-silence, -78 dB: rooms are never digitally silent."""
_NEAR_S = 0.15
"""A voice this near to an end has the mouth open there: it takes as much to close."""
_LOUD_DB = -20.0
"""What of a voice counts, against the whole recording; rooms are fainter."""
_SILENT = 1e-8
"""Power under which nothing is loud."""


def hush(seconds: float) -> tuple[Float32, Float32]:
    """Near-silence to put before and after a recording, ``seconds`` each, always the same."""
    size = (2, round(seconds * SAMPLE_RATE))
    noise = np.random.default_rng(0).normal(0.0, _HUSH, size).astype(np.float32)
    return noise[0], noise[1]


class Padded:
    """A recording with near-silence before and after it, to iterate over as over the recording.

    Args:
        sound: blocks of 16 kHz mono; iterated anew each time.
        before: seconds.
        after: seconds.

    Attributes:
        seconds: length of the recording alone, known when it was heard to its end; 0 before.
    """

    def __init__(self, sound: Iterable[Float32], before: float, after: float) -> None:
        self._sound, self._before, self._after = sound, before, after
        self.seconds = 0.0

    def __iter__(self) -> Iterator[Float32]:
        """Blocks of 16 kHz mono."""
        if self._before:
            yield hush(self._before)[0]
        samples = 0
        for block in self._sound:
            samples += len(block)
            yield block
        self.seconds = samples / SAMPLE_RATE
        if self._after:
            yield hush(self._after)[1]


def padding(sound: Iterable[Float32], pad: float | None) -> tuple[float, float]:
    """Seconds to put before and after a recording.

    Args:
        sound: blocks of 16 kHz mono.
        pad: seconds on both sides; None is :data:`DEFAULT_PAD` on the sides where the recording is cut in a
            word, which takes a pass over it.

    Raises:
        InputError: ``pad`` is no number of seconds in [0, 60].
    """
    if pad is None:
        first, last = cut_hard(sound)
        return DEFAULT_PAD * first, DEFAULT_PAD * last
    seconds = real_number("pad", pad)
    if not 0.0 <= seconds <= MAX_PAD:
        raise InputError(f"pad must lie in 0..{MAX_PAD:g} seconds, got {seconds:g}")
    return seconds, seconds


def cut_hard(sound: Iterable[Float32]) -> tuple[bool, bool]:
    """Whether a recording starts, and ends, in a word or so near to one that the mouth is still open.

    Args:
        sound: blocks of 16 kHz mono.
    """
    near = round(_NEAR_S * SAMPLE_RATE)
    first = last = np.zeros(0, np.float32)
    squares, count = 0.0, 0
    for block in sound:
        squares += float(np.square(block, dtype=np.float64).sum())
        count += len(block)
        if len(first) < near:
            first = np.concatenate([first, block[: near - len(first)]])
        last = np.concatenate([last, block[-near:]])[-near:]
    power = squares / max(count, 1)
    if count < near or power < _SILENT:
        return False, False
    return _in_a_word(first, power), _in_a_word(last, power)


def _in_a_word(edge: Float32, power: float) -> bool:
    """Whether there is a voice in the sound beside an edge."""
    floor = power * 10.0 ** (_LOUD_DB / 10.0)
    decibels, voiced = measure(edge.astype(np.float64))
    return bool((voiced & (decibels > 10.0 * np.log10(floor))).any())
