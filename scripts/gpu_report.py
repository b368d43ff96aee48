"""Keeps what scripts/gpu_check.sh did and writes it as one JSON file.

gpu_report.py environment --work DIR      device, driver and versions; fails when something needed is missing
gpu_report.py step --work DIR ...         one step: status, seconds, the end of its log
gpu_report.py write --work DIR --out FILE everything together, added to what FILE has of the same commit
"""

import argparse
import csv
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import time
import xml.etree.ElementTree
from pathlib import Path
from typing import Any

NEEDED = ("torch", "numpy", "scipy", "safetensors", "pybind11", "pytest", "hypothesis")
USED = ("cupy", "warp", "triton", "transformers", "skimage", "diffusers", "soundfile", "soxr", "av", "pyfqmr")
TOOLS = ("nvcc", "cmake", "ninja", "c++", "ncu", "compute-sanitizer")


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _version(module: str) -> str | None:
    if importlib.util.find_spec(module) is None:
        return None
    for name in importlib.metadata.packages_distributions().get(module, [module]):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "unknown"


def environment() -> dict[str, Any]:
    """What this machine is, as far as it can be asked without torch, then with it."""
    query = "name,driver_version,memory.total,compute_cap,clocks.max.sm,clocks.max.memory,power.limit"
    values = _output("nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader").splitlines()[:1]
    device = (
        dict(zip(query.split(","), (v.strip() for v in values[0].split(",")), strict=False)) if values else {}
    )
    found: dict[str, Any] = {
        "device": device,
        "nvcc": (re.findall(r"release [\d.]+, (V[\d.]+)", _output("nvcc", "--version")) or [None])[0],
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": next(
            (
                line.split(":")[1].strip()
                for line in _read("/proc/cpuinfo").splitlines()
                if "model name" in line
            ),
            "",
        ),
        "packages": {module: _version(module) for module in (*NEEDED, *USED)},
        "python_headers": (Path(sysconfig.get_paths()["include"]) / "Python.h").exists(),
        "tools": {tool: shutil.which(tool) is not None for tool in TOOLS},
    }
    if found["packages"]["torch"]:
        import torch

        found["torch_cuda"] = torch.version.cuda
        found["torch_sees_a_gpu"] = torch.cuda.is_available()
    return found


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def missing(found: dict[str, Any]) -> list[str]:
    """What has to be there before building and testing make sense."""
    lacks = [f"package {module}" for module in NEEDED if not found["packages"][module]]
    lacks += [f"program {tool}" for tool in TOOLS if not found["tools"][tool]]
    if not found["python_headers"]:
        lacks.append("Python.h, without which no extension compiles")
    if not found["device"]:
        lacks.append("a GPU that nvidia-smi shows")
    elif not found.get("torch_sees_a_gpu"):
        lacks.append("a torch that sees the GPU")
    return lacks


def step(args: argparse.Namespace) -> None:
    """Write down one step."""
    log = args.log.read_text(errors="replace") if args.log.exists() else ""
    entry = {
        "stage": args.stage,
        "name": args.name,
        "command": args.command.strip(),
        "status": args.status,
        "outcome": "ok" if args.status == 0 else "timed out" if args.status in (124, 137) else "failed",
        "seconds": args.seconds,
        "log_end": log[-400:] if args.status == 0 else log[-4000:],
    }
    with (args.work / "steps.jsonl").open("a") as file:
        file.write(json.dumps(entry) + "\n")


def _lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def tests(path: Path) -> dict[str, Any]:
    """Counts and failures of a JUnit file of pytest."""
    counts: dict[str, Any] = {"passed": 0, "failed": [], "skipped": {}}
    for case in xml.etree.ElementTree.parse(path).iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        skipped = case.find("skipped")
        if skipped is not None:
            why = skipped.get("message") or ""
            counts["skipped"][why] = counts["skipped"].get(why, 0) + 1
        elif case.find("failure") is not None or case.find("error") is not None:
            counts["failed"].append(name)
        else:
            counts["passed"] += 1
    return counts


