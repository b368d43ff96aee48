"""``facetalk distill``: a student that samples in 1, 2, 4 or 8 steps, from recordings alone."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

from facetalk.cli import _options
from facetalk.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the verb."""
    parser.add_argument("--audio", type=Path, required=True, metavar="DIR",
                        help="recordings: a folder of sound files or a corpus")  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="DIR",
                        help="trajectories, checkpoints, log; and model/, a new motion/")  # fmt: skip
    parser.add_argument("--model", default="default", help="built-in model name or model folder")
    parser.add_argument("--init", type=Path, default=None, metavar="MOTION",
                        help="start from the student of this motion model")  # fmt: skip
    parser.add_argument("--steps", type=_options.positive_int, default=20_000, help="training steps")
    parser.add_argument(
        "--minutes", type=_options.positive, default=None, help="limit on the time that is spent"
    )
    parser.add_argument("--batch", type=_options.positive_int, default=16, help="crops per training step")
    parser.add_argument("--crop", type=_options.positive_int, default=96, help="frames per crop")
    parser.add_argument("--rate", type=_options.positive, default=5e-4, help="peak learning rate")
    parser.add_argument("--guidance", type=_options.non_negative, nargs=2, default=(1.0, 2.5),
                        metavar=("LOW", "HIGH"), help="weights of guidance to learn")  # fmt: skip
    parser.add_argument(
        "--clips", type=_options.positive_int, default=24, help="clips per batch of trajectories"
    )
    parser.add_argument("--clip", type=_options.positive_int, default=192, help="frames per trajectory")
    parser.add_argument("--between", type=_options.positive_int, default=2,
                        help="teacher's steps between two states that are kept")  # fmt: skip
    parser.add_argument("--last", type=_options.positive_int, default=12,
                        help="teacher's steps from the last of them to the end")  # fmt: skip
    parser.add_argument("--uses", type=_options.positive, default=10.0,
                        help="how often each trajectory is used, on average")  # fmt: skip
    parser.add_argument("--keep", type=_options.positive_int, default=250,
                        help="batches of trajectories to keep, the newest")  # fmt: skip
    parser.add_argument("--anchor", type=int, default=8,
                        help="every n-th step learns the teacher's answer anywhere, 0 = never")  # fmt: skip
    parser.add_argument("--energy", type=_options.non_negative, default=0.0,
                        help="weight of the energy score of one step, 0 = none")  # fmt: skip
    parser.add_argument("--life", type=_options.non_negative, default=0.0,
                        help="weight of the distance of the upper face from the faces of the corpus in "
                        "--audio, 0 = none; only the mouth follows the teacher then")  # fmt: skip
    parser.add_argument("--mouth", type=_options.non_negative, default=0.0,
                        help="weight of the distance of the mouth from that of the corpus for the same "
                        "sound, 0 = none; the upper face stays as in --init, without --life")  # fmt: skip
    parser.add_argument("--starts", type=_options.non_negative, default=None, metavar="SHARE",
                        help="how much of what --life and --mouth look at begins where a recording "
                        "begins; default: 0.5")  # fmt: skip
    parser.add_argument("--apart", type=_options.non_negative, default=None, metavar="TIMES",
                        help="how far apart mouths of two seeds may be, in distances of two faces of the "
                        "corpus for the same sound; 0 = no limit but guidance; default: 1")  # fmt: skip
    parser.add_argument("--variants", type=_options.positive_int, default=2,
                        help="encoded copies of the recordings, all but one with another sound")  # fmt: skip
    parser.add_argument("--encoder", choices=("model", "whisper", "both"), default="model",
                        help="what hears the recordings: the model's own audio encoder, Whisper "
                        "(facetalk[whisper]), or both, for a student that goes with either")  # fmt: skip
    parser.add_argument("--produce", type=_options.positive_int, default=None, metavar="N",
                        help="only make trajectories, as number N beside a training in --out")  # fmt: skip
    parser.add_argument("--threads", type=_options.thread_count, default=1, help="CPU threads")
    parser.add_argument("--workers", type=_options.positive_int, default=None, metavar="N",
                        help="processes that encode the corpus for --life and --mouth; default: this one "
                        "alone")  # fmt: skip
    parser.add_argument("--seed", type=_options.seed, default=0, help="seed of everything random")
    parser.add_argument("--resume", action="store_true", help="continue from --out")


