"""``facetalk generate speech.wav -o talk.glb``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from facetalk.arguments import check_whisper_ahead
from facetalk.cli import _identity, _options
from facetalk.cli._stages import Stages, Timed
from facetalk.cli._style import add_style_arguments, read_style
from facetalk.errors import InputError
from facetalk.files import check_not_input

if TYPE_CHECKING:
    from facetalk.audio.load import AudioReader


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the verb."""
    parser.add_argument(
        "audio",
        type=Path,
        help="recording: any file that libsndfile or FFmpeg reads, a pipe, or - for standard input",
    )
    parser.add_argument("--track", type=int, default=None, metavar="N",
                        help="which sound track of a video, from 1 (default: the one marked as default, or "
                        "the first that is not silent)")  # fmt: skip
    parser.add_argument("-o", "--output", type=Path, required=True,
                        help="talk.glb, talk.vrm, talk.usda or .usdc, a folder talk.ply, "
                        "talk.safetensors (motion alone), or curves: talk.csv (a take of Live Link "
                        "Face), talk.json (as Audio2Face exports them)")  # fmt: skip
    parser.add_argument("--steps", type=int, default=None,
                        help="denoising steps: 1, 2, 4 or 8 by the few-step student where the model has one, "
                             "other numbers by the full model (default: the model's)")  # fmt: skip
    parser.add_argument("--guidance", type=_options.non_negative, default=None,
                        help="guidance weight, 1 = none (default: the model's)")  # fmt: skip
    parser.add_argument("--seed", type=_options.seed, default=0, help="noise seed")
    parser.add_argument("--look-ahead", type=_options.look_ahead, default=None, metavar="SECONDS",
                        help="sound after a frame that may be heard for it, as a live stream would (default: "
                             "the whole recording); with Whisper 0 to 1")  # fmt: skip
    parser.add_argument("--backend", choices=("auto", "native", "torch"), default="auto",
                        help="what turns speech into motion (default: the C library on the CPU where it runs "
                             "the model, else torch)")  # fmt: skip
    _identity.add_identity(parser)
    parser.add_argument("--motion", type=Path, default=None, metavar="OUT.safetensors",
                        help="also keep the motion, for facetalk export")  # fmt: skip
    parser.add_argument("--pad", type=_options.non_negative, default=None, metavar="SECONDS",
                        help="silence before and after the recording: the face comes from rest and goes "
                        "to rest (default: 0.2 on a side where it is cut in a word, else none)")  # fmt: skip
    _options.add_sound_argument(parser)
    _options.add_force_argument(parser, "a folder talk.ply, or a talk.wav beside talk.glb (.vrm, .usda),")
    add_style_arguments(parser)
    _options.add_decode_arguments(parser)
    _options.add_encoder_argument(parser)
    _options.add_model_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Generate, decode and write."""
    from facetalk.live.curves import SUFFIXES as CURVES
    from facetalk.live.curves import write_curves
    from facetalk.mesh.export import export
    from facetalk.mesh.sound_beside import check_pad, is_beside
    from facetalk.motion import SUFFIX as MOTION_SUFFIX

    _options.check_decode_arguments(args)
    style = read_style(args)
    sound = _check_places(args)
    # The recording itself lies, or shall lie, where the padded one would: it is used as it is.
    kept = args.sound == "original" or is_beside(sound, args.output)
    pad = 0.0 if args.pad is None and kept else args.pad
    check_pad(args.output, sound, pad, args.sound or "wav")
    stages = Stages()
    with stages.stage("load"):
        from facetalk.pipeline import FaceTalk

        _options.set_threads(args.threads)
        model = FaceTalk.from_pretrained(args.model, args.device, backend=args.backend, encoder=args.encoder)
        identity = _identity.read_drawn(args.identity, model.any_head)
        live = args.look_ahead is not None
        if (model.live_native_model if live else model.native_model) is None:
            _ = model.live_encoder if live else model.speech_encoder, model.motion_model
    with stages.stage("generate"):
        motion = model.generate(
            sound,
            steps=args.steps,
            guidance=args.guidance,
            seed=args.seed,
            identity=identity,
            pad=pad,
            look_ahead=args.look_ahead,
            style=style,
            progress=sys.stderr.isatty(),
        )
    if args.motion is not None:
        motion.save(args.motion)
    if args.output.suffix.lower() == MOTION_SUFFIX:
        motion.save(args.output)
    elif args.output.suffix.lower() in CURVES:
        write_curves(args.output, motion, model.head.expression_names, fps=args.fps)
    else:
        motion = motion if args.fps is None else motion.resample(args.fps)
        with stages.stage("decode"):
            meshes = _options.decode(model, motion, args)
            if args.topology == "marching-cubes":  # extracted while they are written
                meshes = Timed(meshes, stages, "decode")
        with stages.stage("export"):
            export(
                args.output,
                meshes,
                fps=motion.fps,
                audio=sound,
                force=args.force,
                sound=args.sound or "wav",
                pad=motion.pad,
                pose=motion.pose,
                **_options.morph_options(args),
            )
    print(f"{args.output}: {len(motion)} frames, {motion.fps:g} fps, seed {motion.provenance['seed']}")
    if motion.provenance.get("encoder") == "whisper":
        print("  heard by Whisper (--encoder model: by the model's own encoder)")
    if any(motion.pad):
        before, after = motion.pad
        why = "" if args.pad is not None else ": it is cut in a word (--pad 0 leaves it as it is)"
        print(f"  {before:g} s of silence before the recording, {after:g} s after it{why}")
    if "identity" in motion.provenance:
        print(f"  face drawn for the voice ({motion.provenance['identity']}): invented, nobody's likeness")
    print(stages.report(motion.duration))


def _check_places(args: argparse.Namespace) -> AudioReader:
    """Check what can be told of inputs and outputs before the model is loaded; return the recording."""
    from facetalk.audio.load import AudioReader
    from facetalk.live.curves import SUFFIXES as CURVES
    from facetalk.mesh.export import SUFFIXES, check_output
    from facetalk.motion import SUFFIX as MOTION_SUFFIX

    if args.encoder == "whisper" and args.look_ahead is not None:
        check_whisper_ahead(args.look_ahead)
    identity = None if args.identity is None else Path(args.identity)
    _options.check_sound(args.sound, args.output)
    if args.sound == "original" and args.track is not None:
        raise InputError("--sound original keeps whole files of sound; leave out --track")
    if args.output.suffix.lower() in SUFFIXES:
        check_not_input(args.output, identity)
        check_output(args.output, audio=args.audio, sound=args.sound or "wav", force=args.force)
    else:
        _options.check_output(args.output, (*SUFFIXES, MOTION_SUFFIX, *CURVES), args.audio, identity)
        # Curves are everybody's; the motion keeps whose face it was made for.
        named = args.output.suffix.lower() in CURVES and args.motion is None
        _options.check_curves(args, *(["identity"] if named else []))
    if args.motion is not None:
        _options.check_output(args.motion, (MOTION_SUFFIX,), args.audio, identity)
        if args.motion.resolve() == args.output.resolve():
            raise InputError(f"-o and --motion are both {args.output}; give two places")
    return AudioReader(args.audio, args.track)
