"""``facetalk train nphm | audio | whisper | motion | tongue | sync | mouth-features``."""

from __future__ import annotations

import argparse
import contextlib
import importlib
from pathlib import Path

from facetalk.cli._help import HelpFormatter
from facetalk.errors import InputError

PARTS = {
    "nphm": ("facetalk.cli.train_nphm", "the head, from a morphable head's blendshapes"),
    "audio": (
        "facetalk.cli.train_audio",
        "the Wav2Vec 2.0 encoder, from a speech corpus with phone times",
    ),
    "whisper": (
        "facetalk.cli.train_whisper",
        "the adapter by which Whisper hears for a model's motion, from a speech corpus with phone times",
    ),
    "motion": (
        "facetalk.cli.train_motion",
        "the motion model, from a speech corpus and an audio encoder",
    ),
    "tongue": (
        "facetalk.cli.train_tongue",
        "what the tongue does with speech, from a speech corpus with phone times and a model",
    ),
    "mouth-features": (
        "facetalk.cli.train_mouth",
        "the features of FID and KID of mouths, from renders of truth",
    ),
    "sync": (
        "facetalk.cli.train_sync",
        "the judge of lips against sound, from a speech corpus with phone times",
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare a sub-verb for each part of a model."""
    parts = parser.add_subparsers(dest="part", required=True, metavar="{" + ",".join(PARTS) + "}")
    for name, (module, text) in PARTS.items():
        part = parts.add_parser(
            name,
            help=text,
            description=f"Train {text}.",
            formatter_class=HelpFormatter,
        )
        importlib.import_module(module).add_arguments(part)


def run(args: argparse.Namespace) -> None:
    """Train the part that was asked for."""
    out = None if args.out is None else Path(args.out)
    begun = out is not None and out.exists()
    try:
        importlib.import_module(PARTS[args.part][0]).run(args)
    except InputError:
        # It is made before the corpus is read, to say at once where nothing can be written.
        if out is not None and not begun:
            with contextlib.suppress(OSError):
                out.rmdir()  # nothing but an empty one
        raise
