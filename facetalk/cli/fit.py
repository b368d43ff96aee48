"""``facetalk fit --points frames/*.ply -o motion.safetensors``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from facetalk.cli import _options
from facetalk.errors import InputError
from facetalk.files import atomic_path, check_not_input


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the verb."""
    parser.add_argument("--points", type=Path, nargs="+", required=True, metavar="FILE",
                        help="one a frame, in order: .ply, .obj, .stl, .off (clouds, or meshes that points "
                        "are drawn on), .npy or .npz (N, 3); or one .npy or .npz (T, N, 3)")  # fmt: skip
    parser.add_argument("-o", "--output", type=Path, required=True, help="motion.safetensors")
    parser.add_argument("--report", type=Path, default=None, metavar="FILE",
                        help="also write .json: how well each frame is explained, and its pose")  # fmt: skip
    parser.add_argument("--model", default="default",
                        help="a built-in model, a model folder, or an NPHM's (facetalk convert)")  # fmt: skip
    parser.add_argument("--identity", default=None, metavar="CODE",
                        help="the person: a .npy code, a motion of the same person, or 'fit' to find the "
                        "built-in head's from the first frames (default: the head's own)")  # fmt: skip
    parser.add_argument("--fps", type=_options.positive, default=25.0, help="frames a second")
    parser.add_argument("--unit", choices=("metres", "millimetres", "centimetres", "head"), default=None,
                        help="of the points (default: found by their extent)")  # fmt: skip
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
    from facetalk.motion import SUFFIX

    _options.check_output(args.output, (SUFFIX,), *args.points)
    if args.report is not None:
        check_not_input(args.report, *args.points, args.output)
        _options.check_output(args.report, (".json",), *args.points)
    from tqdm import tqdm

    from facetalk.fitting import FitOptions, fit_sequence
    from facetalk.fitting.scans import Scans

    _options.set_threads(args.threads)
    scans = Scans(args.points)
    model = _model(args)
    options = FitOptions(method=args.method, points=args.per_frame, pose=not args.no_pose)
    identity = _identity(args, model, scans)
    with tqdm(total=len(scans), unit="frame", desc="fit", disable=None) as bar:
        fit = fit_sequence(
            scans, model, fps=args.fps, identity=identity, options=options, unit=args.unit,
            progress=lambda done: bar.update(done - bar.n), names=scans.names,
        )  # fmt: skip
    fit.motion.save(args.output)
    report = fit.report.as_json()
    if args.report is not None:
        report["poses"] = np.round(fit.poses, 6).tolist()
        with atomic_path(args.report) as temporary:
            temporary.write_text(json.dumps(report, indent=1) + "\n")
    print(
        f"{args.output}: {len(fit.motion)} frames, mean distance {report['mean_mm']:.2f} mm, "
        f"{100 * report['outliers']:.0f} % of the points beyond {options.outlier_mm:g} mm"
    )
    if report["flagged"]:
        some = ", ".join(scans.names[t] for t in report["flagged"][:3])
        print(f"look at {len(report['flagged'])} frames that are not well explained: {some} ...")


def _model(args: argparse.Namespace) -> Any:
    """The head that is fitted."""
    from facetalk.models import builtin_models, find_model
    from facetalk.nphm.checkpoint import load_checkpoint
    from facetalk.nphm.head.head import HeadModel

    folder = Path(args.model)
    if args.model in builtin_models() or (folder / "head").is_dir():
        if args.direction is not None:
            raise InputError("--direction is for NPHM checkpoints; the built-in head's is known")
        return HeadModel.load(find_model(args.model).folder / "head")
    return load_checkpoint(folder, direction=args.direction)


def _identity(args: argparse.Namespace, model: Any, scans: Any) -> Any:
    from facetalk.fitting.identity import fit_identity
    from facetalk.motion import SUFFIX, Motion
    from facetalk.nphm.head.head import HeadModel
    from facetalk.reading import read_array

    if args.identity is None:
        return None
    if args.identity == "fit":
        if not isinstance(model, HeadModel):
            raise InputError("--identity fit is for the built-in head; give an NPHM's code as a .npy file")
        from tqdm import tqdm

        with tqdm(total=4, unit="round", desc="identity", disable=None) as bar:
            return fit_identity(
                [scans[t] for t in range(min(3, len(scans)))], model, rounds=4, unit=args.unit,
                progress=lambda done: bar.update(done - bar.n),
            )  # fmt: skip
    path = Path(args.identity)
    if path.suffix.lower() == SUFFIX:
        return Motion.load(path).identity
    if path.suffix.lower() != ".npy":
        raise InputError(f"--identity: expected a .npy code, a {SUFFIX} motion, or fit; got {args.identity}")
    return read_array(path)
