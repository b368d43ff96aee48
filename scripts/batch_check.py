"""`facetalk batch` on many short recordings: a loop, the pool and a Ray cluster of this machine, with kills.

    python scripts/batch_check.py [--recordings 500] [--broken 10] [--workers 2] [--ways pool,ray] [--json F]

Every way does the same recordings, some of which are broken, with the same task. What is looked at:

* the outputs of all ways are the same to the bit, and the broken recordings are rows;
* a worker is killed (SIGKILL) after a third of the recordings: nothing is missing;
* the driver is killed after two thirds: its workers end within a minute (what of Ray's own servers is left by
  then is named), what it had written is whole, and the run after it does only the rest;
* recordings a minute of each way, from the start of its processes to the last row, without the kills.

The exit status is 1 where something differs or is missing.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
# Ray's workers give way to every other process unless told; those of a pool do not.
os.environ.setdefault("RAY_worker_niceness", "0")

import psutil
import soundfile
from tqdm import tqdm

from facetalk.batch import BatchReport, generate_batch
from facetalk.batch.ledger import LEDGER
from facetalk.batch.listing import read_recordings
from facetalk.batch.work import SUFFIX, Settings, model_digest, work
from facetalk.files import atomic_path

STARTED = ("multiprocessing.spawn", "ray::work", "ray::IDLE")
"""Beginnings of what workers are called."""
SPEECH = Path(__file__).parents[1] / "examples" / "demo.flac"


def make_recordings(folder: Path, count: int, broken: int) -> None:
    """Pieces of one to two seconds of the demo, all different, some broken in one of four ways."""
    sound, rate = soundfile.read(SPEECH, dtype="float32")
    folder.mkdir()
    apart = max(1, count // max(broken, 1))
    for number in range(count):
        path = folder / f"talk{number:05d}.wav"
        start, length = int(number * 0.137 * rate) % (len(sound) - 2 * rate), rate + 997 * number % rate
        soundfile.write(path, sound[start : start + length], rate)
        which = number // apart
        if number % apart == apart // 2 and which < broken:
            data = path.read_bytes()
            path.write_bytes([b"", b"no sound at all" * 50, data[:20], b"RIFF" + bytes(400)][which % 4])


def outputs(folder: Path) -> dict[str, str]:
    """Digests of the outputs of a batch."""
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.glob("*.safetensors"))}


def loop(recordings: Path, out: Path) -> float:
    """One process, one recording after the other, the model loaded within the time; seconds."""
    start = time.perf_counter()
    settings = Settings("motion", "default", model_digest("default"))
    out.mkdir()
    for recording in tqdm(read_recordings(recordings), "loop", disable=None):
        result = work(settings, recording)
        if isinstance(result.data, bytes):
            (out / (recording.name + SUFFIX["motion"])).write_bytes(result.data)
    return time.perf_counter() - start


def kill_worker_after(count: int, names: tuple[str, ...]) -> Callable[[dict[str, Any]], None]:
    """A hook that kills one of the driver's workers, known by their command lines, after so many rows."""
    seen, killed = [0], []

    def hook(row: dict[str, Any]) -> None:
        seen[0] += 1
        if seen[0] >= count and not killed:
            for process in psutil.Process().children(recursive=True):
                if any(name in " ".join(process.cmdline()) for name in names):
                    process.send_signal(signal.SIGKILL)
                    killed.append(process.pid)
                    return

    hook.killed = killed  # type: ignore[attr-defined]
    return hook


def rows_of(out: Path) -> int:
    """Whole rows that the output manifest of a run has so far."""
    path = out / LEDGER
    return max(0, path.read_bytes().count(b"\n") - 1) if path.exists() else 0


def kill_driver_after(count: int, recordings: Path, out: Path, options: list[str]) -> dict[str, Any]:
    """Start the verb, kill it after so many rows, and tell what it left."""
    command = [sys.executable, "-m", "facetalk", "batch", str(recordings), "-o", str(out), *options]
    driver = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while rows_of(out) < count and driver.poll() is None:
        time.sleep(0.05)
    children = psutil.Process(driver.pid).children(recursive=True) if driver.poll() is None else []
    driver.kill()
    driver.wait()
    _, alive = psutil.wait_procs(children, timeout=60)
    names = []
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            names.append(_name(process))
            process.kill()
    return {
        "rows": rows_of(out),
        "workers_left": sum(name.startswith(STARTED) for name in names),
        "others_left": sorted(name for name in names if not name.startswith(STARTED)),
    }


