"""The convention of every training: ``--resume`` continues, and nothing is replaced without being named."""

from __future__ import annotations

import sys
from pathlib import Path

from facetalk.errors import InputError
from facetalk.training.processes import is_main_process

__all__ = ["check_resume"]


def check_resume(
    out: Path, resume: bool, *, marks: tuple[str, ...] = ("checkpoint", "checkpoint.old")
) -> None:
    """Refuse to start over a training that is there, and say so when there is none to continue.

    Args:
        out: folder of the training.
        resume: whether it was asked to continue.
        marks: what such a folder has once there is something to lose.

    Raises:
        InputError: ``out`` holds a training and ``resume`` is not set.
    """
    found = [mark for mark in marks if (out / mark).exists()]
    if found and not resume:
        raise InputError(
            f"{out} holds a training ({found[0]}); add --resume to continue it, or use another --out"
        )
    # One line, not one for every process of a launch.
    if resume and not found and is_main_process():
        print(f"nothing to resume in {out}: starting a new training", file=sys.stderr)
