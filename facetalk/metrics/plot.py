"""A picture of a report: every row with its interval, figure by figure, and a few seconds of curves."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facetalk.errors import InputError
from facetalk.files import atomic_path
from facetalk.metrics.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANELS = (
    ("closed", "p b m shut", False),
    ("shut_elsewhere", "shut where no p b m is", False),
    ("touching", "f v touch the teeth", False),
    ("open_gap_mm", "open vowels, mm", False),
    ("lve_mm", "LVE, mm", False),
    ("mtm_ms", "MTM, ms", False),
    ("lag_ms", "lag, ms", False),
    ("blinks_per_minute", "blinks a minute", False),
    ("upper_speed", "upper face, mm/s", False),
    ("mouth_jerk", "mouth jerk, mm/s³", True),
    ("diversity_mouth_mm", "seeds: mouth, mm", False),
    ("diversity_lids_mm", "seeds: lids, mm", False),
    ("frechet_mouth_mm2", "FD mouth, mm²", True),
    ("frechet_upper_mm2", "FD upper face, mm²", True),
    ("kernel_mouth", "KD mouth", True),
    ("kernel_upper", "KD upper face", True),
)
"""Key of a figure, what stands above it, and whether its rows differ by powers of ten."""
_COLUMNS = 4
_MODEL, _TRUTH, _CONTROL = "#1f5fa8", "#2c8a4b", "#9a9a9a"
_SYMMETRIC = 0.01
"""Where the logarithmic scale becomes a straight one, so that 0 and a little below it can be shown."""


def require_matplotlib() -> None:
    """Fail early where plots cannot be drawn.

    Raises:
        InputError: Matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise InputError("plots need Matplotlib: pip install 'facetalk[plot]'") from error


def plot(report: Report, path: Path, *, fps: float) -> None:
    """Draw a report as PNG.

    Args:
        report: what to draw.
        path: file to write.
        fps: frames per second of the report's example.

    Raises:
        InputError: Matplotlib is not installed, or the file cannot be written.
    """
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = math.ceil(len(PANELS) / _COLUMNS)
    figure = Figure(figsize=(15, 2.6 * rows + 4), layout="constrained")
    grid = figure.add_gridspec(rows + 2, _COLUMNS)
    for index, (key, title, wide) in enumerate(PANELS):
        axes = figure.add_subplot(grid[index // _COLUMNS, index % _COLUMNS])
        _bars(axes, report, key, title, wide=wide, named=index % _COLUMNS == 0)
    for line, (suffix, label) in enumerate((("", "lip gap, mm"), (" lids", "lids, 1 = shut"))):
        axes = figure.add_subplot(grid[rows + line, :])
        for name, colour in (("truth", _TRUTH), ("model", _MODEL)):
            curve = report.example.get(name + suffix, [])
            axes.plot([(i + 0.5) / fps for i in range(len(curve))], curve, color=colour, label=name)
        axes.set_ylabel(label)
        axes.margins(x=0)
        axes.legend(loc="upper right", frameon=False)
    axes.set_xlabel("first clip, seconds")
    figure.suptitle(f"facetalk evaluate: {report.told()}; bars: 95 % of a bootstrap over clips", fontsize=10)
    with atomic_path(path) as temporary:
        FigureCanvasAgg(figure).print_png(str(temporary))


def _bars(axes: Axes, report: Report, key: str, title: str, *, wide: bool, named: bool) -> None:
    """One figure of all rows, from top to bottom, with its intervals."""
    names = list(report.rows)
    for place, name in enumerate(names):
        value = report.rows[name].get(key, math.nan)
        if math.isnan(value):
            continue
        limits = report.intervals.get(name, {}).get(key)
        colour = {"model": _MODEL, "truth": _TRUTH}.get(name, _CONTROL)
        options: dict[str, Any] = {}
        if limits is not None:
            options["xerr"] = [[max(value - limits[0], 0.0)], [max(limits[1] - value, 0.0)]]
        axes.barh(place, value, color=colour, height=0.7, error_kw={"linewidth": 0.8}, **options)
    if wide:
        axes.set_xscale("symlog", linthresh=_SYMMETRIC)
    axes.set_title(title, fontsize=10)
    axes.set_yticks(range(len(names)), names if named else [""] * len(names), fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.invert_yaxis()
