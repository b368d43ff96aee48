"""Tables from what scripts/gpu_check.sh measured, for the pages that benchmark_tables.py fills.

    <!-- gpu: gpu-h100.json step="attention" -->
    <!-- /gpu -->

is filled with a table for each operation of that step: what was done, by whom, its milliseconds, and the
figures that its rows have besides; of a step under ncu, with one of the kernels that it profiled.
`case="official"` after it keeps the operations whose name has that text, `only="precision=fp16; frames=32"`
the rows of those cases.
"""

from __future__ import annotations

import json
import math
import re
import statistics
from pathlib import Path
from typing import Any

EXTRA = {
    "frames_per_s": "frames/s",
    "frames/s": "frames/s",
    "x real time": "times real time",
    "p95": "95 %, ms",
    "p99": "99 %, ms",
    "points_per_s": "points/s",
    "extrapolated_frames_per_s": "frames/s (extrapolated)",
    "of_copy": "of a copy's rate",
    "of_matmul": "of a product's rate",
    "times ours": "times ours",
    "evaluated_per_frame": "points a frame",
    "first_s": "first call, s",
    "wall_ms": "by the clock on the wall, ms",
    "calls": "launches",
    "of_device": "of all kernels",
    "cpu_ms": "on the CPU, ms",
    "vertices": "vertices",
    "most_of_999_in_1000_mm": "99.9 % within, mm",
}
_SHARES = ("of_copy", "of_matmul", "of_device")
_PROFILED = {
    "gpu__time_duration.sum [ns]": "ns",
    "dram__throughput.avg.pct_of_peak_sustained_elapsed [%]": "of the memory's rate, %",
    "sm__throughput.avg.pct_of_peak_sustained_elapsed [%]": "of the processors' rate, %",
    "sm__warps_active.avg.pct_of_peak_sustained_active [%]": "warps at work, %",
    "launch__registers_per_thread [register/thread]": "registers",
}


class GpuTableError(Exception):
    """The page asks for what the file has not."""


def rows_of(content: dict[str, Any], file: str, step: str) -> list[dict[str, Any]]:
    """The rows of a step of any of the commands.

    Raises:
        GpuTableError: there are none.
    """
    steps = {name: found for verb in content.values() for name, found in verb.get("steps", {}).items()}
    rows = steps.get(step, {}).get("rows")
    if not rows:
        having = ", ".join(name for name, found in steps.items() if found.get("rows"))
        raise GpuTableError(f"{file}: step {step!r} has no rows; those that do: {having}")
    return list(rows)


def figure(value: Any) -> str:
    """A figure with three significant digits."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return str(value)
    if abs(value) >= 1e6:
        return f"{value / 1e6:.3g} M"
    return f"{value:,.0f}".replace(",", " ") if abs(value) >= 1000 else f"{value:.3g}"


def cell(row: dict[str, Any], key: str) -> str:
    """What a row says of a further figure."""
    if key not in row:
        return ""
    return f"{row[key]:.0%}" if key in _SHARES else figure(row[key])


def table(operation: str, rows: list[dict[str, Any]]) -> str:
    """An operation as a Markdown table."""
    keys = [k for k in rows[0]["case"] if all(k in row["case"] for row in rows)]
    fixed = {k: rows[0]["case"][k] for k in keys if len({str(row["case"][k]) for row in rows}) == 1}
    free = [k for k in keys if k not in fixed]
    extra = [key for key in EXTRA if any(key in row for row in rows)]
    title = ", ".join([operation, *(f"{k} {v}" for k, v in fixed.items())])
    lines = [
        f"**{title}**",
        "",
        "| " + " | ".join([*free, "by", "ms", *(EXTRA[key] for key in extra)]) + " |",
        "|" + "---|" * (len(free) + 1) + "--:|" * (1 + len(extra)),
    ]
    for row in rows:
        # Names of kernels have angle brackets, which a page takes for its own.
        told = [f"`{row['case'][k]}`" if k == "kernel" else str(row["case"][k]) for k in free]
        cells = [*told, row["peer"], figure(row["median_ms"])]
        lines.append("| " + " | ".join([*cells, *(cell(row, key) for key in extra)]) + " |")
    return "\n".join(lines)


def profile(rows: list[dict[str, Any]]) -> str:
    """Kernels that ncu profiled as a Markdown table: each by the size of its grid, medians of launches."""
    launches: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        launches.setdefault((row["kernel"], row["grid"]), []).append(row)
    lines = [
        "| kernel | blocks | launches | " + " | ".join(_PROFILED.values()) + " |",
        "|---|--:|--:|" + "--:|" * len(_PROFILED),
    ]
    for (kernel, grid), found in launches.items():
        blocks = math.prod(int(size) for size in re.findall(r"\d+", grid))
        told = [[row[key] for row in found if key in row] for key in _PROFILED]  # a last row may be cut off
        figures = [figure(statistics.median(values)) if values else "" for values in told]
        lines.append(f"| `{kernel}` | {blocks} | {len(found)} | " + " | ".join(figures) + " |")
    return "\n".join(lines)


def provenance(content: dict[str, Any], file: str, step: str) -> str:
    """Which device, software and commit a step was measured with."""
    for verb, said in content.items():
        machine = said.get("steps", {}).get("machine", {}).get("machine")
        if machine and "rows" in said["steps"].get(step, {}):
            device, packages = machine["device"], machine["packages"]
            return (
                f"{device['name']}, driver {device['driver_version']}, torch {packages['torch']}; "
                f"`scripts/gpu_check.sh {verb}`, commit {str(said.get('commit', '?'))[:10]}; "
                f"`benchmarks/results/{file}`"
            )
    raise GpuTableError(f"{file}: does not say on which machine")


def body(results: Path, file: str, options: dict[str, str]) -> str:
    """Everything between two markers.

    Raises:
        GpuTableError: the file, the step or the rows are not there.
    """
    unknown = set(options) - {"step", "case", "only"}
    if unknown or "step" not in options:
        raise GpuTableError(f"{file}: options are step, case and only, and step is needed")
    try:
        content = json.loads((results / file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise GpuTableError(f"{results / file}: {error}") from error
    only = dict(part.strip().split("=", 1) for part in options.get("only", "").split(";") if part.strip())
    groups: dict[str, list[dict[str, Any]]] = {}
    rows = rows_of(content, file, options["step"])
    profiled = [row for row in rows if "kernel" in row]
    if profiled:
        return f"{profile(profiled)}\n\n{provenance(content, file, options['step'])}\n"
    for row in rows:
        kept = all(str(row["case"].get(key)) == value for key, value in only.items())
        if kept and options.get("case", "") in row["operation"]:
            groups.setdefault(row["operation"], []).append(row)
    if not groups:
        raise GpuTableError(f"{file}: no row of {options['step']!r} is such a case")
    tables = [table(operation, rows) for operation, rows in groups.items()]
    return "\n\n".join([*tables, provenance(content, file, options["step"])]) + "\n"
