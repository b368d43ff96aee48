"""``facetalk fit --points frames/*.ply -o motion.safetensors``, ``--views``, and ``--takes`` to a corpus."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from facetalk.cli import _options
from facetalk.errors import InputError
from facetalk.files import atomic_path, check_not_input

_OF_ONE = ("points", "views", "report", "sheet")
_OF_MANY = ("sync",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the verb."""
    what = parser.add_argument_group("recordings, at least one of")
    what.add_argument("--points", type=Path, nargs="+", default=None, metavar="FILE",
                      help="one a frame, in order: .ply, .obj, .stl, .off (clouds, or meshes that points "
                      "are drawn on), COLMAP's points3D.txt or .bin, .npy or .npz (N, 3); or one .npy or "
                      ".npz (T, N, 3)")  # fmt: skip
    what.add_argument("--views", type=Path, default=None, metavar="CAPTURE",
                      help=".json of cameras: K, R, t, distortion (where none has any, they are found in the "
                      "pictures), and of each its images (a pattern, a folder, a list or a video) and "
                      "perhaps masks, its depth maps (16-bit PNG), or its 2-D landmarks (T, 68, 2); one "
                      "camera alone is experimental")  # fmt: skip
    what.add_argument("--takes", type=Path, metavar="LIST",
                      help="many recordings, one JSON object a line: id, audio, points, views (or motion, "
                      "which an earlier fit wrote), and where needed voice, fps, offset, identity, unit, "
                      "licence, split; makes a corpus that facetalk train motion reads")  # fmt: skip
    parser.add_argument("-o", "--output", type=Path, required=True,
                        help="motion.safetensors; of --takes the folder of the corpus")  # fmt: skip
    parser.add_argument("--report", type=Path, default=None, metavar="FILE",
                        help="also write .json: how well each frame is explained, and its pose")  # fmt: skip
    parser.add_argument("--sheet", type=Path, default=None, metavar="FILE",
                        help="also write .png: scans over the fitted face, in some frames")  # fmt: skip
    parser.add_argument("--sync", choices=("check", "shift", "ignore"), default=None,
                        help="a take whose lips are not in step with its sound is left out (check, the "
                        "default), moved (shift), or kept (ignore)")  # fmt: skip
    parser.add_argument("--model", default="default",
                        help="a built-in model, a model folder, or an NPHM's (facetalk convert)")  # fmt: skip
    parser.add_argument("--identity", default=None, metavar="CODE",
                        help="the person: a .npy code, a motion of the same person, or 'fit' to find it by "
                        "the first frames (default: the head's own)")  # fmt: skip
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
    parser.add_argument("--threads", type=_options.thread_count, default=None,
                        help="CPU threads (default: all cores)")  # fmt: skip


def run(args: argparse.Namespace) -> None:
    """Fit and write."""
    args.points = args.points or []
    if args.takes is None and not args.points and args.views is None:
        raise InputError("nothing to fit: give --points, --views or --takes")
    unused = _OF_ONE if args.takes is not None else _OF_MANY
    for name in unused:
        if getattr(args, name):
            raise InputError(f"--{name} is not for {'--takes' if args.takes is not None else '--points'}")
    if args.takes is None:
        return _one(args)
    _many(args)


