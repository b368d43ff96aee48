"""End runs of facetalk by a signal at random moments, and look at what is left.

    python scripts/kill_test.py --runs 200 --json benchmarks/results/kill.json      # goes on where it stopped
    python scripts/kill_test.py --cases export,train --runs 5

Every run writes over an older output. Afterwards the output has to be the old one or the new one, to the last
byte, and nothing else may lie beside it. SIGKILL leaves no time to clear up: there a scratch folder
``.NAME.DIGEST.RANDOM.part`` may stay, which the next run of the same output has to remove.

One process imports everything and loads the model; each run is a fork of it, so that it costs a second and
not ten. A few more (``--fresh``) are processes of their own, ended at any moment from the first import on.
"train" is the training loop on a network of three weights that saves all the time: what can break is the
saving, and a real network would only save less often.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "helpers")]

from killing import SIGNALS, Place, Start, cases, end_once, fork, spawn, train  # noqa: E402

FAULTS = ("exit 1", "exit 2", "exit 70", "SIGALRM", "hung")
"""Ends that no signal may lead to."""

# Its watching thread could hold a lock at the moment of a fork, for ever in the child.
tqdm.monitor_interval = 0


def end_many(
    place: Place,
    number: int,
    start: Start,
    times: tuple[float, float],
    seeds: range,
    seed: int,
    entry: dict[str, Any],
) -> None:
    """End runs by a signal, one for each of ``seeds``, and count what they left into ``entry``."""
    for index in tqdm(seeds, f"{place.folder.name} {number}", disable=not sys.stderr.isatty()):
        rng = random.Random(f"{seed} {place.folder.name} {number} {index}")
        place.reset()
        end = end_once(start, number, place.folder, *times, rng)
        for key, what in (("ended", end), ("left", place.judge())):
            entry[key][what] = entry[key].get(what, 0) + 1
        if end in FAULTS and place.told.exists():
            entry.setdefault("told", []).append(place.told.read_text()[-2000:])
        entry["runs"] += 1
    entry["next_run_cleared_scratch"] = place.clear()


def report(
    wanted: list[str], runs: int, seed: int, fresh: int = 0, results: dict[str, Any] | None = None,
    store: Callable[[dict[str, Any]], None] = lambda results: None,
) -> dict[str, Any]:  # fmt: skip
    """End ``runs`` forks and ``fresh`` processes of every case by every signal.

    Args:
        wanted: cases.
        runs: of every case and signal, those in ``results`` included.
        seed: of the moments.
        fresh: runs that are processes of their own, likewise.
        results: of an earlier call, to be added to.
        store: gets the results after every case and signal.
    """
    results = results or {"seconds": 0.0, "forked": {}, "fresh": {}}
    with tempfile.TemporaryDirectory(prefix="facetalk_kill_") as name:
        for case, place in cases(Path(name), wanted).items():
            for kind, wished in (("forked", runs), ("fresh", fresh)):
                words, times = place.words(1), (place.span, place.writing)
                start: Start = lambda p=place: fork(lambda: p.run(1), p.told)  # type: ignore[misc]  # noqa: E731
                if kind == "fresh":
                    start = lambda w=words: spawn(w)  # type: ignore[misc]  # noqa: E731
                    if wished:
                        times = place.measure(start)
                for number in SIGNALS:
                    entry = (
                        results[kind]
                        .setdefault(case, {})
                        .setdefault(number.name, {"runs": 0, "ended": {}, "left": {}})
                    )
                    begun, first = time.monotonic(), entry["runs"]
                    # In pieces, so that a stopped test loses little.
                    for at in range(first, wished, 25):
                        end_many(place, number, start, times, range(at, min(at + 25, wished)), seed, entry)
                        results["seconds"] = round(results["seconds"] + time.monotonic() - begun, 1)
                        begun = time.monotonic()
                        store(results)
    return results


def faults(results: dict[str, Any]) -> list[str]:
    """What should not have happened, in words."""
    found = []
    told_of = [
        (f"{case} {name}", name, told)
        for kind in ("forked", "fresh")
        for case, signals in results[kind].items()
        for name, told in signals.items()
        if told["runs"]
    ]
    for run, name, told in told_of:
        # Two files, a .glb and its sound, cannot be renamed in one step: SIGKILL may come between.
        fine = {"old", "new"}
        if name == "SIGKILL":
            fine |= {"old, scratch", "new, scratch", "mixed, scratch"}
        bad = {what: count for what, count in told["left"].items() if what not in fine}
        if bad or not told["next_run_cleared_scratch"]:
            found.append(f"{run}: {bad or 'scratch folders stayed'}")
        if any(end in told["ended"] for end in FAULTS):
            found.append(f"{run}: an error or a run that hung ({told['ended']})")
    return found


def summary(results: dict[str, Any]) -> dict[str, Any]:
    """Of every case: runs by signal, and how many left a whole output alone, or a scratch folder too."""
    found: dict[str, Any] = {}
    for case, signals in results["forked"].items():
        all_of = [*signals.values(), *results["fresh"].get(case, {}).values()]
        left: collections.Counter[str] = collections.Counter()
        for kind in ("forked", "fresh"):
            for name, told in results[kind].get(case, {}).items():
                for what, count in told["left"].items():
                    # After a signal that can be handled nothing else may lie there.
                    stray = name != "SIGKILL" and what.endswith(", scratch")
                    left["scratch after a handled signal" if stray else what] += count
        found[case] = {
            **{name: told["runs"] for name, told in signals.items()},
            "fresh": sum(told["runs"] for told in all_of) - sum(told["runs"] for told in signals.values()),
            "alone": left["old"] + left["new"],
            "scratch": sum(count for what, count in left.items() if what.endswith(", scratch")),
            "other": sum(
                count
                for what, count in left.items()
                if what.removesuffix(", scratch") not in ("old", "new", "mixed")
            ),
        }
    return found


def load(path: Path | None) -> dict[str, Any] | None:
    """Results so far."""
    if path is None or not path.is_file():
        return None
    found: dict[str, Any] = json.loads(path.read_text())
    return found if "forked" in found else None


def store(path: Path | None, results: dict[str, Any]) -> None:
    """Write the results, and of what they are."""
    if path is None:
        return
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--exclude=*"], cwd=ROOT, capture_output=True
    )
    results["commit"] = described.stdout.decode().strip() or "unknown"
    results["python"], results["summary"] = platform.python_version(), summary(results)
    results["faults"] = faults(results)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(json.dumps(results, indent=1) + "\n")
    fresh.replace(path)


def command_line() -> int:
    """Run as a script."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5, help="of each case and signal (default 5)")
    parser.add_argument("--fresh", type=int, default=0, help="and so many processes of their own")
    parser.add_argument("--cases", default="generate,export,render,convert,train", help="comma-separated")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--json", type=Path, default=None, help="counts, kept between runs")
    parser.add_argument("--train", type=Path, default=None, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.train is not None:
        return train(args.train)
    results = report(
        args.cases.split(","),
        args.runs,
        args.seed,
        args.fresh,
        load(args.json),
        lambda r: store(args.json, r),
    )
    print(json.dumps(results, indent=1))
    bad = faults(results)
    print("\n".join(bad) if bad else "every output was the old one or the new one")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(command_line())
