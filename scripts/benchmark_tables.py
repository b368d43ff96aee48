"""Makes the figures of README and docs from the JSON files under benchmarks/results/; those of a GPU by
gpu_tables.py.

    python scripts/benchmark_tables.py            # rewrite them
    python scripts/benchmark_tables.py --check    # fail when a page does not say what the JSON says

Pages are written by hand but for what lies between two kinds of markers. A table of a whole file:

    <!-- benchmark: cpu-track.json -->
    <!-- /benchmark -->

which this script fills with a table for every group of benchmarks/results/cpu-track.json. After the file name
may follow ``group="text"`` (only groups whose name starts so) and ``peer="name; name"`` (a column for each:
how many times faster than that row; without it the slowest row is the peer). A row's time is ``ms_per_frame``
of its extra_info where every row of the group has one, else the fastest run.

Sentences and tables of one's own:

    <!-- figures: readme-speed.md -->
    <!-- /figures -->

filled with benchmarks/figures/readme-speed.md, in which ``{file | group | row | key}`` is a figure of a
benchmark (rows are named as in the tables; the key ``time`` is the row's time with its unit) and
``{file | dotted.path | format}`` a value of any other JSON, formatted as Python does (``.1%``).
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import gpu_tables

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(
    r"(?P<begin><!-- benchmark: (?P<file>[\w.-]+)(?P<options>[^\n]*?) -->\n)"
    r"(?P<body>.*?)(?P<end><!-- /benchmark -->)",
    re.DOTALL,
)
FIGURES = re.compile(
    r"(?P<begin><!-- figures: (?P<file>[\w.-]+) -->\n)(?P<body>.*?)(?P<end><!-- /figures -->)", re.DOTALL
)
GPU = re.compile(
    r"(?P<begin><!-- gpu: (?P<file>[\w.-]+)(?P<options>[^\n]*?) -->\n)(?P<body>.*?)(?P<end><!-- /gpu -->)",
    re.DOTALL,
)
REFERENCE = re.compile(r"\{([^{}]+)\}")
OPTION = re.compile(r'\s*(\w+)="([^"]*)"')


class TableError(Exception):
    """The page and the JSON do not fit together."""


def number(value: Any) -> str:
    """A figure with three significant digits, never in powers of ten unless it is tiny."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or value == int(value):
        return f"{int(value):,}".replace(",", " ")
    if abs(value) >= 100:
        return f"{round(value):,}".replace(",", " ")
    if abs(value) < 1e-3:
        return f"{value:.2g}"
    digits = 2 if abs(value) < 10 else 1
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.{digits}f}"


def load(path: Path) -> dict[str, Any]:
    """The JSON of one run.

    Raises:
        TableError: the file is missing or pytest-benchmark did not write it.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TableError(f"{path}: {error.strerror}") from error
    except json.JSONDecodeError as error:
        raise TableError(f"{path}: not JSON ({error})") from error
    if not isinstance(content, dict) or not content.get("benchmarks"):
        raise TableError(f"{path}: has no benchmarks; was it written with --benchmark-json?")
    return content


def labels(rows: list[dict[str, Any]]) -> list[str]:
    """Names of a group's rows: the parameters in which they differ, else the names of the tests."""
    params = [row.get("params") or {} for row in rows]
    keys = [k for k in params[0] if all(k in p for p in params) and len({str(p[k]) for p in params}) > 1]
    names = [" ".join(str(p[k]) for k in keys) for p in params]
    return names if keys and len(set(names)) == len(names) else [row["name"] for row in rows]


def times(rows: list[dict[str, Any]]) -> tuple[str, list[float]]:
    """Header of the time column, and milliseconds."""
    if all("ms_per_frame" in row["extra_info"] for row in rows):
        return "ms per frame", [float(row["extra_info"]["ms_per_frame"]) for row in rows]
    return "ms", [1e3 * float(row["stats"]["min"]) for row in rows]


