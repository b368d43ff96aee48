"""The command of both experiments: read the corpus, run what is missing, write results after each row."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.common.corpus import read
from experiments.common.plainly import plainly
from experiments.common.trial import Bench, Budget
from experiments.common.variants import Variant
from experiments.common.yardstick import Weights, Yardstick, spoken_clips, unspoken_clips
from facetalk import metrics
from facetalk.audio import AudioEncoder
from facetalk.data.expressions import EXPRESSION_NAMES
from facetalk.errors import InputError
from facetalk.files import atomic_path
from facetalk.metrics.controls import controls

CONTROLS = ("rest", "shuffled", "delayed", "frozen", "smoothed")
"""Made of draws of the truth, so that they have one fault each."""


def parser(name: str, text: str) -> argparse.ArgumentParser:
    """The options of an experiment."""
    made = argparse.ArgumentParser(prog=f"python -m experiments.{name}", description=text.split("\n")[0])
    made.add_argument("--corpus", type=Path, required=True, help="folder of a speech corpus")
    made.add_argument("--audio", required=True, help="frozen audio encoder, a folder or a hub name")
    made.add_argument("--head", type=Path, required=True, help="ict_facekit_light.npz")
    made.add_argument("--out", type=Path, required=True, help="trainings, rows and results; share it")
    made.add_argument("--recordings", type=Path, help="folder of a further voice, for figures without phones")
    made.add_argument("--steps", type=int, default=Budget.steps, help="optimizer steps (%(default)s)")
    made.add_argument("--batch", type=int, default=Budget.batch, help="crops per step (%(default)s)")
    made.add_argument("--crop", type=int, default=Budget.crop, help="frames per crop (%(default)s)")
    made.add_argument("--seeds", type=int, default=1, help="trainings per row (%(default)s)")
    made.add_argument(
        "--clips", type=int, default=48, help="held-out clips with phones at most (%(default)s)"
    )
    made.add_argument("--only", help="comma-separated rows; default: all")
    made.add_argument("--docs", type=Path, help="also write the figures into this checkout of the project")
    return made


def run(
    args: argparse.Namespace,
    name: str,
    variants: Sequence[Variant],
    report: Callable[[Path, dict[str, Any]], None],
) -> int:
    """Run an experiment; 2 and one line on stderr where it cannot.

    Args:
        args: of :func:`parser`.
        name: of the results' file.
        variants: the rows.
        report: writes tables and plots of the results into a folder, after each row.
    """
    return plainly(_run, args, name, variants, report)


def _run(
    args: argparse.Namespace,
    name: str,
    variants: Sequence[Variant],
    report: Callable[[Path, dict[str, Any]], None],
) -> None:
    chosen = _chosen(variants, args.only)
    for option in ("steps", "batch", "seeds", "clips"):
        if getattr(args, option) < 1:
            raise InputError(f"--{option} must be at least 1, got {getattr(args, option)}")
    if args.crop < 2:
        raise InputError(f"--crop must be at least 2, got {args.crop}")
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    encoder = AudioEncoder.from_pretrained(args.audio)
    budget = Budget(steps=args.steps, batch=args.batch, crop=args.crop)
    corpus = read(args.corpus, encoder, args.out / "cache")
    expert = getattr(metrics, "SyncExpert", None)  # not in every version
    scorers = {} if expert is None else {"sync": expert.from_pretrained()}
    yardsticks = {"spoken": Yardstick(spoken_clips(args.corpus, encoder, args.clips), scorers=scorers)}
    if args.recordings is not None:
        recordings = unspoken_clips(args.recordings, encoder, args.clips // 4 or 1)
        yardsticks["unspoken"] = Yardstick(recordings, scorers=scorers)
    bench = Bench(corpus, args.head, args.out, yardsticks, budget)
    spoken = yardsticks["spoken"]
    results: dict[str, Any] = {
        "command": f"python -m experiments.{name} --steps {args.steps} --seeds {args.seeds}",
        "budget": dataclasses.asdict(budget),
        "corpus_minutes": {voice: data.frames / 1500.0 for voice, data in corpus.voices.items()},
        "clips": {key: len(stick.clips) for key, stick in yardsticks.items()},
        "titles": {v.name: v.title for v in variants},
        "changes": {v.name: v.change for v in variants},
        "paper": {v.name: v.paper for v in variants if v.paper},
        "controls": {},
        "rows": [],
    }
    truth = spoken.truth(budget.motions)
    results["controls"]["truth"] = bench.control("truth", truth)
    for kind in CONTROLS:
        results["controls"][kind] = bench.control(kind, _control(kind, truth))
    for seed in range(args.seeds):
        for variant in chosen:
            bench.run(variant, seed)
            rows = (bench.known(v, seed) for v in variants for seed in bench.seeds(v))
            results["rows"] = [row for row in rows if row is not None]
            write(args.out, name, results, report)
    if args.docs is not None:
        write(args.docs / "benchmarks" / "results", name, results, None)
        # The tables of the page come from the JSON; of what a report writes only the plot belongs there.
        plot = f"{name}.png"
        with atomic_path(args.docs / "docs" / "images" / plot) as temporary:
            shutil.copyfile(args.out / plot, temporary)


def write(
    out: Path, name: str, results: dict[str, Any], report: Callable[[Path, dict[str, Any]], None] | None
) -> None:
    """Write ``NAME.json`` and, with a report, what it makes of it."""
    with atomic_path(out / f"{name}.json") as temporary:
        temporary.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if report is not None:
        report(out, results)


def _control(kind: str, truth: list[list[Weights]]) -> list[list[Weights]]:
    return [
        [
            np.asarray(controls(weights, EXPRESSION_NAMES, 1000 * k + index)[kind], np.float32)
            for k, weights in enumerate(own)
        ]
        for index, own in enumerate(truth)
    ]


def _chosen(variants: Sequence[Variant], only: str | None) -> list[Variant]:
    if only is None:
        return list(variants)
    names = only.split(",")
    unknown = [name for name in names if name not in {v.name for v in variants}]
    if unknown:
        raise InputError(f"no row {unknown[0]!r}; rows are {', '.join(v.name for v in variants)}")
    return [v for v in variants if v.name in names]
