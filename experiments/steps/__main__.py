"""Few steps against many: ``python -m experiments.steps --audio DIR --out DIR``.

Samples every row for held-out recordings with the same noises, measures life, diversity, lips and time, and
writes ``results.json``, ``table.md``, ``ratios.md`` and ``steps.png``. What was sampled is kept, so the
command may be broken off and repeated. ``--adopt`` also writes the smallest number of the student's steps
that keeps every figure within 5 % (or comes nearest to it) into the model's motion/config.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.common.plainly import plainly
from experiments.steps import report
from experiments.steps.rows import CONVERGED_STEPS, SAMPLERS, Motions, Row, find_clips
from experiments.steps.scores import Scorer, Scores, score, summary
from facetalk.errors import InputError
from facetalk.files import atomic_path
from facetalk.metrics.motion_features import FEATURE_REGIONS, WindowBasis
from facetalk.pipeline import FaceTalk

DEFAULT_ROWS = (
    "student-1,student-2,student-4,student-8,teacher-10,teacher-50,"
    "teacher-1@12,teacher-2@12,teacher-3@12,teacher-4@12,teacher-8@12,teacher-25@12,teacher-100@12,teacher-1000,"
    "dpm++-4@12,dpm++-8@12,dpm++-10@12,dpm++-25@12,dpm++-50@12"
)
TOLERANCE = 0.05
LONG = 500
"""Rows of more steps than this are sampled for a tenth of the clips and one seed."""


def parse(name: str, clips: int) -> Row:
    """A row by its name, such as "student-2", or "teacher-3@10" for the first ten clips alone."""
    name, _, few = name.partition("@")
    sampler, _, steps = name.rpartition("-")
    if sampler not in SAMPLERS or not steps.isdigit():
        raise InputError(
            f"no row {name!r}; rows are named SAMPLER-STEPS[@CLIPS] with one of {', '.join(SAMPLERS)}"
        )
    if few and (not few.isdigit() or int(few) < 2):
        raise InputError(f"row {name!r}: needs at least two clips, got {few}")
    if sampler == "truth" and steps != "1":
        raise InputError(f"row {name!r}: truth is not sampled in steps; its row is truth-1")
    if sampler == "converged" and (int(steps) == 0 or int(steps) % CONVERGED_STEPS):
        raise InputError(f"row {name!r}: steps must be a multiple of {CONVERGED_STEPS}")
    many = int(steps) > LONG
    most = min(int(few), clips) if few else max(2, clips // 10) if many else None
    return Row(sampler, int(steps), most, 1 if many else None)


def main() -> int:
    """Run the experiment."""
    parser = argparse.ArgumentParser(prog="python -m experiments.steps", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--audio", type=Path, nargs="+", required=True, help="held-out recordings; corpora by split"
    )
    parser.add_argument("--out", type=Path, required=True, help="motions and results")
    parser.add_argument("--model", default="default")
    parser.add_argument("--encoder", default="model", help="what hears: model or whisper")
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--guidance", type=float, default=None, help="default: the model's")
    parser.add_argument(
        "--look-ahead",
        type=float,
        help="seconds that are heard ahead of a frame; default: the whole recording",
    )
    parser.add_argument("--rows", default=DEFAULT_ROWS, help="comma-separated; default: %(default)s")
    parser.add_argument("--reference", default="converged-52")
    parser.add_argument("--sample-only", action="store_true", help="no figures yet")
    parser.add_argument("--adopt", action="store_true", help="write the default number of steps to the model")
    return plainly(run, parser.parse_args())


def run(args: argparse.Namespace) -> None:
    """Sample, score, report."""
    torch.set_num_threads(1)
    model = FaceTalk.from_pretrained(args.model, "cpu", encoder=args.encoder)
    clips = find_clips(args.audio, args.clips)
    reference = parse(args.reference, args.clips)
    rows = [parse(name, args.clips) for name in args.rows.split(",") if name.split("@")[0] != args.reference]
    if args.look_ahead is not None and any(
        row.sampler not in ("student", "truth") for row in (*rows, reference)
    ):
        raise InputError(
            "--look-ahead: live motion is the student's; give rows and a reference of student and truth"
        )
    if any(row.sampler == "truth" for row in (*rows, reference)):
        clips = [clip for clip in clips if clip.phones]
        if not clips:
            raise InputError(
                "truth is drawn from phones, and no recording has any; give a corpus with --audio"
            )
    motions = Motions(
        args.out / "motions", model, seeds=args.seeds, guidance=args.guidance, look_ahead=args.look_ahead
    )
    for row in [*rows, reference]:
        motions.sample(row, clips)
    if args.sample_only:
        return
    scorer = Scorer(model)
    base = score(scorer, motions, reference, reference, clips)
    bases = {region: WindowBasis.fit(base.windows[region][0]) for region in FEATURE_REGIONS}
    results = {
        "command": "python -m experiments.steps",
        "reference": reference.name, "clips": len(clips), "seeds": args.seeds, "guidance": motions.guidance,
        "mouth_guidance": motions.mouth_guidance, "look_ahead": args.look_ahead,
        "minutes": sum(len(motions.load(reference, clip)[0][0]) for clip in clips) / model.config.fps / 60.0,
        "student": model.motion_model.student_range.notes,
        "rows": [_row(scorer, motions, row, reference, clips, base, bases) for row in [*rows, reference]],
    }  # fmt: skip
    _write(args.out, results)
    print(report.table(results))
    if args.adopt:
        adopt(model.config.folder / "motion", results)


def _row(
    scorer: Scorer,
    motions: Motions,
    row: Row,
    reference: Row,
    clips: Any,
    base: Scores,
    bases: dict[str, WindowBasis],
) -> dict[str, Any]:
    own = base if row == reference else score(scorer, motions, row, reference, clips)
    return summary(row, own, base, bases)


def _write(out: Path, results: dict[str, Any]) -> None:
    students = [row["row"] for row in results["rows"] if row["sampler"] == "student"]
    for name, text in (
        ("results.json", json.dumps(results, indent=1)),
        ("table.md", report.table(results)),
        ("ratios.md", report.ratios(results, [*students, "teacher-10", "teacher-50"])),
    ):
        with atomic_path(out / name) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
    report.plot(results, out / "steps.png")


def adopt(folder: Path, results: dict[str, Any]) -> None:
    """Write the default number of steps, and what decided it, into a motion model's config.json."""
    file = folder / "config.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    if "student" not in content:
        raise InputError(f"{folder} has no student")
    students = {row["steps"]: row for row in results["rows"] if row["sampler"] == "student"}
    misses = {
        steps: {
            key: round(found["ratio"], 3)
            for key, found in row["ratios"].items()
            if abs(found["ratio"] - 1.0) > TOLERANCE
        }
        for steps, row in sorted(students.items())
    }
    fit = [steps for steps, missed in misses.items() if not missed]
    # Where none fits, the one whose misses add up to the least; of equals the quickest.
    beyond = {
        steps: sum(abs(ratio - 1.0) - TOLERANCE for ratio in missed.values())
        for steps, missed in misses.items()
    }
    chosen = fit[0] if fit else min(beyond, key=lambda steps: (beyond[steps], steps))
    content["student"]["default_steps"] = chosen
    content["student"]["notes"]["decided_by"] = {
        "command": results["command"],
        "reference": results["reference"],
        "clips": results["clips"],
        "seeds": results["seeds"],
        "tolerance": TOLERANCE,
        "ratios": {key: round(found["ratio"], 3) for key, found in students[chosen]["ratios"].items()},
        "beyond_tolerance": {str(steps): missed for steps, missed in misses.items()},
    }
    with atomic_path(file) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"{file}: default_steps {chosen}", file=sys.stderr)


if __name__ == "__main__":
    np.seterr(all="warn")
    raise SystemExit(main())
