"""``facetalk convert``: official checkpoints into a folder that holds nothing to unpickle; models to ONNX."""

from __future__ import annotations

import argparse
from pathlib import Path

from facetalk.cli import _options
from facetalk.errors import InputError
from facetalk.files import check_not_input, check_replaceable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the verb."""
    parser.add_argument("source", type=Path, nargs="*",
                        help="a folder, a file with anchors*.npy beside it, or identity.pt deformation.pt "
                             "anchors.npy; of a folder of official checkpoints the last epochs")  # fmt: skip
    parser.add_argument("-o", "--output", type=Path, default=None, help="folder to write")
    parser.add_argument("--onnx", type=Path, default=None, metavar="DIR",
                        help="instead of that: write the speech networks of a model as ONNX graphs, steps "
                        "with caches for Unity, Unreal or onnxruntime, and a README of inputs and "
                        "outputs")  # fmt: skip
    parser.add_argument("--model", default=None,
                        help="with --onnx: built-in model or model folder (default: default)")  # fmt: skip
    parser.add_argument("--look-ahead", type=_options.look_ahead, default=None, metavar="SECONDS",
                        help="with --onnx: sound after a frame heard for it (default: 0.2)")  # fmt: skip
    parser.add_argument("--force", action="store_true",
                        help="replace files of such names there that facetalk did not write")  # fmt: skip
    parser.add_argument("--family", choices=("nphm", "mononphm"), default=None,
                        help="kind of networks (default: nphm)")  # fmt: skip
    _options.add_direction(parser)


def run(args: argparse.Namespace) -> None:
    """Load with weights_only and write safetensors + config.json, or ONNX."""
    if args.onnx is not None:
        return _to_onnx(args)
    for option in ("model", "look_ahead"):
        if getattr(args, option) is not None:
            raise InputError(f"--{option.replace('_', '-')} goes with --onnx")
    if args.output is None:
        raise InputError("say where to write it: -o FOLDER, or --onnx DIR for the graphs of a model")
    args.family = args.family or "nphm"
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


def _to_onnx(args: argparse.Namespace) -> None:
    """Write the graphs of a model."""
    given = {"a checkpoint": bool(args.source), "-o": args.output is not None,
             "--family": args.family is not None, "--direction": args.direction is not None}  # fmt: skip
    if any(given.values()):
        wrong = ", ".join(name for name, there in given.items() if there)
        raise InputError(f"--onnx DIR converts the model that --model names: leave out {wrong}")
    from facetalk.convert.onnx import to_onnx
    from facetalk.pipeline import FaceTalk

    model = FaceTalk.from_pretrained("default" if args.model is None else args.model, "cpu")
    ahead = 0.2 if args.look_ahead is None else args.look_ahead
    found = to_onnx(model, args.onnx, look_ahead=ahead, force=args.force)
    print(f"{args.onnx}: encoder, denoiser and curves; onnxruntime differs from torch by at most "
          f"{max(found.encoder, found.denoiser, found.curves):.1e}")  # fmt: skip
