"""The table and the plot, from ``results.json`` alone."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

COLUMNS = {
    "passes": "passes",
    "cpu_ms_per_s": "ms per s",
    "lve_mm": "LVE mm",
    "opening_mm": "opening mm",
    "opening_r": "opening r",
}
APART = ("lve_mm", "opening_mm", "opening_r")
SHOWN = {
    "diversity_mouth_mm": "diversity mouth",
    "diversity_upper_mm": "diversity upper",
    "blinks_per_minute": "blinks/min",
    "blink_depth": "blink depth",
    "brow_sd": "brow sd",
    "gaze_sd": "gaze sd",
    "mouth_spread_mm": "mouth spread",
    "lids_spread_mm": "lids spread",
    "mouth_speed": "mouth speed",
    "mouth_jerk": "mouth jerk",
    "upper_jerk": "upper jerk",
    "closed": "p b m closed",
    "touching": "f v touch",
}
PLOTTED = (
    "diversity_mouth_mm", "diversity_upper_mm", "blinks_per_minute",
    "lids_spread_mm", "mouth_speed", "mouth_jerk",
)  # fmt: skip


def worst(row: dict[str, Any]) -> tuple[str, float]:
    """The ratio that is furthest from 1, and its name."""
    if not row["ratios"]:
        return "-", float("nan")
    name = max(row["ratios"], key=lambda key: abs(row["ratios"][key]["ratio"] - 1.0))
    return name, float(row["ratios"][name]["ratio"])


def table(results: dict[str, Any]) -> str:
    """Markdown: a row for each sampler, ratios to the reference in percent."""
    # Truth is of no noise, so no distance frame by frame from it means anything.
    apart = () if results["reference"].startswith("truth") else APART
    columns = [COLUMNS[key] for key in COLUMNS if key in apart or key not in APART]
    heads = ["sampler", "steps", *columns, *(f"{head} %" for head in SHOWN.values()), "worst of all"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row in results["rows"]:
        cells = [row["sampler"], str(row["steps"]), str(row["passes"])]
        for key in ("cpu_ms_per_s", *apart):
            value = row["figures"].get(key)
            cells.append("-" if value is None else f"{value:.3f}" if key == "opening_r" else f"{value:.2f}")
        cells += [_percent(row["ratios"].get(key)) for key in SHOWN]
        name, value = worst(row)
        cells.append(f"{name} {100.0 * value:.0f}" if row["ratios"] else "-")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def ratios(results: dict[str, Any], names: Sequence[str]) -> str:
    """Markdown: every ratio of some rows with its 95 % interval."""
    chosen = [row for row in results["rows"] if row["row"] in names]
    lines = [
        "| figure | " + " | ".join(row["row"] for row in chosen) + " |",
        "|---" * (len(chosen) + 1) + "|",
    ]
    keys = dict.fromkeys(key for row in chosen for key in row["ratios"])
    for key in keys:
        cells = []
        for row in chosen:
            found = row["ratios"].get(key)
            band = "" if not found or not found["interval"] else " [{:.0f}, {:.0f}]".format(
                *(100.0 * edge for edge in found["interval"])
            )  # fmt: skip
            cells.append(_percent(found) + band)
        lines.append(f"| {key} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _percent(found: dict[str, Any] | None) -> str:
    return "-" if found is None else f"{100.0 * found['ratio']:.0f}"


FILES = ("results", "truth", "before-energy", "after-energy", "truth-before-life", "truth-before-mouth",
         "truth-before-both", "truth-both", "truth-before-starts", "truth-starts")  # fmt: skip
"""In ``experiments/steps/results``."""
MARK = re.compile(r"(<!-- steps: (?P<what>[\w-]+) -->\n).*?(<!-- /steps -->)", re.DOTALL)


def fill(page: str, results: dict[str, dict[str, Any]]) -> str:
    """A page with what stands between ``<!-- steps: table -->`` and ``<!-- /steps -->`` made anew.

    Known are ``table``, ``ratios`` and ``set`` (how much was measured) of ``results``, the same with
    ``truth-`` before them of ``truth``, and the student's figures before and after its later stages:
    ``energy``, ``life``, ``mouth``, ``both``, ``starts``.

    Args:
        page: Markdown.
        results: by the name of the file, as in :data:`FILES`; what is missing cannot be asked for.
    """
    parts: dict[str, str] = {}
    for name, mark in (("results", ""), ("truth", "truth-")):
        if name not in results:
            continue
        found = results[name]
        students = [row["row"] for row in found["rows"] if row["sampler"] == "student"]
        parts[f"{mark}table"] = table(found)
        parts[f"{mark}ratios"] = ratios(found, [*students, "teacher-10", "teacher-50"])
        parts[f"{mark}set"] = (
            f"{found['clips']} recordings ({found['minutes']:.1f} min) of voices not trained on, "
            f"{found['seeds']} seeds each, guidance {found['guidance']:g}; the reference is "
            f"{found['reference']}."
        )
    for name, (before, after) in {
        "energy": ("before-energy", "after-energy"),
        "life": ("truth-before-life", "truth-before-mouth"),
        "mouth": ("truth-before-mouth", "truth-before-both"),
        "both": ("truth-before-both", "truth-both"),
        "starts": ("truth-before-starts", "truth-starts"),
    }.items():
        if before in results and after in results:
            parts[name] = before_and_after(results[before], results[after])
    return MARK.sub(lambda found: found[1] + parts[found["what"]] + "\n" + found[3], page)


def before_and_after(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Markdown: the students' ratios of two results, where either is more than 5 % from the reference."""
    names = [row["row"] for row in before["rows"] if row["sampler"] == "student"]
    old, new = ({row["row"]: row["ratios"] for row in found["rows"]} for found in (before, after))
    keys = [
        key
        for key in old[names[0]]
        if any(abs(told[name][key]["ratio"] - 1.0) > 0.05 for told in (old, new) for name in names)
    ]
    lines = ["| figure | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for key in keys:
        cells = [f"{_percent(old[name][key])} → {_percent(new[name][key])}" for name in names]
        lines.append(f"| {key} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def measured() -> dict[str, dict[str, Any]]:
    """All results that the repository has, by name."""
    folder = Path(__file__).parent / "results"
    return {name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in FILES}


def main() -> None:
    """Fill pages: ``python -m experiments.steps.report PAGE...``."""
    results = measured()
    for name in sys.argv[1:]:
        page = Path(name)
        page.write_text(fill(page.read_text(encoding="utf-8"), results), encoding="utf-8")


def plot(results: dict[str, Any], file: Path) -> None:
    """Ratios to the reference over the number of steps, one panel a figure."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(2, 3, figsize=(12, 6.5), sharex=True)
    colours = {"teacher": "tab:gray", "dpm++": "tab:blue", "student": "tab:red"}
    for panel, key in zip(panels.flat, PLOTTED, strict=True):
        for sampler, colour in colours.items():
            rows = [r for r in results["rows"] if r["sampler"] == sampler and key in r["ratios"]]
            rows.sort(key=lambda r: r["steps"])
            if not rows:
                continue
            steps = [r["steps"] for r in rows]
            panel.plot(
                steps, [100 * r["ratios"][key]["ratio"] for r in rows], "o-", color=colour, label=sampler
            )
            bands = [r["ratios"][key]["interval"] or (float("nan"),) * 2 for r in rows]
            low, high = ([100 * band[side] for band in bands] for side in (0, 1))
            panel.fill_between(steps, low, high, color=colour, alpha=0.2)
        panel.axhspan(95, 105, color="tab:green", alpha=0.1)
        panel.set_title(SHOWN[key])
        panel.set_xscale("log")
        panel.set_ylim(0, 150)
        panel.grid(alpha=0.3)
    panels[0, 0].legend()
    for panel in panels[1]:
        panel.set_xlabel("steps")
    for panel in panels[:, 0]:
        panel.set_ylabel(f"% of {results['reference']}")
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
