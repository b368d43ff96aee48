"""``facetalk evaluate --compare A.json B.json``: what one report says more or less than another."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from facetalk.cli import _options
from facetalk.errors import InputError
from facetalk.files import atomic_path

_USED = {"compare", "json", "seed"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the option."""
    parser.add_argument("--compare", type=Path, nargs=2, default=None, metavar=("A.json", "B.json"),
                        help="no manifest: A minus B of two reports of --json on the same clips, with "
                        "intervals of a paired bootstrap over clips (--seed)")  # fmt: skip


def run(args: argparse.Namespace, unasked: argparse.Namespace) -> None:
    """Print the differences, and write them where ``--json`` says.

    Args:
        args: what was asked for.
        unasked: the same where nothing was.

    Raises:
        InputError: an option that does nothing here, or reports that cannot be compared.
    """
    for name, value in vars(args).items():
        if value != getattr(unasked, name) and name not in _USED:
            told = "a manifest" if name == "manifest" else f"--{name}"
            raise InputError(f"--compare reads two reports and judges nothing; leave out {told}")
    if args.json is not None:
        _options.check_output(args.json, (".json",), *args.compare)
    from facetalk.metrics.paired import Judged, difference

    a, b = (Judged.read(path) for path in args.compare)
    found = difference(a, b, seed=args.seed)
    print(found.table())
    if args.json is not None:
        with atomic_path(args.json) as temporary:
            temporary.write_text(json.dumps(found.as_dict(), indent=1) + "\n", encoding="utf-8")
