"""``facetalk convert``: official checkpoints into a folder that holds nothing to unpickle."""

from __future__ import annotations

import argparse
from pathlib import Path

from facetalk.cli import _options
from facetalk.errors import InputError
from facetalk.files import check_not_input, check_replaceable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the verb."""
    parser.add_argument("source", type=Path, nargs="+",
                        help="a folder, a file with anchors*.npy beside it, or identity.pt deformation.pt "
                             "anchors.npy; of a folder of official checkpoints the last epochs")  # fmt: skip
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--force", action="store_true",
                        help="replace files of such names there that facetalk did not write")  # fmt: skip
    parser.add_argument("--family", choices=("nphm", "mononphm"), default="nphm", help="kind of networks")
    _options.add_direction(parser)


def run(args: argparse.Namespace) -> None:
    """Load with weights_only and write safetensors + config.json."""
    check_not_input(args.output, *args.source)
    from facetalk.nphm import load_checkpoint
    from facetalk.nphm.model import is_nphm_folder

    check_replaceable(args.output, directory=True, ours=None if args.force else is_nphm_folder)

    if len(args.source) == 1:
        source: Path | dict[str, Path] = args.source[0]
    elif len(args.source) == 3:
        source = dict(zip(("identity", "deformation", "anchors"), args.source, strict=True))
    else:
        raise InputError(
            f"give one folder or file, or three files (identity deformation anchors), got {len(args.source)}"
        )
    model = load_checkpoint(source, family=args.family, direction=args.direction)
    model.save(args.output, force=args.force)
    moves = "no deformation" if model.deformation is None else f"deformation {model.direction}"
    print(f"{args.output}: {args.family}, {moves}, written as safetensors + config.json")
