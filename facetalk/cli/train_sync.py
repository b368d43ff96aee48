"""``facetalk train sync``: the judge of lips against sound."""

from __future__ import annotations

import argparse
from pathlib import Path

from facetalk.cli import _options
from facetalk.errors import InputError
from facetalk.files import check_output_folder
from facetalk.training.sync.train import SyncTraining


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the verb."""
    defaults = SyncTraining(Path(), Path())
    parser.add_argument("--corpus", type=Path, default=None, metavar="DIR", help="made by `facetalk data`")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR",
                        help="checkpoints, log and expert/ go here")  # fmt: skip
    parser.add_argument("--steps", type=_options.positive_int, default=defaults.steps, help="optimizer steps")
    parser.add_argument("--minutes", type=_options.positive, default=None,
                        help="stop, annealed, after this time")  # fmt: skip
    parser.add_argument(
        "--batch", type=_options.positive_int, default=defaults.batch, help="crops of 3.2 s in a step"
    )
    parser.add_argument("--variants", type=_options.positive_int, default=defaults.variants,
                        help="passes over the corpus, each with other sound")  # fmt: skip
    parser.add_argument("--faces", type=_options.positive_int, default=defaults.faces,
                        help="faces drawn for each recording")  # fmt: skip
    parser.add_argument(
        "--learning-rate", type=_options.positive, default=defaults.learning_rate, help="peak"
    )
    parser.add_argument("--seed", type=int, default=defaults.seed, help="of everything random")
    parser.add_argument("--resume", action="store_true", help="continue from the checkpoint in --out")
    parser.add_argument("--validate", type=Path, default=None, metavar="MANIFEST",
                        help="do not train: measure the expert in --out on these recordings (a corpus, or "
                        "what `facetalk evaluate` takes)")  # fmt: skip
    parser.add_argument("--split", default=None, help="with --validate: only lines of this split")
    parser.add_argument(
        "--clips", type=_options.positive_int, default=60, help="with --validate: at most so many"
    )
    parser.add_argument(
        "--json", type=Path, default=None, metavar="FILE", help="with --validate: the figures as JSON"
    )
    _options.add_model_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Train, or measure."""
    from facetalk.pipeline import FaceTalk
    from facetalk.training.sync.train import train
    from facetalk.training.sync.validate import table, validate_folder, write

    if args.seed < 0:
        raise InputError(f"--seed must be at least 0, got {args.seed}")
    _options.set_threads(args.threads)
    model = FaceTalk.from_pretrained(args.model, args.device)
    if args.validate is not None:
        if args.json is not None:
            check_output_folder(args.json)
        figures = validate_folder(
            args.out / "expert", args.validate, model, split=args.split, clips=args.clips, seed=args.seed
        )
        print(table(figures))
        if args.json is not None:
            write(figures, args.json)
        return
    for option in ("split", "json"):
        if getattr(args, option) is not None:
            raise InputError(f"--{option} goes with --validate")
    if args.corpus is None:
        raise InputError("training needs --corpus, a folder made by `facetalk data`")
    result = train(
        SyncTraining(
            corpus=args.corpus,
            out=args.out,
            steps=args.steps,
            minutes=args.minutes,
            batch=args.batch,
            variants=args.variants,
            faces=args.faces,
            learning_rate=args.learning_rate,
            seed=args.seed,
            resume=args.resume,
        ),
        model,
    )
    print(
        f"{result['step']} steps in {result['minutes']:.1f} min, {result['within_1']:.1%} of windows matched "
        f"within a frame; the expert is in {args.out / 'expert'}"
    )
