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
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
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
    "pipeline": ["facetalk/pipeline.py"],
    "training": ["facetalk/training"],
}
TESTS = (
    "tests/audio", "tests/data", "tests/diffusion", "tests/metrics", "tests/training", "tests/test_motion.py",
    "tests/test_pipeline.py", "tests/test_ambient.py", "tests/test_assemble.py", "tests/cli",
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


def coverage_map() -> dict[str, dict[str, Any]]:
    """What each test file runs; made again for a test file when it or what it runs has changed."""
    sources = [name for places in ROOMS.values() for place in places for name in runs.files_of(ROOT / place, ROOT)]
    files = [name for place in TESTS for name in runs.files_of(ROOT / place, ROOT) if "/test_" in name]
    MAP.mkdir(parents=True, exist_ok=True)
    found = {}
    for name in tqdm([f for f in files if f not in NOT_HERE], desc="which tests run which lines", unit="file"):
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
            chosen = entry["tests"] if contexts.keys() - {"import"} else {}
        else:
            chosen = {t: s for t, s in entry["tests"].items() if t in hit or runs.SETUP in hit}
        if chosen:
            near = subject in Path(name).stem, f"/{room}/" in name or room in Path(name).stem
            ordered = sorted(chosen, key=chosen.__getitem__)
            offers.append((not near[0], not near[1], sum(chosen.values()), name, ordered))
    spent, out = 0.0, []
    for _, _, _, name, ordered in sorted(offers):
        taken = []
        for test in ordered:
            seconds = covered[name]["tests"][test]
            if spent + seconds <= budget_s:
                taken.append(test)
                spent += seconds
        if taken:
            out.append((name, taken))
    return out


def plant(results: dict[str, Any], covered: dict[str, dict[str, Any]], args: argparse.Namespace) -> int:
    """Plant the faults one by one; how many nobody saw."""
    found = {}
    for what, file, code, fault in tqdm(PLANTED, desc="planted faults", unit="fault"):
        source = (ROOT / file).read_text(encoding="utf-8")
        if code not in source:
            raise SystemExit(f"{what}: {file} has no {code!r} any more; bring planted.py up to date")
        first = source[: source.index(code)].count("\n") + 1
        at = Mutant(file, first, what, -1, code, fault, first, first + code.count("\n"), True)
        change = source.replace(code, fault, 1)
        how, saw = runs.first_failure(
            ROOT, file, lambda _: change, tests_of(at, covered, args.budget), args.budget  # noqa: B023
        )
        found[what] = {"where": f"{file}:{first}", "result": how, "by": saw}
        results["planted"] = found
        store(args.json, results)
        if how == "survived":
            tqdm.write(f"nobody saw: {what} ({file}:{first})")
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
            how = "killed" if entry["result"] in ("killed", "time") else "named" if entry.get("note") else "survived"
            counts[how] += 1
    for counts in rooms.values():
        counts["share"] = round(counts["killed"] / counts["mutants"], 4)
    results["rooms"] = dict(sorted(rooms.items(), key=lambda item: (item[0] == "all", item[0])))


def load(path: Path, seed: int) -> dict[str, Any]:
    """Results so far; empty for another seed."""
    if path.is_file():
        found: dict[str, Any] = json.loads(path.read_text())
        if found.get("seed") == seed:
            return found
    return {"seed": seed, "rooms": {}, "mutants": {}}


def store(path: Path, results: dict[str, Any]) -> None:
    """Write them, whole or not at all."""
    summarise(results)
    done = subprocess.run(["git", "describe", "--always", "--dirty=+", "--exclude=*"], cwd=ROOT, capture_output=True)
    results["commit"] = done.stdout.decode().strip() or "unknown"
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    fresh.replace(path)


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--room", nargs="+", choices=sorted(ROOMS), default=list(ROOMS), metavar="ROOM")
    parser.add_argument("--per-room", type=int, default=60, help="mutants of each room")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--budget", type=float, default=25.0, help="seconds of tests for a mutant")
    parser.add_argument("--minutes", type=float, help="stop after the mutant that ends later than this")
    parser.add_argument("--again", choices=["survived", "all"], help="do these once more")
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
        results["mutants"][args.note[0]]["note"] = args.note[1]
        store(args.json, results)
        return 0
    if args.planted:
        runs.preload()
        return int(plant(results, coverage_map(), args) > 0)
    chosen = sample(args.room, args.per_room, args.seed)
    if args.list:
        for entry in (results["mutants"].get(m.key) for mutants_of in chosen.values() for m in mutants_of):
            if entry:
                print(f"{entry['result']:9} {entry['where']}  {entry['change']}  {entry.get('note', '')}")
        return 0
    runs.preload()
    covered = coverage_map()
    todo = []
    for room in chosen:
        keys = {m.key for m in chosen[room]}
        gone = [k for k, e in results["mutants"].items() if e["room"] == room and k not in keys]
        for key in gone:
            del results["mutants"][key]
        for mutant in chosen[room]:
            before = results["mutants"].get(mutant.key)
            again = args.again == "all" or (args.again == "survived" and before and before["result"] == "survived")
            if before is None or again or before["digest"] != runs.digest([ROOT / mutant.file]):
                todo.append((room, mutant))
    begun = time.monotonic()
    todo.sort(key=lambda item: hashlib.sha256(item[1].key.encode()).digest())  # a part is a fair part
    for room, mutant in tqdm(todo, desc="mutants", unit="mutant"):
        if args.minutes is not None and time.monotonic() - begun > 60.0 * args.minutes:
            break
        asked = tests_of(mutant, covered, args.budget)
        start = time.monotonic()
        number = mutant.number
        how, saw = runs.first_failure(ROOT, mutant.file, lambda s: mutated(s, number), asked, args.budget)  # noqa: B023
        entry = {
            "room": room,
            "result": how,
            "where": f"{mutant.file}:{mutant.line}",
            "change": f"{mutant.before} -> {mutant.after}",
            "by": saw,
            "tests": sum(len(names) for _, names in asked),
            "seconds": round(time.monotonic() - start, 1),
            "digest": runs.digest([ROOT / mutant.file]),
        }
        note = results["mutants"].get(mutant.key, {}).get("note")
        results["mutants"][mutant.key] = entry | ({"note": note} if note and how == "survived" else {})
        store(args.json, results)
        if how == "survived":
            tqdm.write(f"survived {entry['tests']} tests: {entry['where']}  {entry['change']}")
    summarise(results)
    print(table(results))
    return int(results["rooms"]["all"]["share"] < GOAL)


if __name__ == "__main__":
    sys.exit(main())
