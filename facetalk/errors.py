"""Errors that a person can act on."""

from __future__ import annotations


class InputError(ValueError):
    """Something that the user gave cannot be used.

    The message is one line that says what was wrong, where, and what to do. The command line prints it as
    ``error: ...`` and exits with status 2; library users catch it as a ``ValueError``.
    """


class ExtensionError(ImportError):
    """The compiled core ``facetalk._C`` is missing or cannot be loaded; the message says why."""


class HearingWarning(UserWarning):
    """A recording was read, but not all is well with its sound: silence, clipping, parts that are missing.

    ``warnings.warn`` gives it to library users; the command line prints it as ``warning: ...`` and goes on.
    """


class NotInstalledError(InputError):
    """A program, library or package of data that is optional is not there; the message says how to get it."""
