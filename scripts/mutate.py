"""Change the code a little, many times, and count how often the tests notice.

    python scripts/mutate.py                             what is left of the sample
    python scripts/mutate.py --again survived            those once more, after tests were added
    python scripts/mutate.py --per-room 100 --seed 1     another sample
    python scripts/mutate.py --room audio --list         its mutants of the sample, and what became of them
    python scripts/mutate.py --planted                   the faults of planted.py in place of a sample

The sample is drawn for each room by a hash of seed and mutant, so that it stays the same when other code
changes. Which tests run a line is found once by coverage and kept in build/mutation; a mutant meets the tests
of its line, those of the same subject first and then the quickest, until one fails or the budget is spent.
Results are written after each mutant; a run that is stopped goes on where it was, and a mutant whose file has
changed is done again. ``--note`` keeps a word on why a survivor is none.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]
os.chdir(ROOT)

import mutation_runs as runs  # noqa: E402
from mutants import Mutant, mutants, mutated  # noqa: E402
from planted import PLANTED  # noqa: E402
from tqdm import tqdm  # noqa: E402

ROOMS = {
    "audio": ["facetalk/audio"],
    "data": ["facetalk/data"],
    "diffusion": ["facetalk/diffusion"],
    "metrics": ["facetalk/metrics"],
    "pipeline": ["facetalk/pipeline.py", "facetalk/loaded.py", "facetalk/decoding.py"],
    "training": ["facetalk/training"],
}
TESTS = (
    "tests/audio", "tests/data", "tests/diffusion", "tests/metrics", "tests/training", "tests/test_motion.py",
    "tests/test_pipeline.py", "tests/test_pipeline_options.py", "tests/test_ambient.py",
    "tests/test_assemble.py", "tests/cli",
)  # fmt: skip
NOT_HERE = {
    "tests/cli/test_newcomer.py": "trains for minutes, in processes of its own",
    "tests/cli/test_kill.py": "in processes of its own",
    "tests/cli/test_hostile_files.py": "in processes of its own",
}
MAP = ROOT / "build" / "mutation"
RESULTS = ROOT / "benchmarks" / "results" / "mutation.json"
GOAL = 0.85


def sample(rooms: Sequence[str], per_room: int, seed: int) -> dict[str, list[Mutant]]:
    """So many mutants of each room, those with the lowest hashes of seed and key."""

    def rank(mutant: Mutant) -> bytes:
        return hashlib.sha256(f"{seed} {mutant.key}".encode()).digest()

    chosen = {}
    for room in rooms:
        files = [name for place in ROOMS[room] for name in runs.files_of(ROOT / place, ROOT)]
        every = [mutant for name in files for mutant in mutants(ROOT / name, ROOT)]
        chosen[room] = sorted(every, key=rank)[:per_room]
    return chosen


def coverage_map(only: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
    """What each test file runs; made again for a test file when it or what it runs has changed."""
    sources = [
        name for places in ROOMS.values() for place in places for name in runs.files_of(ROOT / place, ROOT)
    ]
    files = [
        name
        for place in TESTS
        for name in runs.files_of(ROOT / place, ROOT)
        if "/test_" in name and (not only or name in only)
    ]
    MAP.mkdir(parents=True, exist_ok=True)
    found = {}
    for name in tqdm(
        [f for f in files if f not in NOT_HERE], desc="which tests run which lines", unit="file"
    ):
        kept = MAP / (name.replace("/", "--") + ".json")
        entry = json.loads(kept.read_text()) if kept.is_file() else None
        stands_on = [ROOT / name, *((ROOT / source) for source in (entry or {}).get("lines", ()))]
        if entry is None or entry["digest"] != runs.digest(stands_on):
            entry = runs.covered(ROOT, name, sources)
            entry["digest"] = runs.digest([ROOT / name, *((ROOT / source) for source in entry["lines"])])
            kept.write_text(json.dumps(entry))
            for failed in entry["failed"]:
                tqdm.write(f"does not pass unchanged, and is not asked: {failed}")
        found[name] = entry
    return found


def tests_of(
    mutant: Mutant, covered: dict[str, dict[str, Any]], budget_s: float
) -> list[tuple[str, list[str]]]:
    """Test files and their tests in the order in which they are asked.

    A line that runs at import is everybody's who runs anything of its file.
    """
    subject = Path(mutant.file).stem
    room = mutant.file.split("/")[1].removesuffix(".py")
    offers = []
    for name, entry in covered.items():
        contexts = entry["lines"].get(mutant.file, {})
        hit = {c for c, lines in contexts.items() if any(mutant.first <= n <= mutant.last for n in lines)}
        if not mutant.inside or hit == {"import"}:
            runs_it = contexts.keys() - {"import"} or (contexts and f"/{room}/" in name)
            chosen = entry["tests"] if runs_it else {}
        else:
            chosen = {t: s for t, s in entry["tests"].items() if t in hit or runs.SETUP in hit}
        if chosen:
            folder = (
                mutant.file.replace("facetalk/", "tests/", 1).rpartition("/")[0] == name.rpartition("/")[0]
            )
            far = not folder, subject not in Path(name).stem, f"/{room}/" not in name
            offers.append((*far, sum(chosen.values()), name, chosen))
    # The cheapest of the same folder that fit into the budget, then of the others into another one.
    taken = set()
    for away in (False, True):
        spent = 0.0
        pairs = ((t, s) for offer in offers if offer[0] is away for t, s in offer[-1].items())
        for test, seconds in sorted(pairs, key=lambda pair: pair[1]):
            spent += seconds
            if spent <= budget_s:
                taken.add(test)
    offered = (
        (name, sorted(taken & chosen.keys(), key=chosen.__getitem__)) for *_, name, chosen in sorted(offers)
    )
    return [(name, tests) for name, tests in offered if tests]


def judge(room: str, mutant: Mutant, asked: list[tuple[str, list[str]]], budget_s: float) -> dict[str, Any]:
    """What became of a mutant."""
    start = time.monotonic()
    how, saw = runs.first_failure(ROOT, mutant.file, _changed(mutant.number), asked, budget_s)
    return {
        "room": room,
        "result": how,
        "where": f"{mutant.file}:{mutant.line}",
        "change": f"{mutant.before} -> {mutant.after}",
        "by": saw,
        "tests": sum(len(names) for _, names in asked),
        "seconds": round(time.monotonic() - start, 1),
        "first": how,
        "digest": runs.digest([ROOT / mutant.file]),
    }


def _changed(number: int) -> runs.Change:
    return lambda source: mutated(source, number)


def _told(source: str) -> runs.Change:
    return lambda _: source


def plant(covered: dict[str, dict[str, Any]], args: argparse.Namespace) -> int:
    """Plant the faults one by one; how many nobody saw."""
    redone = set()
    # Several runs share the work: each goes its own way, and leaves what another one has done.
    for what, file, code, fault in tqdm(random.sample(PLANTED, len(PLANTED)), "planted faults", unit="fault"):
        source, digest = (ROOT / file).read_text(encoding="utf-8"), runs.digest([ROOT / file])
        known = load(args.json, args.seed).get("planted", {}).get(what, {})
        seen = known.get("digest") == digest and known["result"] != "survived"
        if seen and not (args.again == "all" and what not in redone):
            continue
        redone.add(what)
        if code not in source:
            raise SystemExit(f"{what}: {file} has no {code!r} any more; bring planted.py up to date")
        first = source[: source.index(code)].count("\n") + 1
        at = Mutant(file, first, what, -1, code, fault, first, first + code.count("\n"), True)
        how, saw = runs.first_failure(
            ROOT, file, _told(source.replace(code, fault, 1)), tests_of(at, covered, args.budget), args.budget
        )
        entry = {"where": f"{file}:{first}", "result": how, "by": saw, "digest": digest}

        def add(results: dict[str, Any], what: str = what, entry: dict[str, str] = entry) -> None:
            every = {**results.get("planted", {}), what: entry}
            results["planted"] = {name: every[name] for name, *_ in PLANTED if name in every}

        store(args.json, args.seed, add)
        if how == "survived":
            tqdm.write(f"nobody saw: {what} ({file}:{first})")
    found = load(args.json, args.seed)["planted"]
    missed = sum(entry["result"] == "survived" for entry in found.values())
    print(f"{len(found) - missed} of {len(found)} planted faults seen")
    return missed


def table(results: dict[str, Any]) -> str:
    """Counts of each room, and of all."""
    lines = [f"{'room':10} {'mutants':>8} {'killed':>8} {'named':>8} {'survived':>9}  share"]
    for room, counts in results["rooms"].items():
        lines.append(
            f"{room:10} {counts['mutants']:8} {counts['killed']:8} {counts['named']:8} "
            f"{counts['survived']:9}  {100 * counts['share']:.1f} %"
        )
    return "\n".join(lines)


def summarise(results: dict[str, Any]) -> None:
    """Bring the counts up to date."""
    rooms: dict[str, dict[str, Any]] = {}
    for entry in results["mutants"].values():
        for room in (entry["room"], "all"):
            counts = rooms.setdefault(room, {"mutants": 0, "killed": 0, "named": 0, "survived": 0})
            counts["mutants"] += 1
            how = (
                "killed"
                if entry["result"] in ("killed", "time")
                else "named"
                if entry.get("note")
                else "survived"
            )
            counts[how] += 1
    for counts in rooms.values():
        counts["share"] = round(counts["killed"] / counts["mutants"], 4)
    results["rooms"] = dict(sorted(rooms.items(), key=lambda item: (item[0] == "all", item[0])))
    firsts = [entry.get("first", entry["result"]) != "survived" for entry in results["mutants"].values()]
    results["first_share"] = round(sum(firsts) / max(len(firsts), 1), 4)
    planted = results.get("planted", {}).values()
    results |= {"planted_all": len(planted), "planted_seen": sum(e["result"] != "survived" for e in planted)}


def load(path: Path, seed: int) -> dict[str, Any]:
    """Results so far; empty for another seed."""
    if path.is_file():
        found: dict[str, Any] = json.loads(path.read_text())
        if found.get("seed") == seed:
            return found
    return {"seed": seed, "rooms": {}, "mutants": {}}


def store(path: Path, seed: int, change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """Change the results in the file, whole or not at all; another run may have added to them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        results = load(path, seed)
        change(results)
        summarise(results)
        results["commit"] = commit()
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        fresh.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        fresh.replace(path)
    finally:
        os.close(lock)
    return results


