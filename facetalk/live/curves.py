"""Motions as files of curves, by suffix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from facetalk.live import audio2face, take
from facetalk.motion import Motion

_WRITERS: dict[str, tuple[Callable[..., Path], float]] = {
    take.SUFFIX: (take.write_take, take.RATE),
    audio2face.SUFFIX: (audio2face.write_audio2face, audio2face.RATE),
}

SUFFIXES = tuple(_WRITERS)
"""Suffixes of such files."""


def write_curves(
    path: Path, motion: Motion, names: Sequence[str], *, fps: float | None = None
) -> tuple[Path, float]:
    """Write a file of curves; return its path and its rate.

    Args:
        path: with one of :data:`SUFFIXES`; replaced if it is there.
        motion: expression codes.
        names: of the expressions.
        fps: rows a second; the format's usual rate when None.

    Raises:
        InputError: as the format's writer.
    """
    write, usual = _WRITERS[path.suffix.lower()]
    rate = usual if fps is None else fps
    return write(path, motion, names, fps=rate), rate