def _name(process: psutil.Process) -> str:
    """What a process is, in a word or two."""
    words = process.cmdline() or [process.name()]
    text = " ".join(words)
    known = [name for name in STARTED if name in text]
    return known[0] if known else Path(words[0]).name


def check(way: str, options: dict[str, Any], recordings: Path, work_folder: Path, wanted: dict[str, str],
          count: int, broken: int) -> dict[str, Any]:  # fmt: skip
    """Run one way undisturbed, with a killed worker, and with a killed driver."""
    plain: BatchReport = generate_batch(recordings, work_folder / f"{way}", progress=True, **options)
    hook = kill_worker_after(count // 3, STARTED)
    hurt = generate_batch(recordings, work_folder / f"{way}-worker", on_row=hook, progress=True, **options)
    words = [f"--{name}={value}" for name, value in options.items()]
    out = work_folder / f"{way}-driver"
    left = kill_driver_after(2 * count // 3, recordings, out, words)
    whole = all(wanted.get(name) == digest for name, digest in outputs(out).items())
    rest = generate_batch(recordings, out, progress=True, **options)
    same = all(outputs(work_folder / f"{way}{end}") == wanted for end in ("", "-worker", "-driver"))
    rows = all(len(report.failed) == broken for report in (plain, hurt, rest))
    return {
        "recordings_per_minute": plain.per_minute,
        "seconds": plain.seconds,
        "same_outputs": same,
        "broken_are_rows": rows,
        "killed_worker": bool(hook.killed),  # type: ignore[attr-defined]
        "killed_driver": {**left, "outputs_whole": whole, "kept": rest.kept, "done_after": count - rest.kept},
        "passed": bool(
            same and rows and whole and hook.killed and not left["workers_left"]  # type: ignore[attr-defined]
            and left["rows"] - 1 <= rest.kept < count
        ),
    }  # fmt: skip


def main() -> int:
    """Run all ways and print and write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recordings", type=int, default=500)
    parser.add_argument("--broken", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--ways", default="pool,ray", help="which of them")
    parser.add_argument("--json", type=Path, default=None)
    args = parser.parse_args()
    known = {"pool": {"workers": args.workers}, "ray": {"workers": args.workers, "ray": "local"}}
    ways: dict[str, dict[str, Any]] = {way: known[way] for way in args.ways.split(",") if way in known}
    if not ways:
        parser.error("--ways takes pool, ray, or both")
    if not 0 <= args.broken < args.recordings:
        parser.error("fewer broken recordings than recordings")
    with tempfile.TemporaryDirectory(prefix="batch-check-") as folder:
        place = Path(folder)
        recordings = place / "recordings"
        make_recordings(recordings, args.recordings, args.broken)
        seconds = loop(recordings, place / "loop")
        wanted = outputs(place / "loop")
        report: dict[str, Any] = {
            "command": f"python scripts/batch_check.py --recordings {args.recordings} --broken {args.broken} "
                       f"--workers {args.workers} --ways {args.ways}",
            "machine": {"cores": os.cpu_count(), "processor": platform.processor(), "load": os.getloadavg()},
            "recordings": args.recordings, "broken": args.broken, "workers": args.workers,
            "outputs": len(wanted),
            "loop": {"recordings_per_minute": 60.0 * args.recordings / seconds, "seconds": seconds},
        }  # fmt: skip
        for way, options in ways.items():
            report[way] = check(way, options, recordings, place, wanted, args.recordings, args.broken)
            report[way]["times_loop"] = seconds / report[way]["seconds"]
    passed = len(wanted) == args.recordings - args.broken and all(report[way]["passed"] for way in ways)
    report["passed"] = passed
    text = json.dumps(report, indent=1)
    print(text)
    if args.json is not None:
        with atomic_path(args.json) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
