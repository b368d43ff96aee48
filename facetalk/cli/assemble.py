"""``facetalk assemble``: one model folder from an audio encoder, a motion model, a head, perhaps a tongue."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the verb."""
    accepted = "its folder, the folder of its training, or a model: its folder, or a built-in one's name"
    parser.add_argument("--audio", type=Path, required=True, metavar="DIR", help=f"audio encoder: {accepted}")
    parser.add_argument("--motion", type=Path, required=True, metavar="DIR", help=f"motion model: {accepted}")
    parser.add_argument("--head", type=Path, required=True, metavar="DIR", help=f"head: {accepted}")
    parser.add_argument("--tongue", type=Path, default=None, metavar="DIR",
                        help=f"what the tongue does with speech: {accepted} (default: it rides on the "
                        "jaw)")  # fmt: skip
    parser.add_argument("--whisper", type=Path, default=None, metavar="DIR",
                        help=f"adapter by which Whisper hears for the motion: {accepted} (default: "
                        "none)")  # fmt: skip
    parser.add_argument("--listener", action="store_true",
                        help="with --whisper: put Whisper's own encoder into the model too (16 MB), for "
                        "programs that use the C library without Python (facetalk[whisper])")  # fmt: skip
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR",
                        help="model folder to write; replaced only if this verb wrote it")  # fmt: skip
    parser.add_argument("--name", default=None, help="name of the model (default: that of the folder)")


def run(args: argparse.Namespace) -> None:
    """Check the parts and copy them."""
    from facetalk.models.assemble import assemble

    out = assemble(
        args.audio,
        args.motion,
        args.head,
        args.output,
        tongue=args.tongue,
        whisper=args.whisper,
        listener=args.listener,
        name=args.name,
    )
    print(f"{out}: use it with --model {out}, or FaceTalk.from_pretrained({str(out)!r})")
