"""``facetalk convert``: official checkpoints into a folder that holds nothing to unpickle."""

from __future__ import annotations

import argparse
from pathlib import Path

from facetalk.errors import InputError
from facetalk.files import check_output_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the verb."""
    parser.add_argument("source", type=Path, nargs="+",
                        help="a folder, or identity.pt deformation.pt anchors.npy")  # fmt: skip
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--family", choices=("nphm", "mononphm"), default="nphm", help="kind of networks")


def run(args: argparse.Namespace) -> None:
    """Load with weights_only and write safetensors + config.json."""
    check_output_folder(args.output)
    from facetalk.nphm import load_checkpoint

    if len(args.source) == 1:
        source: Path | dict[str, Path] = args.source[0]
    elif len(args.source) == 3:
        source = dict(zip(("identity", "deformation", "anchors"), args.source, strict=True))
    else:
        raise InputError(
            f"give one folder or file, or three files (identity deformation anchors), got {len(args.source)}"
        )
    model = load_checkpoint(source, family=args.family)
    model.save(args.output)
    print(f"{args.output}: {args.family}, written as safetensors + config.json")
