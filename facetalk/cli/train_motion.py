"""``facetalk train motion``: the motion model."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from facetalk.cli import _options
from facetalk.training.motion.train import MotionTrainingOptions, train


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--corpus", type=Path, required=True, metavar="DIR", help="made by `facetalk data`")
    parser.add_argument(
        "--audio", required=True, metavar="MODEL", help="audio encoder: a folder, or hf:owner/name"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="checkpoints, log, and model/")
    parser.add_argument(
        "--head", type=Path, default=None, metavar="NPZ",
        help="packed head, for the metric (default: the copy in the package)",
    )  # fmt: skip
    parser.add_argument("--preset", choices=("mini", "paper"), default="mini", help="size of the denoiser")
    parser.add_argument(
        "--init", type=Path, default=None, metavar="MODEL", help="start from this motion model"
    )
    parser.add_argument("--steps", type=_options.positive_int, default=20_000, help="training steps")
    parser.add_argument("--minutes", type=_options.positive, default=None, help="limit on training time")
    parser.add_argument("--batch", type=int, default=16, help="crops per step")
    parser.add_argument("--crop", type=int, default=96, help="frames per crop")
    parser.add_argument("--rate", type=_options.positive, default=1e-3, help="peak learning rate")
    parser.add_argument(
        "--variants",
        type=_options.positive_int,
        default=4,
        help="encoded copies of the corpus, all but one augmented",
    )
    parser.add_argument("--share", type=float, default=1.0, help="share of the corpus in each encoded copy")
    parser.add_argument(
        "--cache-minutes", type=_options.positive, default=None, help="no new copies after this long"
    )
    parser.add_argument("--workers", type=int, default=0, metavar="N",
                        help="processes that encode a corpus of speech; default: this one alone")  # fmt: skip
    parser.add_argument("--seed", type=_options.seed, default=0, help="seed of everything random")
    parser.add_argument("--resume", action="store_true", help="continue from --out")


def run(args: argparse.Namespace) -> None:
    """Train and say where the model is."""
    names = [field.name for field in dataclasses.fields(MotionTrainingOptions)]
    result = train(MotionTrainingOptions(**{name: getattr(args, name) for name in names}))
    print(f"{result['step']} steps in {result['minutes']:.1f} min; the model is in {args.out / 'model'}")