def _one(args: argparse.Namespace) -> None:
    """One recording to a motion."""
    from facetalk.motion import SUFFIX

    inputs = [*args.points, args.views]
    _options.check_output(args.output, (SUFFIX,), *inputs)
    if args.report is not None:
        check_not_input(args.report, *inputs, args.output)
        _options.check_output(args.report, (".json",), *inputs)
    if args.sheet is not None:
        check_not_input(args.sheet, *inputs)
        _options.check_output(args.sheet, (".png",), *inputs)
    from tqdm import tqdm

    from facetalk.fitting.views import Capture

    _options.set_threads(args.threads)
    kept = args.output.with_name(args.output.name + ".cameras.json")
    for named in (args.report, args.views):
        if named is not None and named.absolute() == kept.absolute():
            raise InputError(f"{named}: there places of cameras are kept that are found; choose another name")
    capture = Capture(args.points, args.views, args.unit, kept)
    if args.sheet is not None and capture.scans is None and capture.photos is None:
        raise InputError("--sheet shows scans over the fitted face; landmarks alone have none")
    model, options = _model(args), _fit_options(args)
    identity = _identity(args.identity, capture, model, args.fps, options)
    state = args.output.with_name(args.output.name + ".partial")
    with tqdm(total=capture.passes * len(capture), unit="frame", desc="fit", disable=None) as bar:
        fit = capture.fit(
            model, fps=args.fps, identity=identity, options=options, state=state,
            progress=lambda done: bar.update(done - bar.n),
        )  # fmt: skip
    fit.motion.save(args.output)
    report = fit.report.as_json()
    if capture.views is not None:
        report["cameras"] = capture.views.cameras()
    if args.report is not None:
        report["poses"] = np.round(fit.poses, 6).tolist()
        with atomic_path(args.report) as temporary:
            temporary.write_text(json.dumps(report, indent=1) + "\n")
    scans = capture.scans or (capture.views.seen if capture.views is not None else None)
    if args.sheet is not None and scans is not None:
        from facetalk.fitting.sheet import write_sheet

        write_sheet(args.sheet, scans, fit, model)
    print(f"{args.output}: {len(fit.motion)} frames{_how_well(report, options.outlier_mm)}")
    if report["flagged"]:
        names = capture.names or [f"frame {t}" for t in range(len(fit.motion))]
        some = ", ".join(names[t] for t in report["flagged"][:3])
        print(f"look at {len(report['flagged'])} frames that are not well explained: {some} ...")
    for name in capture.views.wrong if capture.views is not None else ():
        print(f"camera {name} does not agree with the others, and was left out; look at its K, R and t")
    if capture.views is not None and capture.views.found:
        print(f"places of {len(capture.views.views)} cameras were found in their pictures: {kept}")
    for name in capture.views.unplaced if capture.views is not None else ():
        print(f"the place of camera {name} was not found, and it was left out; give each camera K, R and t")
    if capture.eye is not None:
        print("experimental: one camera alone; depth is told by the head's size, and shapes by priors")
    for name in capture.views.blind if capture.views is not None else ():
        print(f"no face was found in the pictures of camera {name}")


def _how_well(report: dict[str, Any], outlier_mm: float) -> str:
    """What a report says in short."""
    told = ""
    if "mean_mm" in report:
        told += f", mean distance {report['mean_mm']:.2f} mm, {100 * report['outliers']:.0f} % of the points "
        told += f"beyond {outlier_mm:g} mm"
    if "landmark_mm" in report:
        told += f", landmarks {report['landmark_mm']:.2f} mm"
    if "landmark_px" in report:
        told += f" ({report['landmark_px']:.2f} px)"
    return f"{told}, lips shut in {report['closed']}"


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
        person=lambda take, capture: _identity(
            take.identity or args.identity, capture, model, take.fps or args.fps, _fit_options(args)
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


def _identity(text: str | None, capture: Any, model: Any, fps: float, options: Any) -> Any:
    from facetalk.fitting.capture_identity import find_person, rounds_of
    from facetalk.motion import SUFFIX, Motion
    from facetalk.reading import read_array

    if text is None:
        return None
    if text == "fit":
        from tqdm import tqdm

        with tqdm(total=rounds_of(capture), unit="round", desc="identity", disable=None) as bar:
            return find_person(capture, model, fps, options, lambda done: bar.update(done - bar.n))
    path = Path(text)
    if path.suffix.lower() == SUFFIX:
        return Motion.load(path).identity
    if path.suffix.lower() != ".npy":
        raise InputError(f"--identity: expected a .npy code, a {SUFFIX} motion, or fit; got {text}")
    return read_array(path)
