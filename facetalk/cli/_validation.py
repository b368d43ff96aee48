"""Measuring what a training made, by the verb that trains it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facetalk.cli import _options
from facetalk.errors import InputError
from facetalk.files import atomic_path, check_output_folder

if TYPE_CHECKING:
    from facetalk.pipeline import FaceTalk


def add_arguments(parser: argparse.ArgumentParser, what: str) -> None:
    """``--validate``, ``--split`` and ``--json``: measure instead of training.

    Args:
        parser: of a training that reads ``--corpus``.
        what: what is measured.
    """
    parser.add_argument("--validate", type=Path, default=None, metavar="MANIFEST",
                        help=f"do not train: measure {what} on these recordings (a corpus, or what "
                        "`facetalk evaluate` takes)")  # fmt: skip
    parser.add_argument("--split", default=None, help="with --validate: only lines of this split")
    parser.add_argument("--json", type=Path, default=None, metavar="FILE",
                        help="with --validate: write the figures as JSON as well")  # fmt: skip


def check(args: argparse.Namespace) -> None:
    """Refuse options that would do nothing, and files that could not be written after the work.

    Raises:
        InputError: ``--split`` or ``--json`` without ``--validate``, neither that nor ``--corpus``, or no
            place for the JSON.
    """
    if args.validate is not None:
        if args.json is not None:
            check_output_folder(args.json)
        return
    for option in ("split", "json"):
        if getattr(args, option) is not None:
            raise InputError(f"--{option} goes with --validate")
    if args.corpus is None:
        raise InputError("training needs --corpus, a folder made by `facetalk data`")


def prepared(args: argparse.Namespace) -> FaceTalk:
    """The model that a training works with, once :func:`check` lets it begin.

    Raises:
        InputError: as :func:`check`, or no such model.
    """
    from facetalk.pipeline import FaceTalk

    check(args)
    _options.set_threads(args.threads)
    return FaceTalk.from_pretrained(args.model, args.device)


def write_figures(path: Path | None, figures: dict[str, Any]) -> None:
    """Write figures as JSON where a path is given."""
    if path is not None:
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
