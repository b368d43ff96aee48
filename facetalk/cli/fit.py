"""``facetalk fit --points frames/*.ply -o motion.safetensors``, and ``--takes takes.jsonl -o corpus``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from facetalk.cli import _options
from facetalk.errors import InputError
from facetalk.files import atomic_path, check_not_input

_OF_ONE = ("report",)
_OF_MANY = ("sync",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the verb."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--points", type=Path, nargs="+", metavar="FILE",
                      help="one a frame, in order: .ply, .obj, .stl, .off (clouds, or meshes that points "
                      "are drawn on), .npy or .npz (N, 3); or one .npy or .npz (T, N, 3)")  # fmt: skip
    what.add_argument("--takes", type=Path, metavar="LIST",
                      help="many recordings, one JSON object a line: id, audio, points (or motion, which an "
                      "earlier fit wrote), and where needed voice, fps, offset, identity, unit, licence, "
                      "split; makes a corpus that facetalk train motion reads")  # fmt: skip
    parser.add_argument("-o", "--output", type=Path, required=True,
                        help="motion.safetensors; of --takes the folder of the corpus")  # fmt: skip
    parser.add_argument("--report", type=Path, default=None, metavar="FILE",
                        help="also write .json: how well each frame is explained, and its pose")  # fmt: skip
    parser.add_argument("--sync", choices=("check", "shift", "ignore"), default=None,
                        help="a take whose lips are not in step with its sound is left out (check, the "
                        "default), moved (shift), or kept (ignore)")  # fmt: skip
    parser.add_argument("--model", default="default",
                        help="a built-in model, a model folder, or an NPHM's (facetalk convert)")  # fmt: skip
    parser.add_argument("--identity", default=None, metavar="CODE",
                        help="the person: a .npy code, a motion of the same person, or 'fit' to find the "
                        "built-in head's from the first frames (default: the head's own)")  # fmt: skip
    parser.add_argument("--fps", type=_options.positive, default=25.0, help="frames a second")
    parser.add_argument("--unit", choices=("metres", "millimetres", "centimetres", "head"), default=None,
                        help="of the points (default: found by their extent)")  # fmt: skip
    parser.add_argument("--aligned", action="store_true",
                        help="the points lie in head space already, but for their --unit")  # fmt: skip
    parser.add_argument("--method", choices=("newton", "adam"), default="newton",
                        help="newton: Gauss-Newton steps; adam: as in the paper, slower")  # fmt: skip
    parser.add_argument("--per-frame", type=_options.positive_int, default=5000, metavar="N",
                        help="points of a frame that are looked at")  # fmt: skip
    parser.add_argument("--no-pose", action="store_true", help="the points stay in the first frame's pose")
    _options.add_direction(parser)
    parser.add_argument("--threads", type=_options.positive_int, default=None,
                        help="CPU threads (default: all cores)")  # fmt: skip


def run(args: argparse.Namespace) -> None:
    """Fit and write."""
    unused = _OF_ONE if args.takes is not None else _OF_MANY
    for name in unused:
        if getattr(args, name) is not None:
            raise InputError(f"--{name} is not for {'--takes' if args.takes is not None else '--points'}")
    if args.takes is None:
        return _one(args)
    _many(args)


def _one(args: argparse.Namespace) -> None:
    """One recording to a motion."""
    from facetalk.motion import SUFFIX

    _options.check_output(args.output, (SUFFIX,), *args.points)
    if args.report is not None:
        check_not_input(args.report, *args.points, args.output)
        _options.check_output(args.report, (".json",), *args.points)
    from tqdm import tqdm

    from facetalk.fitting import fit_sequence
    from facetalk.fitting.scans import Scans

    _options.set_threads(args.threads)
    scans = Scans(args.points)
    model, options = _model(args), _fit_options(args)
    identity = _identity(args.identity, args.unit, model, scans)
    state = args.output.with_name(args.output.name + ".partial")
    with tqdm(total=len(scans), unit="frame", desc="fit", disable=None) as bar:
        fit = fit_sequence(
            scans, model, fps=args.fps, identity=identity, options=options, unit=args.unit,
            progress=lambda done: bar.update(done - bar.n), names=scans.names, state=state, stamp=scans.stamp,
        )  # fmt: skip
    fit.motion.save(args.output)
    report = fit.report.as_json()
    if args.report is not None:
        report["poses"] = np.round(fit.poses, 6).tolist()
        with atomic_path(args.report) as temporary:
            temporary.write_text(json.dumps(report, indent=1) + "\n")
    print(
        f"{args.output}: {len(fit.motion)} frames, mean distance {report['mean_mm']:.2f} mm, "
        f"{100 * report['outliers']:.0f} % of the points beyond {options.outlier_mm:g} mm, lips shut in "
        f"{report['closed']}"
    )
    if report["flagged"]:
        some = ", ".join(scans.names[t] for t in report["flagged"][:3])
        print(f"look at {len(report['flagged'])} frames that are not well explained: {some} ...")


def _many(args: argparse.Namespace) -> None:
    """Many recordings to a corpus."""
    check_not_input(args.output, args.takes)
    from facetalk.fitting.corpus import CorpusOptions, build_corpus
    from facetalk.fitting.takes import read_takes

    takes, options = read_takes(args.takes), CorpusOptions(sync=args.sync or "check")
    _options.set_threads(args.threads)
    model = _model(args)
    outcomes = build_corpus(
        takes, model, args.output, fps=args.fps, unit=args.unit, fit=_fit_options(args), options=options,
        person=lambda take, scans: _identity(
            take.identity or args.identity, take.unit or args.unit, model, scans
        ),
    )  # fmt: skip
    width = max(len(outcome.id) for outcome in outcomes)
    for outcome in outcomes:
        distance = "" if outcome.median_mm is None else f", median {outcome.median_mm:.2f} mm"
        late = "" if outcome.lips_late_s is None else f", lips {1000 * outcome.lips_late_s:+.0f} ms"
        why = f"  left out: {outcome.left_out}" if outcome.left_out else ""
        print(
            f"{outcome.id:{width}}  {outcome.kept_s:7.2f} s kept, {outcome.flagged} of {outcome.frames} "
            f"frames flagged{distance}{late}{why}"
        )
    seconds = sum(outcome.kept_s for outcome in outcomes)
    print(f"{args.output}: {seconds:.1f} s; train on it with `facetalk train motion --corpus {args.output}`")


def _fit_options(args: argparse.Namespace) -> Any:
    from facetalk.fitting import FitOptions

    return FitOptions(
        method=args.method, points=args.per_frame, pose=not args.no_pose, aligned=args.aligned
    )  # fmt: skip


def _model(args: argparse.Namespace) -> Any:
    """The head that is fitted."""
    from facetalk.models import builtin_models, find_model
    from facetalk.models.heads import mean_landmarks, open_head
    from facetalk.nphm.head.head import HeadModel
    from facetalk.nphm.plain_head import PlainHead

    folder = Path(args.model)
    if args.model in builtin_models() or (folder / "head").is_dir():
        if args.direction is not None:
            raise InputError("--direction is for NPHM checkpoints; a model folder's head says its own")
        head = open_head(find_model(args.model).folder / "head")
        if isinstance(head, HeadModel):
            _ = head.content
        return head
    return PlainHead.open(folder, mean_landmarks(), direction=args.direction)


def _identity(text: str | None, unit: str | None, model: Any, scans: Any) -> Any:
    from facetalk.fitting.identity import fit_identity
    from facetalk.motion import SUFFIX, Motion
    from facetalk.nphm.head.head import HeadModel
    from facetalk.reading import read_array

    if text is None:
        return None
    if text == "fit":
        if not isinstance(model, HeadModel):
            raise InputError("--identity fit is for the built-in head; give an NPHM's code as a .npy file")
        from tqdm import tqdm

        with tqdm(total=4, unit="round", desc="identity", disable=None) as bar:
            return fit_identity(
                [scans[t] for t in range(min(3, len(scans)))], model, rounds=4, unit=unit,
                progress=lambda done: bar.update(done - bar.n),
            )  # fmt: skip
    path = Path(text)
    if path.suffix.lower() == SUFFIX:
        return Motion.load(path).identity
    if path.suffix.lower() != ".npy":
        raise InputError(f"--identity: expected a .npy code, a {SUFFIX} motion, or fit; got {text}")
    return read_array(path)
