"""Attacks every reader and operation with spoilt input, and says what fell over.

    python scripts/fuzz.py                                     every target up to 100,000 iterations
    python scripts/fuzz.py --targets glb raster --iterations 5000
    python scripts/fuzz.py --targets glb --only 4711           one iteration again, in this process

Each target runs in a process of its own, in pieces of some thousand iterations, with 2 GiB of memory beyond
what it starts with and ten seconds of processor time for each iteration. Counts are kept in a JSON file after
every piece and when the run is stopped (Ctrl-C, SIGTERM), so that the next one goes on where it was. An
iteration depends on the seed and its number alone. Targets are in tests/fuzz.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FUZZ = ROOT / "tests" / "fuzz"
# The checkout comes behind PYTHONPATH, where another build may be, and before an installed package.
PATHS = [str(FUZZ), str(ROOT / "tests" / "helpers")]
PATHS += [*filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), str(ROOT)]
sys.path[:0] = PATHS

from engine import FIELDS, KEPT, generator, open_state  # noqa: E402

HANG = 10.0  # seconds of one iteration, of processor time: the machine may have other work
DEADLOCK = 120.0  # and in all, where it only waits
START = 1800.0  # in all until the first one
PIECE = 25_000
MEMORY = Path("/dev/shm")  # files of an iteration live shorter than a disk takes to write them
COUNTS = ("iterations", "ok", "refused", "tracebacks", "crashes", "hangs", "out_of_memory")
BAD = COUNTS[3:]


def processor_time(pid: int) -> float:
    """Seconds that a process has computed; 0 once it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def piece(
    name: str, seed: int, first: int, count: int, folder: Path
) -> tuple[dict[str, int], list[dict[str, Any]], bool]:
    """Counts and failures of some iterations; after a crash, a hang or a signal, of those up to it.

    The last value tells whether a signal came.
    """
    state_path, failures_path = folder / f"{name}.state", folder / f"{name}.failures"
    failures_path.write_text("")
    state = open_state(state_path, fresh=True)
    state[0] = -1
    work = folder / name
    work.mkdir(exist_ok=True)
    command = [sys.executable, str(FUZZ / "engine.py"), name, str(seed), str(first), str(count)]
    command += [str(state_path), str(failures_path), str(work)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(PATHS), "HF_HUB_OFFLINE": "1"}
    environment |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}
    with open(folder / f"{name}.log", "wb") as log:
        # A session of its own: Ctrl-C is for this process, which ends the other.
        child = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, cwd=ROOT, start_new_session=True
        )
        patience = float(os.environ.get("FACETALK_FUZZ_PATIENCE", "1"))
        seen, since, used, hung, stopped = -2, 0.0, 0.0, False, False
        try:
            while child.poll() is None:
                time.sleep(0.05)
                now, spent = time.monotonic(), processor_time(child.pid)
                if state[0] != seen:
                    seen, since, used = int(state[0]), now, spent
                long = spent - used > HANG * patience or now - since > DEADLOCK * patience
                if (long if seen >= 0 else now - since > START) and not state[7]:
                    hung = True
                    child.kill()
                    child.wait()
        except KeyboardInterrupt:
            stopped = True
            child.kill()
            child.wait()
    numbers = dict(zip(FIELDS, state.tolist(), strict=True))
    log_text = (folder / f"{name}.log").read_text(errors="replace")
    if numbers["iteration"] < 0 and not stopped:
        raise SystemExit(f"{name} did not start:\n{log_text[-3000:]}")
    counts = {key: numbers[key] for key in ("ok", "refused", "tracebacks", "out_of_memory")}
    counts |= {"iterations": numbers["done"], "crashes": 0, "hangs": 0}
    failures = [json.loads(line) for line in failures_path.read_text().splitlines()]
    if hung or not (numbers["finished"] or stopped):
        kind = "hangs" if hung else "crashes"
        counts[kind] = 1
        counts["iterations"] += 1
        if hung:
            what = f"no end after {HANG:g} s"
        elif child.returncode < 0:
            what = signal.Signals(-child.returncode).name
        else:
            what = f"exit status {child.returncode}"
        tail = [
            line
            for line in log_text.splitlines()
            if "File" in line or "ERROR" in line or "runtime error" in line
        ]
        failures.append(
            {"target": name, "iteration": numbers["iteration"], "what": " | ".join([what, *tail[:3]])}
        )
    return counts, failures, stopped


