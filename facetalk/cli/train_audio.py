"""``facetalk train audio``: the small Wav2Vec 2.0 encoder."""

from __future__ import annotations

import argparse
from pathlib import Path

from facetalk.training.audio.train import AudioTraining, report, train


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    defaults = AudioTraining(Path(), Path())
    parser.add_argument("--corpus", required=True, metavar="DIR", help="made by `facetalk data`")
    parser.add_argument("--out", required=True, metavar="DIR", help="checkpoints, log and encoder/ go here")
    parser.add_argument(
        "--steps", type=int, default=defaults.steps, help="optimizer steps; default %(default)d"
    )
    parser.add_argument("--minutes", type=float, default=None, help="stop, annealed, after this time")
    parser.add_argument(
        "--batch", type=int, default=defaults.batch, help="crops in a step; default %(default)d"
    )
    parser.add_argument("--learning-rate", type=float, default=defaults.learning_rate)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="continue from the checkpoint in --out")
    parser.add_argument(
        "--evaluate", metavar="DIR", help="do not train: report on the 'valid' split of this corpus"
    )


def run(args: argparse.Namespace) -> int:
    """Train, or report on a trained encoder."""
    out = Path(args.out)
    if args.evaluate:
        for voice, figures in report(out, Path(args.evaluate)).items():
            print(f"{voice}: " + ", ".join(f"{k} {v:.3g}" for k, v in figures.items()))
        return 0
    train(
        AudioTraining(
            corpus=Path(args.corpus),
            out=out,
            steps=args.steps,
            minutes=args.minutes,
            batch=args.batch,
            learning_rate=args.learning_rate,
            seed=args.seed,
            resume=args.resume,
        )
    )
    return 0