def table(group: str, rows: list[dict[str, Any]], peers: list[str]) -> str:
    """One group as a Markdown table."""
    names = labels(rows)
    header, ms = times(rows)
    if not peers and len(rows) > 1:
        peers = [names[max(range(len(rows)), key=lambda i: ms[i])]]
    unknown = [peer for peer in peers if peer not in names]
    if unknown:
        raise TableError(f"group {group!r} has no row {unknown[0]!r}; it has: {', '.join(names)}")
    extra: list[str] = []
    for row in rows:
        extra += [key for key in row["extra_info"] if key not in extra and key != "ms_per_frame"]
    columns = [header, *(f"faster than {peer}" for peer in peers), *(key.replace("_", " ") for key in extra)]
    lines = [f"**{group}**", "", "| | " + " | ".join(columns) + " |", "|---|" + "--:|" * len(columns)]
    for name, row, time in zip(names, rows, ms, strict=True):
        cells = [number(time)]
        cells += ["1" if name == peer else f"{number(ms[names.index(peer)] / time)}×" for peer in peers]
        cells += [number(row["extra_info"].get(key, "")) for key in extra]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def provenance(content: dict[str, Any], file: str) -> str:
    """Where the figures come from: device, versions, commit."""
    machine, commit = content.get("machine_info", {}), content.get("commit_info", {})
    cpu = machine.get("cpu", {})
    device = (
        machine.get("gpu") or machine.get("device") or cpu.get("brand_raw") or machine.get("machine", "?")
    )
    threads = machine.get("threads") or cpu.get("count")
    versions = ", ".join(f"{k} {v}" for k, v in machine.get("packages", {}).items())
    versions = versions or f"Python {machine.get('python_version', '?')}"
    state = " with changes" if commit.get("dirty") else ""
    return (
        f"{device}, {threads} threads; {versions}; commit {str(commit.get('id', '?'))[:10]}{state}, "
        f"{str(content.get('datetime', '?'))[:10]}; `benchmarks/results/{file}`"
    )


def body(results: Path, file: str, options: dict[str, str]) -> str:
    """Everything between two markers."""
    content = load(results / file)
    unknown = set(options) - {"group", "peer"}
    if unknown:
        raise TableError(f"{file}: unknown option {sorted(unknown)[0]!r}; known are group and peer")
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in content["benchmarks"]:
        groups.setdefault(row.get("group") or row["name"], []).append(row)
    wanted = options.get("group", "")
    chosen = {name: rows for name, rows in groups.items() if name.startswith(wanted)}
    if not chosen:
        raise TableError(f"{file}: no group starts with {wanted!r}; it has: {', '.join(groups)}")
    peers = [peer.strip() for peer in options.get("peer", "").split(";") if peer.strip()]
    tables = [table(name, rows, peers) for name, rows in chosen.items()]
    return "\n\n".join([*tables, provenance(content, file)]) + "\n"


def duration(ms: float) -> str:
    """A time with its unit."""
    return f"{number(ms / 1e3)} s" if ms >= 1000 else f"{number(ms)} ms"


def benchmark_figure(content: dict[str, Any], file: str, group: str, row: str, key: str) -> str:
    """One figure of a run of pytest-benchmark."""
    rows = [r for r in content["benchmarks"] if (r.get("group") or r["name"]) == group]
    if not rows:
        groups = {r.get("group") or r["name"] for r in content["benchmarks"]}
        raise TableError(f"{file}: no group {group!r}; it has: {', '.join(sorted(groups))}")
    names = labels(rows)
    if row not in names:
        raise TableError(f"{file}: group {group!r} has no row {row!r}; it has: {', '.join(names)}")
    index = names.index(row)
    if key == "time":
        return duration(times(rows)[1][index])
    if key not in rows[index]["extra_info"]:
        raise TableError(f"{file}: {group!r}, {row!r} has no {key!r}")
    return number(rows[index]["extra_info"][key])


