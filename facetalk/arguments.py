"""Numbers as callers give them: Python's, NumPy's, torch's."""

from __future__ import annotations

import math
import operator
from typing import Any

from facetalk.errors import InputError

_DIGITS = 1000
"""Of a seed at most: Python turns no more than some thousand into a number."""


def whole_number(name: str, value: Any) -> int:
    """An integer of any library as Python's.

    Raises:
        InputError: it is none; the message has the name of the argument.
    """
    try:
        return operator.index(value)
    except TypeError:
        raise InputError(f"{name} must be a whole number, got {value!r}") from None


def seed_after(word: str, text: str) -> int:
    """The seed that ``WORD:SEED`` asks for.

    Args:
        word: what stands before the colon.
        text: the whole.

    Raises:
        InputError: what stands after the colon is no whole number of at least 0; the message begins with
            ``text``.
    """
    rest = text.removeprefix(f"{word}:")
    if not (rest.isascii() and rest.isdigit() and len(rest) <= _DIGITS):
        raise InputError(f"{text}: the part after '{word}:' must be a whole number of at least 0")
    return int(rest)


def real_number(name: str, value: Any) -> float:
    """A finite number of any library as Python's.

    Raises:
        InputError: it is none; the message has the name of the argument.
    """
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise InputError(f"{name} must be a number, got {value!r}") from None
    if not math.isfinite(number):
        raise InputError(f"{name} must be a finite number, got {value!r}")
    return number


LOOK_AHEAD_S = 0.0, 60.0
"""Seconds after a frame's middle that a stream may be asked to hear before it gives the frame."""
WHISPER_AHEAD_S = 1.0
"""And at most where Whisper hears: of the 2 s that it hears for a frame, most lie before."""


def look_ahead_seconds(value: Any) -> float:
    """A stream's ``look_ahead`` as Python's number, whatever will run the stream.

    Raises:
        InputError: it is no number, or not in ``LOOK_AHEAD_S``; the message begins with ``look_ahead``.
    """
    seconds, (least, most) = real_number("look_ahead", value), LOOK_AHEAD_S
    if not least <= seconds <= most:
        raise InputError(f"look_ahead must lie in {least:g}..{most:g} seconds, got {seconds:g}")
    return seconds


def check_whisper_ahead(seconds: float) -> None:
    """Refuse a look-ahead with which Whisper does not hear; infinity is the whole recording.

    Raises:
        InputError: it is longer than ``WHISPER_AHEAD_S``, and not the whole.
    """
    if not math.isinf(seconds) and seconds > WHISPER_AHEAD_S:
        raise InputError(
            f"Whisper hears with a look-ahead of up to {WHISPER_AHEAD_S:g} s, or the whole recording without "
            f"one, got {seconds:g}"
        )