def run(args: argparse.Namespace) -> None:
    """Distil, or produce trajectories for a distillation beside this one."""
    if args.anchor < 0:
        raise InputError(f"--anchor must be at least 0, got {args.anchor}")
    low, high = args.guidance
    if not 0.0 <= low <= high <= 20.0:
        raise InputError(f"--guidance must be two weights in 0..20, the smaller first, got {low:g} {high:g}")
    if args.clip < args.crop or args.crop < 8:
        raise InputError(
            f"--crop must be at least 8 frames and --clip at least as long, got {args.crop} and {args.clip}"
        )
    if args.mouth and not args.life and args.init is None:
        raise InputError(
            "--mouth without --life holds the rest of the face at that of --init; give one of them"
        )
    if args.starts is not None and (args.produce is not None or not (args.life or args.mouth)):
        raise InputError("--starts does nothing without --life or --mouth, nor with --produce; leave it out")
    if args.starts is not None and args.starts > 1.0:
        raise InputError(f"--starts is a share, at most 1, got {args.starts:g}")
    if args.apart is not None and not args.mouth:
        raise InputError("--apart does nothing without --mouth; leave it out")
    if args.workers and (args.produce is not None or not (args.life or args.mouth)):
        raise InputError("--workers does nothing without --life or --mouth, nor with --produce; leave it out")
    if args.mouth and args.produce is not None:
        raise InputError("--mouth does nothing where --produce only makes trajectories; leave it out")
    _options.set_threads(args.threads)
    from facetalk.training.motion.distill_options import DistillOptions
    from facetalk.training.motion.distill_run import Production, distil
    from facetalk.training.processes import is_main_process

    # The model's notes should tell what was used, not what was typed.
    if args.starts is None and (args.life or args.mouth):
        args.starts = DistillOptions.starts
    if args.apart is None and args.mouth:
        args.apart = DistillOptions.apart
    known = {field.name for field in dataclasses.fields(DistillOptions)}
    told = {name: value for name, value in vars(args).items() if name in known and value is not None}
    options = DistillOptions(
        **{**told, "guidance": (low, high)},
        warm_up=args.crop // 4,
        settle=min(args.steps // 3, DistillOptions.settle),
    )
    production = Production(args.clips, args.clip, args.between, args.last, args.keep, args.variants)
    result = distil(
        args.model,
        args.audio,
        args.out,
        options,
        production,
        init=args.init,
        minutes=args.minutes,
        producer=args.produce,
        workers=args.workers or 0,
        encoder=args.encoder,
        resume=args.resume,
        command=_command(args),
        show=sys.stderr.isatty(),
    )
    if result is not None and is_main_process():
        new = f"{result['new_1_mm']:.2f} mm in one step, {result['new_2_mm']:.2f} in two"
        print(
            f"{result['step']} steps in {result['minutes']:.1f} min; error on new noise {new}, "
            f"{result['ratio']:.2f} times that on used noise; the model is in {args.out / 'model'}"
        )


def _command(args: argparse.Namespace) -> str:
    """The options that matter for the result, without the paths of this machine."""
    left_out = ("audio", "out", "model", "init", "resume", "produce", "threads", "workers")
    words = ["facetalk distill"]
    for name, value in vars(args).items():
        if name not in left_out and value is not None:
            values = value if isinstance(value, list | tuple) else [value]
            words.append(f"--{name} " + " ".join(v if isinstance(v, str) else f"{v:g}" for v in values))
    return " ".join(words)
