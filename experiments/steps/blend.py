"""The mean of two students' weights: ``python -m experiments.steps.blend BEFORE AFTER --share 0.6 --out X``.

A stage of training that gains one thing may lose another. Where it began from the student before, the
straight line between their weights leads through students that have most of both (Wortsman et al.,
"Robust fine-tuning of zero-shot models", CVPR 2022); which share is right is a matter of measuring.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys

from experiments.common import blending
from experiments.common.plainly import plainly
from facetalk.diffusion.model import MotionModel
from facetalk.errors import InputError

_MEASURED = ("new_1_mm", "new_2_mm", "used_1_mm", "used_2_mm", "ratio", "decided_by")
"""Notes that tell of the second student alone."""


def blend(before: MotionModel, after: MotionModel, share: float) -> MotionModel:
    """A copy of ``after`` whose student's weights are ``(1 - share)`` times those of ``before`` and ``share``
    times its own.

    Raises:
        InputError: one of them has no student, they have other shapes, or the share lies outside 0 to 1.
    """
    if before.student is None or after.student is None:
        raise InputError("both models need a few-step student; make one with `facetalk distill`")
    mean = blending.mean_weights(before.student.state_dict(), after.student.state_dict(), share, "student")
    after.student.load_state_dict(mean)
    notes = {name: value for name, value in after.student_range.notes.items() if name not in _MEASURED}
    told = f"python -m experiments.steps.blend BEFORE AFTER --share {share:g}"
    notes["trained_with"] = f"{notes.get('trained_with', '')}; {told}".removeprefix("; ")
    after.student_range = dataclasses.replace(
        after.student_range, default_steps=before.student_range.default_steps, notes=notes
    )
    return after


def main(arguments: list[str] | None = None) -> int:
    """See the module."""
    parser = blending.parser("experiments.steps.blend", __doc__, "motion model")
    return plainly(_run, parser.parse_args(arguments))


def _run(args: argparse.Namespace) -> None:
    blending.require_new(args.out)
    blend(MotionModel.load(args.before), MotionModel.load(args.after), args.share).save(args.out, half=True)
    print(f"{args.out}: {args.share:g} of {args.after}, the rest of {args.before}")


if __name__ == "__main__":
    sys.exit(main())
