"""``facetalk train mouth-features``: what FID and KID of rendered mouths look at."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from facetalk.cli import _options, _training, _validation
from facetalk.training.mouth.train import MouthTraining


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the verb."""
    defaults = MouthTraining(Path(), Path())
    parser.add_argument("--corpus", type=Path, default=None, metavar="DIR", help="made by `facetalk data`")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR",
                        help="checkpoint, log and features/ go here")  # fmt: skip
    parser.add_argument(
        "--crops", type=_options.positive_int, default=defaults.crops, help="pictures to train on"
    )
    parser.add_argument("--identities", type=_options.positive_int, default=defaults.identities,
                        help="heads drawn, the default one first")  # fmt: skip
    _training.add_arguments(parser, defaults, "pictures")
    _training.add_resumption(parser)
    _validation.add_arguments(parser, "the features in --out")
    parser.add_argument(
        "--pictures", type=_options.positive_int, default=600, help="with --validate: pictures of each row"
    )
    _options.add_model_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Train and measure."""
    from facetalk.training.mouth.train import train, validate_folder

    model = _validation.prepared(args)
    folder = args.out / "features"
    if args.validate is not None:
        figures = validate_folder(
            folder, args.validate, model, split=args.split, count=args.pictures, seed=args.seed
        )
        print(f"{'to renders of truth':<24}{'FID':>10}{'KID':>10}")
        for name, row in figures["distances"].items():
            print(f"{name:<24}{row['fid']:10.3f}{row['kid']:10.4f}")
        _validation.write_figures(args.json, figures)
        return
    names = [field.name for field in dataclasses.fields(MouthTraining)]
    told = train(MouthTraining(**{name: getattr(args, name) for name in names}), model)
    print(
        f"{told['steps']} steps in {told['minutes']:.1f} min, pictures left out seen at "
        f"{told['psnr_held_out_db']:.1f} dB; the features are in {folder}"
    )
