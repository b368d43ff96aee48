"""The mean of two encoders: ``python -m experiments.teachers.blend BEFORE AFTER --share 0.5 --out X``.

Of their weights, as :mod:`experiments.steps.blend` has it of students: the second was taught on from the
first.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from experiments.common.plainly import plainly
from facetalk.audio.encoder import AudioEncoder
from facetalk.errors import InputError
from facetalk.training.audio.mini_wav2vec2 import save_encoder


def main(arguments: list[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m experiments.teachers.blend", description=__doc__)
    parser.add_argument("before", type=Path, help="folder of the encoder that training began from")
    parser.add_argument("after", type=Path, help="folder of the encoder that came of it")
    parser.add_argument("--share", type=float, required=True, help="of the second, 0 to 1")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; must not be there")
    return plainly(_run, parser.parse_args(arguments))


def _run(args: argparse.Namespace) -> None:
    if not 0.0 <= args.share <= 1.0:
        raise InputError(f"the share must lie in 0..1, got {args.share:g}")
    if args.out.exists():
        raise InputError(f"{args.out} is there already; name another --out")
    before, after = (AudioEncoder.from_pretrained(folder).model for folder in (args.before, args.after))
    old, new = before.state_dict(), after.state_dict()
    if {name: value.shape for name, value in old.items()} != {k: v.shape for k, v in new.items()}:
        raise InputError("the encoders have other shapes; blend one with what it was trained on from")
    mean = {name: torch.lerp(old[name].double(), new[name].double(), args.share) for name in new}
    after.load_state_dict(mean)
    save_encoder(after, args.out)
    print(f"{args.out}: {args.share:g} of {args.after}, the rest of {args.before}")


if __name__ == "__main__":
    sys.exit(main())