def load(path: Path, seed: int) -> dict[str, Any]:
    """Counts so far, from the file; empty for another seed."""
    if path.is_file():
        found: dict[str, Any] = json.loads(path.read_text())
        if found.get("seed") == seed:
            return found
    return {"seed": seed, "targets": {}}


def store(path: Path, seed: int, name: str, entry: dict[str, Any]) -> None:
    """Write the counts of a target; those of others may have been written meanwhile by another run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        results = load(path, seed)
        results |= {"commit": commit(), "python": platform.python_version(), "machine": platform.machine()}
        results["targets"][name] = entry
        entries = list(results["targets"].values())
        results["total"] = {key: sum(one[key] for one in entries) for key in COUNTS} | {
            "targets": len(entries),
            "fewest": min(one["iterations"] for one in entries),
            "faults": sum(one[key] for one in entries for key in BAD),
            "minutes": round(sum(one["seconds"] for one in entries) / 60),
        }
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        fresh.write_text(json.dumps(results, indent=1) + "\n")
        fresh.replace(path)
    finally:
        os.close(lock)


def commit() -> str:
    """Of the checkout, with a + when it has changes."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--exclude=*"], cwd=ROOT, capture_output=True
    )
    return done.stdout.decode().strip() or "unknown"


def main() -> int:
    """Run what was asked for; 1 when something fell over."""
    from targets import TARGETS

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--targets", nargs="+", choices=sorted(TARGETS), default=list(TARGETS), metavar="NAME"
    )
    parser.add_argument(
        "--iterations", type=int, default=100_000, help="of each target, those before included"
    )
    parser.add_argument(
        "--seconds", type=float, default=None, help="stop after the piece that ends later than this"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--json", type=Path, default=ROOT / "build" / "fuzz.json", help="counts, kept between runs"
    )
    parser.add_argument("--only", type=int, default=None, help="one iteration, here, with its traceback")
    args = parser.parse_args()
    if args.only is not None:
        with tempfile.TemporaryDirectory() as folder:
            TARGETS[args.targets[0]].make(Path(folder))(generator(args.targets[0], args.seed, args.only))
        print("no error")
        return 0
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell starts it with &
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    results, begin = load(args.json, args.seed), time.monotonic()
    with tempfile.TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else None) as folder:
        for name in args.targets:
            entry = results["targets"].setdefault(
                name, dict.fromkeys(COUNTS, 0) | {"seconds": 0.0, "failures": []}
            )
            while (left := args.iterations - entry["iterations"]) > 0:
                if args.seconds is not None and time.monotonic() - begin > args.seconds:
                    break
                start = time.monotonic()
                counts, failures, stopped = piece(
                    name, args.seed, entry["iterations"], min(left, PIECE), Path(folder)
                )
                for key, number in counts.items():
                    entry[key] += number
                entry["seconds"] = round(entry["seconds"] + time.monotonic() - start, 1)
                known = {failure["what"] for failure in entry["failures"]}
                for failure in failures:
                    if failure["what"] not in known and len(entry["failures"]) < KEPT:
                        known.add(failure["what"])
                        entry["failures"].append(failure)
                store(args.json, args.seed, name, entry)
                if stopped:
                    print(f"stopped at {entry['iterations']} of {name}", flush=True)
                    return 130
            print(
                f"{name:16} " + ", ".join(f"{entry[key]} {key}" for key in COUNTS),
                f"in {entry['seconds']} s",
                flush=True,
            )
            for failure in entry["failures"]:
                print(f"    {failure['iteration']}: {failure['what']}", flush=True)
    return int(any(results["targets"][name][key] for name in args.targets for key in BAD))


if __name__ == "__main__":
    sys.exit(main())
