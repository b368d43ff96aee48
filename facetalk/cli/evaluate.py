"""``facetalk evaluate manifest.jsonl``: do the lips do what the speech says?"""

from __future__ import annotations

import argparse

from facetalk.cli import _options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the verb."""
    from facetalk.metrics import evaluate

    evaluate.add_arguments(parser)
    _options.add_model_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Evaluate the model on the manifest and print the table."""
    from facetalk.metrics import evaluate
    from facetalk.pipeline import FaceTalk

    _options.set_threads(args.threads)
    evaluate.run(args, FaceTalk.from_pretrained(args.model, args.device))
