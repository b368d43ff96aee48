"""Options of the verbs that speak: the sliders of :class:`facetalk.style.Style`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from facetalk.errors import InputError

if TYPE_CHECKING:
    from facetalk.style import Style

_SLIDERS = {
    "intensity": ("0..2", "factor of what the face expresses beside speech (default: 1)"),
    "smile": (
        "-1..1",
        "corners of the mouth up, or down below 0; the lips stay as open as they are (default: 0)",
    ),
    "brow_activity": ("0..3", "factor of what the brows do (default: 1)"),
    "blink_rate": ("0..3", "factor of the number of blinks: 0 none, 2 twice as many (default: 1)"),
    "gaze_steadiness": ("0..1", "0: the eyes wander as they do, 1: they look straight ahead (default: 0)"),
    "head_motion": ("0..2", "factor of the motion of the head, 0: it keeps still (default: 1)"),
    "jaw": (
        "0..2",
        "factor of how far the jaw opens; below 1: mumbling, above: over-enunciating (default: 1)",
    ),
    "lips": ("0..2", "factor of how far lips are rounded, spread and parted (default: 1)"),
}


def add_style_arguments(parser: argparse.ArgumentParser) -> None:
    """``--smile`` and the others."""
    group = parser.add_argument_group("style (each changes nothing unless it is given)")
    for name, (ends, text) in _SLIDERS.items():
        group.add_argument(f"--{name.replace('_', '-')}", type=float, default=None, metavar=ends, help=text)


def read_style(args: argparse.Namespace) -> Style | None:
    """The sliders that were given; None where none was.

    Raises:
        InputError: one of them is out of range.
    """
    given = {name: value for name in _SLIDERS if (value := getattr(args, name)) is not None}
    if not given:
        return None
    from facetalk.style import Style

    try:
        return Style(**given)
    except InputError as error:
        name, _, rest = str(error).partition(" ")
        raise InputError(f"--{name.replace('_', '-')} {rest}") from None
