"""Options of the trainings by ``facetalk train`` that go by steps of one optimizer."""

from __future__ import annotations

import argparse
from typing import Protocol

from facetalk.cli import _options


class Defaults(Protocol):
    """What a training does unless told."""

    @property
    def steps(self) -> int:
        """Of the optimizer."""

    @property
    def batch(self) -> int:
        """Examples in a step."""

    @property
    def learning_rate(self) -> float:
        """Its peak."""

    @property
    def seed(self) -> int:
        """Of everything random."""


def add_arguments(parser: argparse.ArgumentParser, defaults: Defaults, examples: str) -> None:
    """``--steps``, ``--batch``, ``--learning-rate`` and ``--seed``.

    Args:
        parser: of the verb.
        defaults: settings of a training that nobody told anything.
        examples: what a batch is made of, in the plural.
    """
    parser.add_argument("--steps", type=_options.positive_int, default=defaults.steps, help="optimizer steps")
    parser.add_argument(
        "--batch", type=_options.positive_int, default=defaults.batch, help=f"{examples} in a step"
    )
    parser.add_argument(
        "--learning-rate", type=_options.positive, default=defaults.learning_rate, help="peak"
    )
    parser.add_argument("--seed", type=_options.seed, default=defaults.seed, help="of everything random")


def add_resumption(parser: argparse.ArgumentParser) -> None:
    """``--minutes`` and ``--resume`` of trainings that may stop, and go on, at any step."""
    parser.add_argument("--minutes", type=_options.positive, default=None,
                        help="stop, annealed, after this time")  # fmt: skip
    parser.add_argument("--resume", action="store_true", help="continue from the checkpoint in --out")
