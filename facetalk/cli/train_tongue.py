"""``facetalk train tongue``: what the tip of the tongue does, read from a model's audio features."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

from facetalk.cli import _options, _training, _validation
from facetalk.errors import HearingWarning
from facetalk.training.tongue.train import TongueTraining


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the verb."""
    defaults = TongueTraining((), Path())
    parser.add_argument("--corpus", type=Path, nargs="+", default=None, metavar="DIR",
                        help="made by `facetalk data`")  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="DIR",
                        help="tongue/ goes here, which belongs into the model's folder")  # fmt: skip
    parser.add_argument("--heard", type=_options.positive, default=defaults.minutes_heard, metavar="MINUTES",
                        help="speech to learn from, drawn from all; default %(default)g")  # fmt: skip
    parser.add_argument(
        "--hidden", type=_options.positive_int, default=defaults.hidden, help="units of the network"
    )
    _training.add_arguments(parser, defaults, "frames")
    parser.add_argument(
        "--look-ahead", type=_options.look_ahead, default=None, metavar="SECONDS",
        help="hear recordings as a stream of this look-ahead does; default: as a whole",
    )  # fmt: skip
    _validation.add_arguments(parser, "the tongue in --out")
    _options.add_model_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Train, or measure."""
    from facetalk.feature_space import space_of
    from facetalk.tongue import FOLDER, TongueNetwork
    from facetalk.training.tongue.train import train
    from facetalk.training.tongue.validate import validate
    from facetalk.units import SAMPLE_RATE

    model = _validation.prepared(args)
    fps = model.config.fps

    def hear(samples: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HearingWarning)  # of sound that was spoiled on purpose
            return model.features((samples, SAMPLE_RATE), look_ahead=args.look_ahead)

    if args.validate is not None:
        network = TongueNetwork.load(args.out / FOLDER)
        figures = validate(network, hear, fps, args.validate, split=args.split, seed=args.seed)
        _print(figures["rows"])
        _validation.write_figures(args.json, figures)
        return
    told = train(
        TongueTraining(
            tuple(args.corpus), args.out, args.heard, args.hidden, args.steps, args.batch,
            args.learning_rate, args.seed,
        ),
        hear,
        fps,
        space_of(model.config.folder),
    )  # fmt: skip
    print(
        f"{told['steps']} steps on {told['minutes']:g} min of sound; the tongue is in {args.out / FOLDER}, "
        f"and belongs into the model's folder"
    )


def _print(rows: dict[str, Any]) -> None:
    """Figures as a table, a column for each row of them."""
    print(f"{'':<26}" + "".join(f"{name:>10}" for name in rows))
    titles = {"correlation": "correlation", "made": "made for", "false": "made wrongly in",
              "unmeant": "unmeant of all at"}  # fmt: skip
    for kind, title in titles.items():
        for name in next(iter(rows.values()))[kind]:
            print(f"{title + ' ' + name:<26}" + "".join(f"{row[kind][name]:10.3f}" for row in rows.values()))
