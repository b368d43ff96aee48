"""The person in a capture: by scans, or by pictures, which show points only near a surface that is known."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from facetalk.arrays import Float32
from facetalk.errors import InputError
from facetalk.fitting.identity import fit_identity
from facetalk.fitting.options import FitOptions
from facetalk.fitting.sequence import Model, as_head
from facetalk.fitting.views import Capture, swept

__all__ = ["find_person", "rounds_of"]

_FRAMES = 3  # that a person is found by, which should be near neutral
_REACHES_M = (0.012, 0.006)  # to either side of what landmarks say, and of what points there say
_ROUNDS, _OF_A_LOOK = 4, 2  # by scans or landmarks; by what a look at pictures gives


def rounds_of(capture: Capture) -> int:
    """How many rounds :func:`find_person` tells of."""
    return _ROUNDS + (0 if capture.scans is not None else _OF_A_LOOK * len(_REACHES_M))


def find_person(
    capture: Capture,
    model: Model,
    fps: float,
    options: FitOptions,
    progress: Callable[[int], None] = lambda rounds: None,
    coefficients: int = 30,
) -> Float32:
    """The identity code (L,) of who is seen in the first frames.

    Pictures alone are looked at twice: landmarks tell about what face it is, points around it tell more, and
    points around that one the rest.

    Args:
        capture: what was recorded.
        model: whose code is wanted.
        fps: frames per second.
        options: weights of the fit.
        progress: called with how many rounds are done.
        coefficients: how many of the built-in head's leading ones are looked for.

    Raises:
        InputError: landmarks are all there is, which do not tell a person, or points that are no head's.
    """
    head = as_head(model)
    marks = None if capture.marks is None or capture.eye is not None else capture.marks[:_FRAMES]
    weighed = capture.weighed(options)
    given: dict[str, Any] = {"coefficients": coefficients, "unit": capture.unit, "marks": marks}
    if capture.scans is not None:
        scans = [capture.scans[t] for t in range(min(_FRAMES, len(capture.scans)))]
        return fit_identity(scans, head, rounds=_ROUNDS, options=weighed, progress=progress, **given)
    if capture.photos is None or marks is None:
        raise InputError(
            "--identity fit takes scans, or pictures of two cameras; landmarks alone do not tell a person"
        )
    code = fit_identity(None, head, rounds=_ROUNDS, options=weighed, progress=progress, **given)
    done = _ROUNDS
    for reach in _REACHES_M:
        seen = capture.look(model, fps, code, weighed, reach_m=reach, frames=_FRAMES)
        assert seen is not None
        code = fit_identity(
            [seen[t] for t in range(len(marks))], head, rounds=_OF_A_LOOK, options=swept(weighed), start=code,
            progress=functools.partial(_onwards, progress, done), **given,
        )  # fmt: skip
        done += _OF_A_LOOK
    return code


def _onwards(progress: Callable[[int], None], before: int, rounds: int) -> None:
    progress(before + rounds)
