"""What the commands of this folder share: options, and how they end: figures, or a line of what was wrong."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.common.plainly import plainly
from facetalk.errors import InputError
from facetalk.files import atomic_path, check_replaceable


def parser_of(name: str, text: str | None, frames: int) -> argparse.ArgumentParser:
    """``--frames`` and ``--json`` of the command ``python -m name``."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {name}", description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=frames, help=f"of the capture (default {frames})")
    parser.add_argument("--json", type=Path, default=None, help="write the figures here")
    return parser


def told(run: Callable[[], dict[str, Any]], args: argparse.Namespace) -> int:
    """Measure, print, keep; the status of the process.

    Args:
        run: what gives the figures.
        args: of :func:`parser_of`.
    """
    return plainly(_tell, run, args)


def _tell(run: Callable[[], dict[str, Any]], args: argparse.Namespace) -> None:
    for name in ("frames", "points"):
        if getattr(args, name, 1) < 1:
            raise InputError(f"--{name} must be at least 1, got {getattr(args, name)}")
    if args.json is not None:
        check_replaceable(args.json)  # before the work, which takes minutes
    tell(run(), args.json)


def tell(found: dict[str, Any], file: Path | None) -> None:
    """Print figures, and write them where a file is named."""
    text = json.dumps(found, indent=1) + "\n"
    print(text)
    if file is not None:
        with atomic_path(file) as temporary:
            temporary.write_text(text)
