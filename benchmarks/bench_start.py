"""How soon a process has the first curves of ten seconds of speech, and the memory it takes.

    python benchmarks/bench_start.py --json benchmarks/results/cpu-start.json

The clock starts before the process does and stops when the first row of curves comes out of its pipe; the
whole clip is heard before, so all of its frames are made by then. Beside the C program and Python on the C
library stands the torch backend. Rounds alternate between them; files are in the system's cache after the
first, which is not counted. One thread each.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

import facetalk
from facetalk.models import find_model

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 10
PROGRAM = """
import sys, facetalk
model = facetalk.FaceTalk.from_pretrained(device="cpu", backend=sys.argv[1])
motion = model.generate(sys.argv[2], seed=0)
print(*motion.expressions[0], sep=",", flush=True)
"""
Command = list[str]


def commands(folder: Path) -> dict[str, Command]:
    """What is compared; the C program only where there is a compiler for it."""
    samples, rate = soundfile.read(ROOT / "examples/demo.flac", dtype="int16")
    speech = folder / "speech.wav"
    soundfile.write(speech, np.resize(samples, SECONDS * rate), rate)
    found = {
        "python, C library": [sys.executable, "-c", PROGRAM, "native", str(speech)],
        "python, torch": [sys.executable, "-c", PROGRAM, "torch", str(speech)],
        "facetalk generate -o talk.csv": [
            sys.executable, "-m", "facetalk", "generate", str(speech), "-o", str(folder / "talk.csv"),
        ],
        "facetalk generate -o talk.glb": [
            sys.executable, "-m", "facetalk", "generate", str(speech), "-o", str(folder / "talk.glb"),
            "--force",
        ],
        "python, import numpy": [sys.executable, "-c", "import numpy; print(numpy.__version__)"],
    }  # fmt: skip
    compiler = shutil.which("cc")
    if compiler is not None:
        program, library = folder / "wav_to_csv", Path(facetalk.get_library())
        subprocess.run(
            [
                compiler, "-O2", ROOT / "examples/c/wav_to_csv.c", f"-I{facetalk.get_include()}",
                f"-L{library.parent}", f"-Wl,-rpath,{library.parent}", "-lfacetalk", "-lm", "-o", program,
            ],
            check=True,
        )  # fmt: skip
        found["C"] = [str(program), str(find_model("default").folder), str(speech)]
    return found


def measure(command: Command) -> dict[str, float]:
    """Seconds to the first row that a process writes (to its end, of one that writes a file), and memory."""
    reading, writing = os.pipe()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed has its bytecode
    actions = [(os.POSIX_SPAWN_DUP2, writing, 1), (os.POSIX_SPAWN_CLOSE, reading)]
    begin = time.perf_counter()
    process = os.posix_spawn(command[0], command, environment, file_actions=actions)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        if command[0] != sys.executable:
            pipe.readline()  # names of the columns
        pipe.readline()
        first = time.perf_counter() - begin
        pipe.read()
    _, status, usage = os.wait4(process, 0)
    if status:
        raise SystemExit(f"error: {command[:3]} ended with status {os.waitstatus_to_exitcode(status)}")
    return {
        "first_s": first,
        "end_s": time.perf_counter() - begin,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_mb": usage.ru_maxrss * 1024 / 1e6,
    }


def main() -> None:
    """Measure, print a table, and write JSON where it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10, help="measurements of each (default 10)")
    parser.add_argument("--json", type=Path, default=None, metavar="FILE", help="write the figures there")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    with tempfile.TemporaryDirectory() as folder:
        compared = commands(Path(folder))
        taken: dict[str, list[dict[str, float]]] = {name: [] for name in compared}
        for turn in tqdm(range(args.rounds + 1), desc="rounds", disable=not sys.stderr.isatty()):
            for name, command in compared.items():
                result = measure(command)
                if turn:
                    taken[name].append(result)
    figures = {
        name: {
            key: {"median": statistics.median(r[key] for r in rows), "least": min(r[key] for r in rows)}
            for key in rows[0]
        }
        for name, rows in taken.items()
    }
    for name, found in figures.items():
        first, peak = found["first_s"], found["peak_mb"]["median"]
        print(f"{name:<32} first row {first['median']:.3f} s (least {first['least']:.3f}), {peak:.0f} MB")
    if args.json is not None:
        machine = {"processor": _processor(), "python": platform.python_version(), "load": os.getloadavg()[0]}
        packages = {name: _version(name) for name in ("facetalk", "numpy", "torch", "transformers")}
        report = {"seconds_of_speech": SECONDS, "rounds": args.rounds, "threads": 1, "machine": machine,
                  "packages": packages, "figures": figures}  # fmt: skip
        args.json.write_text(json.dumps(report, indent=1) + "\n")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
