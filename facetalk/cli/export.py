"""``facetalk export motion.safetensors -o talk.glb``."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from facetalk.cli import _options
from facetalk.errors import HearingWarning
from facetalk.files import check_not_input

if TYPE_CHECKING:
    from facetalk.audio.load import AudioReader
    from facetalk.motion import Motion

_APART_S = 0.25
"""Seconds between the lengths of a motion and its recording that no encoder's padding makes."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the verb."""
    parser.add_argument("motion", type=Path, help="motion written by facetalk generate")
    parser.add_argument("-o", "--output", type=Path, required=True,
                        help="talk.glb, talk.vrm, talk.usda or .usdc, a folder talk.ply, or curves: "
                        "talk.csv (a take of Live Link Face), talk.json (as Audio2Face exports "
                        "them)")  # fmt: skip
    parser.add_argument("--audio", type=Path, default=None, help="recording to put beside the animation")
    _options.add_sound_argument(parser)
    _options.add_force_argument(parser, "a folder talk.ply, or a talk.wav beside talk.glb (.vrm, .usda),")
    _options.add_decode_arguments(parser)
    _options.add_model_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Decode a stored motion and write it."""
    from facetalk.live.curves import SUFFIXES as CURVES
    from facetalk.mesh.export import SUFFIXES, check_output, export

    _options.check_sound(args.sound, args.output)
    if args.output.suffix.lower() in CURVES:
        return _export_curves(args)
    if args.output.suffix.lower() not in SUFFIXES:
        _options.check_output(args.output, (*SUFFIXES, *CURVES), args.motion)
    check_not_input(args.output, args.motion)
    check_output(args.output, audio=args.audio, sound=args.sound or "wav", force=args.force)
    _options.check_decode_arguments(args)
    from facetalk.audio.load import AudioReader
    from facetalk.motion import Motion
    from facetalk.pipeline import FaceTalk

    _options.set_threads(args.threads)
    sound = None if args.audio is None else AudioReader(args.audio)
    motion = Motion.load(args.motion)
    if sound is not None:
        _tell_of_another_length(sound, motion)
    motion = motion if args.fps is None else motion.resample(args.fps)
    model = FaceTalk.from_pretrained(args.model, args.device)
    meshes = _options.decode(model, motion, args)
    export(
        args.output,
        meshes,
        fps=motion.fps,
        audio=sound,
        force=args.force,
        sound=args.sound or "wav",
        pad=(0.0, 0.0) if sound is None else motion.pad,
        pose=motion.pose,
        **_options.morph_options(args),
    )
    print(f"{args.output}: {len(motion)} frames, {motion.fps:g} fps")


def _tell_of_another_length(sound: AudioReader, motion: Motion) -> None:
    """Warn of a recording that cannot be what the motion speaks."""
    spoken = motion.duration - sum(motion.pad)
    if sound.duration is not None and abs(sound.duration - spoken) > _APART_S:
        warnings.warn(
            f"{sound.name} lasts {sound.duration:.2f} s, and the motion speaks for {spoken:.2f} s: is it the "
            "recording that the motion was made from?",
            HearingWarning,
            stacklevel=2,
        )


def _export_curves(args: argparse.Namespace) -> None:
    """Write the motion as curves, which need no meshes."""
    from facetalk.live.curves import SUFFIXES, write_curves
    from facetalk.motion import Motion
    from facetalk.pipeline import FaceTalk

    _options.check_output(args.output, SUFFIXES, args.motion)
    _options.check_decode_arguments(args)
    _options.check_curves(args, "audio")
    motion = Motion.load(args.motion)
    names = FaceTalk.from_pretrained(args.model, args.device).head.expression_names
    _, rate = write_curves(args.output, motion, names, fps=args.fps)
    print(f"{args.output}: {len(motion)} frames of {motion.fps:g} fps as curves of {rate:g} fps")
