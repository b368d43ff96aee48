"""``facetalk bench``: what each stage costs on this machine, and how far that is from the least it could."""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from facetalk.cli import _options
from facetalk.errors import InputError
from facetalk.files import atomic_path, check_not_input, check_replaceable

if TYPE_CHECKING:
    from facetalk.bench import Peaks, StageCost

_BUDGET = 2.0  # seconds for a stage, beyond what one run of it takes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the verb."""
    parser.add_argument("--checkpoint", type=Path, default=None,
                        help="time the field of this checkpoint instead of the model's")  # fmt: skip
    parser.add_argument("--family", choices=("nphm", "mononphm"), default=None,
                        help="kind of networks in the checkpoint (default: nphm)")  # fmt: skip
    _options.add_direction(parser)
    parser.add_argument("--resolution", type=int, default=128, help="grid points per axis of the field")
    parser.add_argument("--frames", type=_options.positive_int, default=25, help="frames of the clip")
    parser.add_argument(
        "--json", type=Path, default=None, metavar="FILE", help="also write the figures there"
    )
    _options.add_model_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Measure and print."""
    from facetalk.pipeline import RESOLUTION_RANGE

    low, high = RESOLUTION_RANGE
    if not low <= args.resolution <= high:
        raise InputError(f"--resolution must lie in [{low}, {high}], got {args.resolution}")
    if args.frames > 1000:
        raise InputError(f"--frames must be at most 1000, got {args.frames}")
    if args.json is not None:
        check_not_input(args.json, args.checkpoint)
        check_replaceable(args.json)
    if args.checkpoint is None and (args.direction is not None or args.family is not None):
        option = "--family" if args.direction is None else "--direction"
        raise InputError(f"{option} belongs to --checkpoint; the model's head says its own")
    _options.set_threads(args.threads)
    from facetalk.bench import peaks

    with tqdm(desc="bench", unit=" stages", leave=False, disable=not sys.stderr.isatty()) as bar:
        bar.set_postfix_str("peak rates")
        rates = peaks()
        costs = []
        for cost in _stages(args, rates):
            costs.append(cost)
            bar.update()
            bar.set_postfix_str(f"after {cost.name}")
        # Once more at the end: a neighbour that was busy at the start must not make the floors too high.
        rates = rates.best(peaks())
        costs = [cost.at(rates) for cost in costs]
    print(_table(costs, rates))
    if args.json is not None:
        content = {"machine": _machine(rates), "stages": [_plain(cost) for cost in costs]}
        with atomic_path(args.json) as path:
            path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _stages(args: argparse.Namespace, rates: Peaks) -> Iterator[StageCost]:
    import numpy as np
    import torch

    from facetalk import bench as stagecost
    from facetalk.nphm import load_checkpoint
    from facetalk.pipeline import FaceTalk

    model = FaceTalk.from_pretrained(args.model, args.device)
    rng = np.random.default_rng(0)
    checkpoint = None
    if args.checkpoint is not None:  # before anything long, since it may be wrong
        checkpoint = load_checkpoint(args.checkpoint, family=args.family or "nphm", direction=args.direction)
        if checkpoint.deformation is None:
            raise InputError(
                f"--checkpoint {args.checkpoint}: has no deformation network to pose the head with"
            )
    yield from stagecost.audio_stages(model, rates, args.frames, _BUDGET)
    talking = _talking(model.head.expression_names, args.frames)
    if checkpoint is None:
        field, codes = model.head.nphm.bind(model.head.default_identity), talking
    else:
        # Codes of the released models have norms of at most 1.
        codes = _walk(rng, args.frames, checkpoint.expression_dim)
        field = checkpoint.bind(torch.zeros(checkpoint.identity_dim))
    bounds = model.config.bounds
    yield from stagecost.field_stages(field, codes, args.resolution, bounds, rates, _BUDGET)
    yield from stagecost.mesh_stages(field, codes[0], args.resolution, bounds, rates, 0.5 * _BUDGET)
    yield from stagecost.rig_stages(model, talking, rates, _BUDGET)


def _walk(rng: Any, frames: int, width: int) -> Any:
    """(T, width) float32: codes of norm 0.5 that turn as fast as a face moves, in eight frames."""
    import numpy as np

    ends = rng.standard_normal((2, width))
    ends /= np.linalg.norm(ends, axis=1, keepdims=True)
    turn = 0.5 * np.pi * np.arange(frames)[:, None] / 8
    return (0.5 * (np.cos(turn) * ends[0] + np.sin(turn) * ends[1])).astype(np.float32)


def _talking(names: tuple[str, ...], frames: int) -> Any:
    """(T, E) float32 weights of a mouth that opens and closes four times a second at 25 frames a second."""
    import numpy as np

    share = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(frames) / 6.25)
    out = np.zeros((frames, len(names)), np.float32)
    for name, weight in (
        ("jawOpen", 0.5),
        ("mouthFunnel", 0.3),
        ("mouthStretch_L", 0.3),
        ("mouthStretch_R", 0.3),
    ):
        if name in names:
            out[:, names.index(name)] = weight * share
    return out


def _machine(rates: Peaks) -> dict[str, Any]:
    import torch

    import facetalk
    from facetalk import ops

    return {
        "facetalk": facetalk.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": _processor(),
        "threads": ops.threads(),
        "gflop_per_s": round(rates.gflops, 1),
        "gbyte_per_s": round(rates.gbytes, 1),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    found = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return found[0] if found else platform.machine()


def _plain(cost: StageCost) -> dict[str, Any]:
    return {key: round(v, 9) if isinstance(v, float) else v for key, v in dataclasses.asdict(cost).items()}


def _table(costs: list[StageCost], rates: Peaks) -> str:
    machine = _machine(rates)
    head = (
        f"{machine['processor']}, {machine['threads']} threads; peak measured here "
        f"{rates.gflops:.0f} GFLOP/s, copy {rates.gbytes:.1f} GB/s\n"
    )
    lines = [
        head,
        f"{'stage':<33} {'ms':>10}  {'per':<6} {'floor ms':>10} {'x floor':>8}  what the floor counts",
    ]
    for cost in costs:
        floor = f"{1e3 * cost.floor:10.3f} {cost.above:8.1f}" if cost.floor > 0 else f"{'-':>10} {'-':>8}"
        lines.append(f"{cost.name:<33} {1e3 * cost.seconds:10.3f}  {cost.unit:<6} {floor}  {cost.note}")
    below = [cost.name for cost in costs if cost.floor > 0 and cost.above < 1.0]
    if below:
        lines.append(
            f"\n{', '.join(below)}: below 1, so the peak was measured too low, as it is when something else "
            "runs; take these floors for estimates, or run again on a quiet machine"
        )
    return "\n".join(lines)
