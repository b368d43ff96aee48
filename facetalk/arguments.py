"""Numbers as callers give them: Python's, NumPy's, torch's."""

from __future__ import annotations

import math
import operator
from typing import Any

from facetalk.errors import InputError


def whole_number(name: str, value: Any) -> int:
    """An integer of any library as Python's.

    Raises:
        InputError: it is none; the message has the name of the argument.
    """
    try:
        return operator.index(value)
    except TypeError:
        raise InputError(f"{name} must be a whole number, got {value!r}") from None


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
