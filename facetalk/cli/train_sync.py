"""``facetalk train sync``: the judge of lips against sound."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from facetalk.cli import _options, _training, _validation
from facetalk.training.sync.train import SyncTraining


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the verb."""
    defaults = SyncTraining(Path(), Path())
    parser.add_argument("--corpus", type=Path, default=None, metavar="DIR", help="made by `facetalk data`")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR",
                        help="checkpoints, log and expert/ go here")  # fmt: skip
    _training.add_arguments(parser, defaults, "crops of 3.2 s")
    parser.add_argument("--variants", type=_options.positive_int, default=defaults.variants,
                        help="passes over the corpus, each with other sound")  # fmt: skip
    parser.add_argument("--faces", type=_options.positive_int, default=defaults.faces,
                        help="faces drawn for each recording")  # fmt: skip
    _training.add_resumption(parser)
    _validation.add_arguments(parser, "the expert in --out")
    parser.add_argument(
        "--clips", type=_options.positive_int, default=60, help="with --validate: clips at most"
    )
    _options.add_model_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Train, or measure."""
    from facetalk.training.sync.train import train
    from facetalk.training.sync.validate import table, validate_folder

    model = _validation.prepared(args)
    folder = args.out / "expert"
    if args.validate is not None:
        figures = validate_folder(
            folder, args.validate, model, split=args.split, clips=args.clips, seed=args.seed
        )
        print(table(figures))
        _validation.write_figures(args.json, figures)
        return
    names = [field.name for field in dataclasses.fields(SyncTraining)]
    given = {name: getattr(args, name) for name in names if hasattr(args, name)}
    result = train(SyncTraining(**given), model)
    print(
        f"{result['step']} steps in {result['minutes']:.1f} min, {result['within_1']:.1%} of windows matched "
        f"within a frame; the expert is in {folder}"
    )