def value_figure(content: Any, file: str, path: str, form: str) -> str:
    """One value of a JSON file by its dotted path."""
    found = content
    for part in path.split("."):
        try:
            found = found[int(part)] if isinstance(found, list) else found[part]
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise TableError(f"{file}: nothing at {path!r} (at {part!r})") from error
    try:
        text = format(found, form) if form else number(found)
    except (TypeError, ValueError) as error:
        raise TableError(f"{file}: {path} is {found!r}, which {form!r} does not format") from error
    return text.removeprefix("-") if re.fullmatch(r"-0(\.0*)?%?", text) else text


def sentences(template: Path, results: Path) -> str:
    """A template with its figures put in."""

    def replace(match: re.Match[str]) -> str:
        parts = [part.strip() for part in match[1].split("|")]
        file = results / parts[0]
        if len(parts) == 4:
            return benchmark_figure(load(file), *parts)
        if len(parts) not in (2, 3):
            raise TableError(f"{template}: cannot read {match[0]!r}")
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise TableError(f"{file}: {error}") from error
        return value_figure(content, parts[0], parts[1], parts[2] if len(parts) == 3 else "")

    try:
        text = template.read_text(encoding="utf-8")
    except OSError as error:
        raise TableError(f"{template}: {error.strerror}") from error
    return REFERENCE.sub(replace, text)


def fill(page: str, results: Path) -> str:
    """The page with everything between markers made anew."""
    if page.count("<!-- benchmark:") != len(BLOCK.findall(page)):
        raise TableError("a <!-- benchmark: file --> has no <!-- /benchmark --> after it, or no file name")
    if page.count("<!-- figures:") != len(FIGURES.findall(page)):
        raise TableError("a <!-- figures: file --> has no <!-- /figures --> after it, or no file name")
    if page.count("<!-- gpu:") != len(GPU.findall(page)):
        raise TableError("a <!-- gpu: file --> has no <!-- /gpu --> after it, or no file name")
    page = FIGURES.sub(
        lambda m: f"{m['begin']}{sentences(results.parent / 'figures' / m['file'], results)}{m['end']}", page
    )

    def replace(match: re.Match[str]) -> str:
        rest = OPTION.sub("", match["options"]).strip()
        if rest:
            raise TableError(f'{match["file"]}: cannot read {rest!r}; options are name="value"')
        options = dict(OPTION.findall(match["options"]))
        make = gpu_tables.body if match["begin"].startswith("<!-- gpu") else body
        try:
            made = make(results, match["file"], options)
        except gpu_tables.GpuTableError as error:
            raise TableError(str(error)) from error
        return f"{match['begin']}\n{made}\n{match['end']}"

    return GPU.sub(replace, BLOCK.sub(replace, page))


def main(words: list[str] | None = None) -> int:
    """Run; 0 fine, 1 the page differs (--check), 2 it cannot be made."""
    parser = argparse.ArgumentParser(description="figures of README and docs from benchmarks/results/*.json")
    parser.add_argument("--page", type=Path, action="append", help="default: every page that has markers")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--check", action="store_true", help="change nothing; fail when a page differs")
    args = parser.parse_args(words)
    return max(one(page, args.results, args.check) for page in args.page or pages())


def pages() -> list[Path]:
    """Every page of the project that may have markers."""
    return [
        ROOT / "README.md",
        *sorted((ROOT / "docs").glob("*.md")),
        *sorted(ROOT.glob("facetalk/**/README.md")),
    ]


def one(page: Path, results: Path, check: bool) -> int:
    """Make one page anew, or check it."""
    try:
        try:
            old = page.read_text(encoding="utf-8")
        except OSError as error:
            raise TableError(f"{page}: {error.strerror}") from error
        new = fill(old, results)
    except TableError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if new == old:
        return 0
    if check:
        print(f"error: {page} differs from the JSON; run scripts/benchmark_tables.py", file=sys.stderr)
        return 1
    page.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
