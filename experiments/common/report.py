"""Tables and plots of trials, from the results' JSON alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from facetalk.files import atomic_path


class Column(NamedTuple):
    """A figure of a table.

    Attributes:
        key: its name in a row.
        head: what stands above it.
        form: of the value.
        on: the set of clips, "spoken" or "unspoken".
    """

    key: str
    head: str
    form: str = ".2f"
    on: str = "spoken"


LIPS = (
    Column("closed", "p b m shut", ".0%"),
    Column("shut_elsewhere", "shut elsewhere", ".1%"),
    Column("opening_r", "opening r"),
    Column("open_gap_mm", "open vowels mm", ".1f"),
    Column("silent_deviation_mm", "off rest mm"),
    Column("lve_mm", "LVE mm"),
    Column("opening_mm", "MOD mm"),
    Column("mtm_ms", "MTM ms", ".0f"),
    Column("frechet_mouth_mm2", "FD mouth"),
)
LIFE = (
    Column("diversity_mouth_mm", "diversity mouth mm", ".3f"),
    Column("diversity_upper_mm", "diversity upper mm", ".3f"),
    Column("fdd_mm2", "FDD mm²", "+.2f"),
    Column("blinks_per_minute", "blinks/min", ".1f"),
    Column("brow_sd", "brow sd", ".3f"),
    Column("upper_speed", "upper mm/s"),
    Column("mouth_jerk", "mouth jerk mm/s³", ".0f"),
    Column("frechet_upper_mm2", "FD upper"),
    Column("still_spread_mm", "still part mm", ".3f"),
)
OTHER_VOICE = tuple(
    column._replace(on="unspoken")
    for column in LIFE
    if column.key not in ("fdd_mm2", "frechet_upper_mm2", "still_spread_mm")
)
"""What can be told of recordings without phones."""
SYNC = (Column("sync_distance", "sync D", ".3f"), Column("sync_confidence", "sync C", ".3f"))


class Rows:
    """Trials of the results, by variant."""

    def __init__(self, results: Mapping[str, Any]) -> None:
        self.results = results
        self.trials: dict[str, list[Mapping[str, Any]]] = {}
        for row in results["rows"]:
            self.trials.setdefault(row["variant"], []).append(row)
        self.controls: Mapping[str, Mapping[str, Any]] = results["controls"]

    def values(self, name: str, column: Column) -> list[float]:
        """The figure of each seed of a variant, or of a control; what was not counted is left out."""
        trials = self.trials.get(name) or [self.controls[name]]
        found = [trial.get(column.on, {}).get("figures", {}).get(column.key) for trial in trials]
        return [float(value) for value in found if value is not None]

    def interval(self, name: str, column: Column) -> tuple[float, float] | None:
        """The 95 % interval over clips of the first seed."""
        trial = (self.trials.get(name) or [self.controls[name]])[0]
        found = trial.get(column.on, {}).get("intervals", {}).get(column.key)
        return None if found is None else (float(found[0]), float(found[1]))

    def has(self, column: Column) -> bool:
        """Whether any row has the figure."""
        return any(self.values(name, column) for name in (*self.trials, *self.controls))


def table(
    rows: Rows,
    names: Sequence[str],
    columns: Sequence[Column],
    *,
    paper: bool = False,
    controls: bool = True,
) -> str:
    """Markdown: mean over seeds, with the 95 % interval over clips of the first seed.

    Args:
        rows: the results.
        names: variants, from top to bottom.
        columns: figures; those that no row has are left out.
        paper: with a column of what the paper reports.
        controls: with the rows of known quality underneath.
    """
    shown = [column for column in columns if rows.has(column)]
    heads = [
        "",
        "seeds",
        *(["paper: LSE-D / diversity"] if paper else []),
        *(column.head for column in shown),
    ]
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "--:|" * (len(heads) - 1)]
    for name in (*names, *(rows.controls if controls else ())):
        title = rows.results["titles"].get(name, f"*{name}*")
        cells = [title, str(len(rows.trials.get(name, ()))) if name in rows.trials else ""]
        if paper:
            told = rows.results["paper"].get(name)
            cells.append(f"{told[0]:g} / {told[1]:g}" if told else "")
        cells += [_cell(rows, name, column) for column in shown]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(rows: Rows, name: str, column: Column) -> str:
    values, limits = rows.values(name, column), rows.interval(name, column)
    if not values:
        return "-"
    text = format(float(np.mean(values)), column.form)
    if limits is not None:
        text += f" [{format(limits[0], column.form)}, {format(limits[1], column.form)}]"
    return text


def bars(rows: Rows, names: Sequence[str], columns: Sequence[Column], file: Path, title: str) -> None:
    """A panel per figure: a bar per row with the interval over clips, a dot per seed, a line at the truth."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [column for column in columns if rows.has(column)]
    across = 4
    down = math.ceil(len(shown) / across)
    height = 0.22 * len(names) + 0.6
    figure = Figure(figsize=(14, down * height + 0.6), layout="constrained")
    for place, column in enumerate(shown):
        axes = figure.add_subplot(down, across, place + 1)
        for level, name in enumerate(names):
            values, limits = rows.values(name, column), rows.interval(name, column)
            if not values:
                continue
            mean = float(np.mean(values))
            error = (
                None
                if limits is None
                else [[max(values[0] - limits[0], 0.0)], [max(limits[1] - values[0], 0.0)]]
            )
            colour = "#1f5fa8" if level == 0 else "#9a9a9a"
            axes.barh(level, mean, xerr=error, color=colour, height=0.7, error_kw={"linewidth": 0.8})
            axes.plot(values, [level] * len(values), "k.", markersize=3)
        truth = rows.values("truth", column)
        if truth:
            axes.axvline(truth[0], color="#2c8a4b", linewidth=1.2)
        axes.set_title(column.head, fontsize=9)
        titles = [rows.results["titles"].get(name, name) for name in names]
        axes.set_yticks(range(len(names)), titles if place % across == 0 else [""] * len(names), fontsize=8)
        axes.tick_params(axis="x", labelsize=8)
        axes.invert_yaxis()
    figure.suptitle(title, fontsize=10)
    with atomic_path(file) as temporary:
        FigureCanvasAgg(figure).print_png(str(temporary))


def budget(results: Mapping[str, Any]) -> str:
    """The budget in words."""
    told = results["budget"]
    return (
        f"{told['steps']} steps of {told['batch']} crops of {told['crop']} frames; DDIM "
        f"{told['sampling_steps']} steps, guidance {told['guidance']:g}, {told['motions']} motions for each "
        f"of {results['clips']['spoken']} held-out clips"
    )
