"""``facetalk train nphm``: the head."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import torch

from facetalk.cli import _options
from facetalk.data.heads.ict import BUILT_IN, MorphableHead
from facetalk.errors import InputError
from facetalk.files import atomic_path, check_not_input, check_replaceable
from facetalk.nphm.head.head import HeadModel
from facetalk.training.head.figures import measure
from facetalk.training.head.train import DEFAULT_MINUTES, SHARES, HeadTraining, train_head


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--data", type=Path, default=BUILT_IN, metavar="NPZ",
        help="packed morphable head, see `facetalk data head` (default: the copy in the package)",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=None, help="output folder; the model will be OUT/head")
    parser.add_argument(
        "--minutes", type=_options.positive, default=None,
        help=f"limit on the time, signed distances included; without --steps, {DEFAULT_MINUTES:g} when left "
        "out (a good head takes 60 to 120)",
    )  # fmt: skip
    parser.add_argument(
        "--steps", type=_options.positive_int, default=None, help="total number of steps over all stages"
    )
    parser.add_argument("--seed", type=_options.seed, default=0, help="seed of sampling and initialisation")
    parser.add_argument("--resume", action="store_true", help="continue the training that is in OUT")
    parser.add_argument(
        "--stages", nargs="+", choices=list(SHARES), default=list(SHARES), metavar="STAGE",
        help=f"train only these of {', '.join(SHARES)}; the others are taken from OUT",
    )  # fmt: skip
    parser.add_argument(
        "--start", type=Path, default=None, metavar="HEAD",
        help="begin as this head folder; with --stages, the other stages stay as they are there, and all "
        "the time is for those named",
    )  # fmt: skip
    parser.add_argument(
        "--identity-batch", type=int, nargs=2, default=None, metavar=("HEADS", "POINTS"),
        help="of the stage identity, with --start: heads drawn anew in each step and points on each, by "
        "which the network and its codes learn on (32 1024 fills a GPU; default: a pool of 81 heads)",
    )  # fmt: skip
    parser.add_argument(
        "--backward-batch", type=int, nargs=2, default=None, metavar=("ROWS", "POINTS"),
        help="of the stage backward: heads with an expression, and points on each (default: 24 128; "
        "384 256 fills a GPU)",
    )  # fmt: skip
    parser.add_argument(
        "--evaluate", type=Path, default=None, metavar="HEAD",
        help="do not train: figures of this head folder against the data",
    )  # fmt: skip
    parser.add_argument(
        "--json", type=Path, default=None, metavar="FILE", help="write the figures of --evaluate here"
    )
    parser.add_argument("--threads", type=int, default=None, help="CPU threads; all when left out")


def run(args: argparse.Namespace) -> None:
    """Train as the command line says."""
    if args.threads is not None:
        if not 1 <= args.threads <= 4 * (os.cpu_count() or 1):
            raise InputError(
                f"--threads must lie between 1 and {4 * (os.cpu_count() or 1)}, got {args.threads}"
            )
        torch.set_num_threads(args.threads)
    if args.evaluate is not None:
        for name in ("out", "minutes", "steps", "start", "identity_batch", "backward_batch", "resume"):
            if getattr(args, name) not in (None, False):
                raise InputError(f"--{name.replace('_', '-')} does nothing with --evaluate; leave it out")
        if args.stages != list(SHARES):
            raise InputError("--stages does nothing with --evaluate; leave it out")
        _evaluate(args.evaluate, args.data, args.json)
        return
    if args.json is not None:
        raise InputError("--json is for the figures of --evaluate; a training writes none")
    if args.out is None:
        raise InputError("--out is missing: name the folder of the training, or a head with --evaluate")
    if args.minutes is None and args.steps is None:
        args.minutes = DEFAULT_MINUTES
        print(f"training for {DEFAULT_MINUTES:g} minutes; --minutes or --steps sets another limit")
    more: dict[str, Any] = {}
    if args.backward_batch is not None:
        if "backward" not in args.stages:
            raise InputError("--backward-batch is for the stage backward, which --stages leaves out")
        more["backward_batch"] = tuple(args.backward_batch)
    if args.identity_batch is not None:
        if "identity" not in args.stages:
            raise InputError("--identity-batch is for the stage identity, which --stages leaves out")
        if args.start is None:
            raise InputError("--identity-batch teaches a head that was trained before; name it by --start")
        more["fresh_batch"] = tuple(args.identity_batch)
    train_head(
        HeadTraining(
            args.data,
            args.out,
            args.minutes,
            args.steps,
            args.seed,
            args.resume,
            stages=tuple(args.stages),
            start=args.start,
            **more,
        )
    )
    print(f"head: {args.out / 'head'}")


def _evaluate(head: Path, data: Path, file: Path | None) -> None:
    """Print the figures of a head as JSON, or write them."""
    if file is not None:
        check_not_input(file, data)
        check_replaceable(file)
    text = json.dumps(measure(HeadModel.load(head), MorphableHead.load(data)), indent=1) + "\n"
    if file is None:
        print(text, end="")
    else:
        with atomic_path(file) as scratch:
            scratch.write_text(text)
