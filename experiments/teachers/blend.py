"""The mean of two encoders: ``python -m experiments.teachers.blend BEFORE AFTER --share 0.5 --out X``.

Of their weights, as :mod:`experiments.steps.blend` has it of students: the second was taught on from the
first.
"""

from __future__ import annotations

import argparse
import sys

from experiments.common import blending
from experiments.common.plainly import plainly
from facetalk.audio.encoder import AudioEncoder
from facetalk.training.audio.mini_wav2vec2 import save_encoder


def main(arguments: list[str] | None = None) -> int:
    """See the module."""
    parser = blending.parser("experiments.teachers.blend", __doc__, "encoder")
    return plainly(_run, parser.parse_args(arguments))


def _run(args: argparse.Namespace) -> None:
    blending.require_new(args.out)
    before, after = (AudioEncoder.from_pretrained(folder).model for folder in (args.before, args.after))
    after.load_state_dict(
        blending.mean_weights(before.state_dict(), after.state_dict(), args.share, "encoder")
    )
    save_encoder(after, args.out)
    print(f"{args.out}: {args.share:g} of {args.after}, the rest of {args.before}")


if __name__ == "__main__":
    sys.exit(main())