def kernel_name(demangled: str) -> str:
    """Name and template arguments, without result, parameters, namespaces that have no name, and casts."""
    plain = re.sub(r"(\(anonymous namespace\)|<unnamed>)::", "", demangled)
    plain = re.sub(r"\((bool|char|short|int|long|unsigned \w+|[\w:]+)\)(?=-?\d)", "", plain)
    return plain.split("(")[0].removeprefix("void ").strip()


def kernels(path: Path) -> list[dict[str, Any]]:
    """Rows of a CSV log of ncu: one per launch, its second line being the units."""
    lines = [line for line in path.read_text(errors="replace").splitlines() if line.startswith('"')]
    rows = list(csv.DictReader(lines))
    if not rows:
        return []
    units = rows[0]
    keep = [name for name in rows[0] if "__" in name]
    found = []
    for row in rows[1:]:
        entry: dict[str, Any] = {"kernel": kernel_name(row["Kernel Name"]), "grid": row.get("Grid Size")}
        for name in keep:
            text = row[name].replace(",", "")
            number = float(text) if re.fullmatch(r"-?[\d.]+(e[+-]?\d+)?", text) else None
            entry[f"{name} [{units[name]}]" if units[name] else name] = text if number is None else number
        found.append(entry)
    return found


def write(args: argparse.Namespace) -> None:
    """Gather everything of the work folder into the result file."""
    # A copy of the tree on another machine may have no history: the caller then says what it is a copy of.
    commit = os.environ.get("FACETALK_COMMIT") or _output("git", "rev-parse", "HEAD") or "unknown"
    changed = _output("git", "status", "--porcelain", "--untracked-files=no")
    result: dict[str, Any] = {}
    if args.out.exists():
        before = json.loads(args.out.read_text())
        if before.get("commit") == commit:
            result = before
    result |= {
        "commit": commit,
        "uncommitted_changes": bool(changed),
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    if (args.work / "environment.json").exists():
        result["environment"] = json.loads((args.work / "environment.json").read_text())
    steps = {(s["stage"], s["name"]): s for s in result.get("steps", [])}
    steps |= {(s["stage"], s["name"]): s for s in _lines(args.work / "steps.jsonl")}
    result["steps"] = list(steps.values())
    for path in sorted(args.work.glob("junit-*.xml")):
        result.setdefault("tests", {})[path.stem.removeprefix("junit-")] = tests(path)
    for path in sorted(args.work.glob("ncu-*.csv")):
        result.setdefault("profiles", {})[path.stem.removeprefix("ncu-")] = kernels(path)
    for path in sorted(args.work.glob("bench_*.jsonl")):
        result.setdefault("benchmarks", {})[path.stem] = _lines(path)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    fresh = args.out.with_name(f".{args.out.name}")
    fresh.write_text(json.dumps(result, indent=1) + "\n")
    fresh.replace(args.out)
    bad = [f"{s['stage']}/{s['name']} {s['outcome']}" for s in result["steps"] if s["status"] != 0]
    print(
        f"{args.out}: {len(result['steps'])} steps, {len(bad)} not ok{': ' + ', '.join(bad) if bad else ''}"
    )


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description="Keeps what scripts/gpu_check.sh did.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("environment", "step", "write"):
        verbs.add_parser(verb).add_argument("--work", type=Path, required=True)
    of_step = verbs.choices["step"]
    for name in ("--stage", "--name", "--command"):
        of_step.add_argument(name, required=True)
    for name in ("--status", "--seconds"):
        of_step.add_argument(name, type=int, required=True)
    of_step.add_argument("--log", type=Path, required=True)
    verbs.choices["write"].add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    if args.verb == "step":
        step(args)
    elif args.verb == "write":
        write(args)
    else:
        found = environment()
        (args.work / "environment.json").write_text(json.dumps(found, indent=1))
        print(json.dumps(found, indent=1))
        if lacks := missing(found):
            sys.exit(f"error: this machine lacks {', '.join(lacks)}")


if __name__ == "__main__":
    main()
