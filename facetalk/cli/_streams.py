"""Standard streams that are closed, or that nobody reads to the end."""

from __future__ import annotations

import contextlib
import os
import sys

from facetalk.errors import InputError

__all__ = ["flush_output", "give_up_output", "open_closed"]


def open_closed() -> None:
    """Let nobody hear a standard stream that is closed (``2>&-``).

    A file that is opened next would get its number, and what a library says there would be written into it;
    and whatever is printed would be printed to None.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, which is this one
        if number and getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # as long as we are


def flush_output() -> None:
    """Write what was printed; at the end of the process it would be too late to say that it cannot be.

    Nothing where an error is on its way, which says more.

    Raises:
        BrokenPipeError: nobody reads it any more.
        InputError: there is no space for it.
    """
    if not isinstance(sys.exception(), SystemExit | None):
        return
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InputError(f"cannot write to standard output: {error.strerror or error}") from error


def give_up_output() -> None:
    """Let go what cannot be printed, before Python tries again and complains."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
