"""What gpu_check.py asks of a machine and reads from NVIDIA's tools, and its results gathered into one file.

gpu_report.py environment             device, driver and versions; fails when something needed is missing
gpu_report.py gather DIR --out FILE   the results in a folder as one JSON file, as benchmarks/results keeps it
"""

from __future__ import annotations

import argparse
import csv
import importlib.metadata
import importlib.util
import json
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from gpu_isolate import lines

VERBS = ("right", "fast", "why")
NEEDED = ("torch", "numpy", "scipy", "safetensors", "pytest", "hypothesis")
USED = (
    "cupy",
    "warp",
    "triton",
    "transformers",
    "skimage",
    "diffusers",
    "pybind11",
    "soundfile",
    "soxr",
    "av",
)
TOOLS = ("nvcc", "cmake", "ninja", "c++", "ncu", "compute-sanitizer")

METRICS = (
    "gpu__time_duration.sum", "dram__throughput.avg.pct_of_peak_sustained_elapsed", "dram__bytes_read.sum",
    "dram__bytes_write.sum", "lts__t_bytes.sum", "sm__throughput.avg.pct_of_peak_sustained_elapsed",
    "sm__warps_active.avg.pct_of_peak_sustained_active", "sm__inst_executed_pipe_tensor.sum",
    "launch__registers_per_thread", "launch__occupancy_limit_registers",
)  # fmt: skip
"""What ncu is asked for, and what is kept of the hundreds of figures that its raw page gives besides."""


def output(*command: str) -> str:
    """What a command says, nothing where it cannot."""
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


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
    return next((line.split(":")[1].strip() for line in text.splitlines() if "model name" in line), "")


def environment() -> dict[str, Any]:
    """What this machine is, as far as it can be asked without torch, then with it. Nothing is set."""
    query = "name,driver_version,memory.total,compute_cap,clocks.max.sm,clocks.max.memory,power.limit"
    values = output("nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader").splitlines()[:1]
    device = (
        dict(zip(query.split(","), (v.strip() for v in values[0].split(",")), strict=False)) if values else {}
    )
    found: dict[str, Any] = {
        "device": device,
        "nvcc": (re.findall(r"release [\d.]+, (V[\d.]+)", output("nvcc", "--version")) or [None])[0],
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": _processor(),
        "packages": {module: _version(module) for module in (*NEEDED, *USED)},
        "python_headers": (Path(sysconfig.get_paths()["include"]) / "Python.h").exists(),
        "tools": {tool: shutil.which(tool) is not None for tool in TOOLS},
    }
    if found["packages"]["torch"]:
        import torch

        found["torch_cuda"] = torch.version.cuda
        found["torch_sees_a_gpu"] = torch.cuda.is_available()
    return found


def missing(found: dict[str, Any]) -> list[str]:
    """What has to be there before testing makes sense."""
    lacks = [f"package {module}" for module in NEEDED if not found["packages"][module]]
    if not found["device"]:
        lacks.append("a GPU that nvidia-smi shows")
    elif not found.get("torch_sees_a_gpu"):
        lacks.append("a torch that sees the GPU")
    return lacks


def kernel_name(demangled: str) -> str:
    """Name and template arguments, without result, parameters, namespaces that have no name, and casts."""
    plain = re.sub(r"(\(anonymous namespace\)|<?unnamed>)::", "", demangled)
    plain = re.sub(r"\((bool|char|short|int|long|unsigned \w+|[\w:]+)\)(?=-?\d)", "", plain)
    return plain.split("(")[0].removeprefix("void ").strip()


def kernels(path: Path) -> list[dict[str, Any]]:
    """Rows of a CSV log of ncu: one per launch, its second line being the units; what was cut off is left
    out.
    """
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return []
    rows = list(csv.DictReader(line for line in text.splitlines() if line.startswith('"')))
    if not rows or "Kernel Name" not in rows[0]:
        return []
    units = rows[0]
    keep = [name for name in METRICS if name in units]
    found = []
    for row in rows[1:]:
        if not row.get("Kernel Name"):
            continue
        entry: dict[str, Any] = {"kernel": kernel_name(row["Kernel Name"]), "grid": row.get("Grid Size")}
        for name in keep:
            value = row.get(name)
            if value is None:
                continue
            plain = value.replace(",", "")
            number = float(plain) if re.fullmatch(r"-?[\d.]+(e[+-]?\d+)?", plain) else None
            entry[f"{name} [{units[name]}]" if units[name] else name] = plain if number is None else number
        found.append(entry)
    return found


def findings(log: str) -> list[dict[str, Any]]:
    """What compute-sanitizer reports, each kind in each kernel once, with how often; ours are facetalk's."""
    counts: dict[tuple[str, str], int] = {}
    heading = ""
    for line in log.splitlines():
        if not line.startswith("========="):
            continue
        text = line.removeprefix("=========")
        if re.match(r" \S", text):
            heading = text.strip()
        elif at := re.match(r"\s+(?:at|and|by|Write Thread.* at|Read Thread.* at) ?(.*?)\+0x", text):
            key = re.sub(r"0x[0-9a-f]+|\d+ (?=bytes)", "", heading), kernel_name(at[1])
            counts[key] = counts.get(key, 0) + 1
    return [{"finding": what, "kernel": kernel, "count": n} for (what, kernel), n in counts.items()]


def gather(folder: Path) -> dict[str, Any]:
    """The lines of the three commands' results, by command and step; a line that was cut off is left out."""
    result: dict[str, Any] = {}
    for verb in VERBS:
        entries = lines(str(folder / f"{verb}.jsonl"))
        if not entries:
            continue
        made: dict[str, Any] = {"steps": {}}
        for entry in entries:
            if "step" not in entry:
                made |= {key: value for key, value in entry.items() if key != "at"}
                continue
            step = made["steps"].setdefault(entry["step"], {})
            if "test" in entry:
                tests = step.setdefault("tests", {})
                tests.setdefault(entry["what"], []).append(
                    entry["test"] if entry["what"] == "passed" else {k: entry.get(k) for k in ("test", "why")}
                )
            elif "row" in entry:
                step.setdefault("rows", []).append(entry["row"])
            else:
                step |= {key: value for key, value in entry.items() if key not in ("at", "step")}
        result[verb] = made
    return result


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description="The results of scripts/gpu_check.sh.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("environment", help="what this machine is")
    gathering = verbs.add_parser("gather", help="one JSON file of a folder of results")
    gathering.add_argument("folder", type=Path)
    gathering.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    if args.verb == "environment":
        found = environment()
        print(json.dumps(found, indent=1))
        if lacks := missing(found):
            sys.exit(f"error: this machine lacks {', '.join(lacks)}")
        return
    result = gather(args.folder)
    if not result:
        sys.exit(f"error: {args.folder}: no result of {', '.join(VERBS)} is there")
    fresh = args.out.with_name(f".{args.out.name}")
    fresh.write_text(json.dumps(result, indent=1) + "\n")
    fresh.replace(args.out)
    print(f"{args.out}: {', '.join(result)}")


if __name__ == "__main__":
    main()
