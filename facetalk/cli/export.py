"""``facetalk export motion.safetensors -o talk.glb``."""

from __future__ import annotations

import argparse
from pathlib import Path

from facetalk.cli import _options
from facetalk.files import check_not_input


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the verb."""
    parser.add_argument("motion", type=Path, help="motion written by facetalk generate")
    parser.add_argument("-o", "--output", type=Path, required=True, help="talk.glb or a folder talk.ply")
    parser.add_argument("--audio", type=Path, default=None, help="recording to put beside the animation")
    _options.add_force_argument(parser, "a folder talk.ply, or a talk.wav beside talk.glb,")
    _options.add_decode_arguments(parser)
    _options.add_model_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Decode a stored motion and write it."""
    from facetalk.mesh.export import check_output, export

    check_not_input(args.output, args.motion)
    check_output(args.output, audio=args.audio, force=args.force)
    _options.check_decode_arguments(args)
    from facetalk.audio.load import AudioReader
    from facetalk.motion import Motion
    from facetalk.pipeline import FaceTalk

    _options.set_threads(args.threads)
    sound = None if args.audio is None else AudioReader(args.audio)
    motion = Motion.load(args.motion)
    model = FaceTalk.from_pretrained(args.model, args.device)
    meshes = _options.decode(model, motion, args)
    export(
        args.output,
        meshes,
        fps=motion.fps,
        audio=sound,
        force=args.force,
        pad=(0.0, 0.0) if sound is None else motion.pad,
        **_options.morph_options(args),
    )
    print(f"{args.output}: {len(motion)} frames, {motion.fps:g} fps")