def commit() -> str:
    """Of the checkout, with a + when it has changes."""
    words = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    return subprocess.run(words, cwd=ROOT, capture_output=True).stdout.decode().strip() or "unknown"


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--room", nargs="+", choices=sorted(ROOMS), default=list(ROOMS), metavar="ROOM")
    parser.add_argument("--per-room", type=int, default=60, help="mutants of each room")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--budget", type=float, default=25.0, help="seconds of tests for a mutant")
    parser.add_argument("--minutes", type=float, help="stop after the mutant that ends later than this")
    parser.add_argument("--again", choices=["survived", "all"], help="do these once more")
    parser.add_argument(
        "--tests", nargs="+", metavar="FILE", help="ask these alone, as of survivors after they came"
    )
    parser.add_argument("--json", type=Path, default=RESULTS, help="results, kept between runs")
    parser.add_argument("--list", action="store_true", help="say what became of them, run nothing")
    parser.add_argument("--planted", action="store_true", help="plant the known faults, not mutants")
    parser.add_argument("--note", nargs=2, metavar=("KEY", "WHY"), help="keep why a survivor is no fault")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Run what is left of the sample; 1 when too few mutants were killed."""
    args = parse(words)
    results = load(args.json, args.seed)
    if args.note:
        key, why = args.note
        store(args.json, args.seed, lambda results: results["mutants"][key].update(note=why))
        return 0
    if args.planted:
        runs.preload()
        return int(plant(coverage_map(args.tests), args) > 0)
    chosen = sample(args.room, args.per_room, args.seed)
    if args.list:
        for entry in (results["mutants"].get(m.key) for mutants_of in chosen.values() for m in mutants_of):
            if entry:
                print(f"{entry['result']:9} {entry['where']}  {entry['change']}  {entry.get('note', '')}")
        return 0
    runs.preload()
    covered = coverage_map(args.tests)
    todo, keys = [], {mutant.key for mutants_of in chosen.values() for mutant in mutants_of}
    gone = [k for k, e in results["mutants"].items() if e["room"] in chosen and k not in keys]
    store(args.json, args.seed, lambda kept: [kept["mutants"].pop(key) for key in gone])
    for room, mutant in [(room, mutant) for room, of_room in chosen.items() for mutant in of_room]:
        before = results["mutants"].get(mutant.key)
        again = args.again == "all" or (
            args.again == "survived" and before and before["result"] == "survived"
        )
        if before is None or again or before["digest"] != runs.digest([ROOT / mutant.file]):
            todo.append((room, mutant))
    begun = time.monotonic()
    todo.sort(key=lambda item: hashlib.sha256(item[1].key.encode()).digest())  # a part is a fair part
    for room, mutant in tqdm(todo, desc="mutants", unit="mutant"):
        if args.minutes is not None and time.monotonic() - begun > 60.0 * args.minutes:
            break
        done = load(args.json, args.seed)["mutants"].get(mutant.key)
        if done != results["mutants"].get(mutant.key):
            continue  # another run has come to it
        entry = judge(room, mutant, tests_of(mutant, covered, args.budget), args.budget)
        if done and done["digest"] == entry["digest"]:
            entry["first"] = done.get("first", done["result"])
        if done and "note" in done and entry["result"] == "survived":
            entry["note"] = done["note"]
        add = {mutant.key: entry}
        store(args.json, args.seed, lambda kept, add=add: kept["mutants"].update(add))  # type: ignore[misc]
        if entry["result"] == "survived":
            tqdm.write(f"survived {entry['tests']} tests: {entry['where']}  {entry['change']}")
    results = load(args.json, args.seed)
    print(table(results))
    return int(results["rooms"]["all"]["share"] < GOAL)


if __name__ == "__main__":
    sys.exit(main())
