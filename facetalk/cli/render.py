"""``facetalk render``: an animated .glb as a video or a contact sheet."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from facetalk import ops
from facetalk.cli import _options
from facetalk.errors import InputError
from facetalk.render.render import render
from facetalk.render.studio import Look


def parse_size(text: str) -> tuple[int, int]:
    """``720`` or ``1280x720`` as width and height."""
    match = re.fullmatch(r"(\d{1,9})(?:[xX](\d{1,9}))?", text)
    if not match:
        raise InputError(f"--size must look like 720 or 1280x720, got {text!r}")
    return int(match[1]), int(match[2] or match[1])


def parse_background(text: str) -> Look:
    """``studio`` or ``#rrggbb`` as a look."""
    if text == "studio":
        return Look()
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        raise InputError(f"--background must be 'studio' or a colour like #202428, got {text!r}")
    red, green, blue = (float(int(text[i : i + 2], 16)) for i in (1, 3, 5))
    return Look(background=((red, green, blue), (red, green, blue)))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``facetalk render``."""
    parser.add_argument("glb", type=Path, help="animated .glb, as facetalk generate writes it")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, help="talk.mp4 (video) or talk.png (contact sheet)"
    )
    parser.add_argument(
        "--size", default=None, metavar="W[xH]", help="pixels of a picture (default 640, sheet 480)"
    )
    parser.add_argument(
        "--fps", type=_options.rate, default=None, help="pictures per second (default: the animation's)"
    )
    parser.add_argument(
        "--frames", type=int, default=None, help="pictures: the first N of a video, or N on the sheet (12)"
    )
    parser.add_argument(
        "--at", type=float, nargs="+", default=None, metavar="S", help="times for the sheet, seconds"
    )
    parser.add_argument(
        "--background", default="studio", metavar="#RRGGBB", help="plain colour instead of the studio"
    )
    parser.add_argument("--azimuth", type=float, default=14.0, help="degrees from the front (default 14)")
    parser.add_argument(
        "--audio", type=Path, default=None, help="recording instead of the one beside the .glb"
    )
    parser.add_argument("--mute", action="store_true", help="no sound")
    parser.add_argument(
        "--allow-external",
        action="store_true",
        help="let a .gltf name buffers (.bin) in its own folder; without it only the file itself is read",
    )
    parser.add_argument("--threads", type=int, default=None, help="CPU threads (default: all cores)")


def _check(args: argparse.Namespace) -> None:
    """Refuse what would do nothing.

    Raises:
        InputError: an option of the sheet for a video, or of the video for a sheet.
    """
    video = args.output.suffix.lower() == ".mp4"
    if video and args.at is not None:
        raise InputError(
            "--at is for the pictures of a .png; a video shows every frame, or the first --frames"
        )
    if not video and (args.mute or args.audio is not None):
        option = "--mute" if args.mute else "--audio"
        raise InputError(f"{option} is for a video; {args.output} has no sound")
    if args.mute and args.audio is not None:
        raise InputError("give --audio or --mute, not both")
    if args.at is not None and args.frames is not None:
        raise InputError("give --at or --frames, not both: --at says how many pictures there are")
    if not video and args.fps is not None:
        raise InputError("--fps is for a video; a sheet takes --frames or --at")


def run(args: argparse.Namespace) -> None:
    """Draw what ``facetalk render`` was asked for."""
    _check(args)
    if args.threads is not None:
        if not 1 <= args.threads <= 1024:
            raise InputError(f"--threads must lie in 1 to 1024, got {args.threads}")
        ops.set_threads(args.threads)
    render(
        args.glb,
        args.output,
        size=None if args.size is None else parse_size(args.size),
        fps=args.fps,
        audio=args.audio,
        azimuth=args.azimuth,
        look=parse_background(args.background),
        frames=args.frames,
        at=args.at,
        mute=args.mute,
        allow_external=args.allow_external,
    )
    print(f"{args.output}")
