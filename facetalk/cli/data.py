"""``facetalk data``: make the data that training uses."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the verb."""
    from facetalk.data.speech import corpus

    corpus.add_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Build the corpus."""
    from facetalk.data.speech import corpus

    corpus.run(args)
