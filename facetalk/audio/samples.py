"""Samples in memory: arrays and tensors of any library, in the layouts that people have them in."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
import numpy.typing as npt

from facetalk.arrays import Float32
from facetalk.audio.containers import MAX_CHANNELS, RATES
from facetalk.audio.hearing import Notes
from facetalk.errors import InputError
from facetalk.reading import one_line

_FLOAT_PEAK = 8.0
"""Floating samples beyond this are integers in disguise; mixes overshoot 1, but not eightfold."""


def samples_and_rate(source: Any, notes: Notes) -> tuple[Float32, float]:
    """``(samples, rate)``, ``(rate, samples)`` or ``{"array": ..., "sampling_rate": ...}`` as (N, channels).

    Floating samples lie in [-1, 1]. Integers are divided by their type's full scale, unsigned ones after
    their middle was taken off. Types of 32 and 64 bits whose values all fit 16 or 24 bits are taken for
    samples of those (a warning says so), since arithmetic and file readers widen integers.

    Raises:
        InputError: another form, a rate out of range, samples that are no finite numbers.
    """
    given, rate = _pair(source)
    if not RATES[0] <= rate <= RATES[1]:
        raise InputError(f"audio rate must be between {RATES[0]} and {RATES[1]} Hz, got {rate:g}")
    array = _array(given)
    if array.ndim == 2 and 1 <= array.shape[0] <= MAX_CHANNELS < array.shape[1]:
        array = array.T  # (channels, N), as torchaudio has them
    elif array.ndim == 2 and array.shape[0] == 1 < array.shape[1]:
        array = array.T
    if array.ndim not in (1, 2) or (array.ndim == 2 and not 1 <= array.shape[1] <= MAX_CHANNELS):
        raise InputError(
            f"audio samples must have shape (N,), (N, channels) or (channels, N), got {array.shape}"
        )
    if array.shape[0] == 0:
        raise InputError("audio has no samples")
    data = _scaled(array, notes).reshape(len(array), -1)
    if not np.isfinite(data).all():
        bad = int(np.argmin(np.isfinite(data).all(axis=1)))
        raise InputError(f"audio has a NaN or infinite sample at {bad / rate:.3f} s")
    return data, rate


def _pair(source: Any) -> tuple[Any, float]:
    if isinstance(source, dict):
        if "array" not in source or "sampling_rate" not in source:
            raise InputError('audio as a dict needs "array" and "sampling_rate"')
        source = (source["array"], source["sampling_rate"])
    if len(source) != 2:
        raise InputError(f"audio as a tuple must be (samples, rate), got {len(source)} entries")
    given, rate = source
    if isinstance(given, numbers.Number) and not isinstance(rate, numbers.Number) and np.ndim(rate):
        given, rate = rate, given  # SciPy's and Gradio's order
    try:
        return given, float(rate)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"audio as a tuple must be (samples, rate): {one_line(error)}") from error


def _array(given: Any) -> npt.NDArray[Any]:
    try:
        if hasattr(given, "detach"):  # a tensor, perhaps with a gradient, perhaps on a device
            given = given.detach().cpu()
            if str(given.dtype) in ("torch.bfloat16", "torch.float16"):
                given = given.float()
        array = np.asarray(given)
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise InputError(f"audio samples cannot be read as an array: {one_line(error)}") from error
    if array.dtype.name == "bfloat16":  # NumPy's extension type of that name
        array = array.astype(np.float32)
    if array.dtype.kind not in "iuf":
        raise InputError(f"audio samples must be numbers, got dtype {array.dtype}")
    return array


def _scaled(array: npt.NDArray[Any], notes: Notes) -> Float32:
    if array.dtype.kind == "f":
        peak = float(np.abs(array[np.isfinite(array)]).max(initial=0.0))
        if peak <= _FLOAT_PEAK:
            return array.astype(np.float32)
        bits = next((bits for bits in (16, 24, 32) if peak <= 2.0 ** (bits - 1)), None)
        if bits is None:
            raise InputError(f"audio samples reach {peak:.3g}; floating ones lie in [-1, 1]")
        notes.say(f"floating samples reach {peak:.6g}, not 1; they are read as integers of {bits} bits")
        return (array / 2.0 ** (bits - 1)).astype(np.float32)
    bits = array.dtype.itemsize * 8
    if array.dtype.kind == "u":
        middle = 2.0 ** (bits - 1)
        return ((array.astype(np.float64) - middle) / middle).astype(np.float32)
    if bits >= 32:
        peak = max(-int(array.min()), int(array.max()) + 1)
        used = next(wide for wide in (16, 24, 32, 64) if peak <= 2 ** (wide - 1))
        if used < bits:
            if peak > 1:
                notes.say(f"samples of type {array.dtype} fit {used} bits and are read at that scale")
            bits = used
    return (array.astype(np.float64) / 2.0 ** (bits - 1)).astype(np.float32)
