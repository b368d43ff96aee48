"""What one report says more or less than another of the same clips, with intervals of paired draws.

Two systems that spoke the same sentences share what is hard about them, so their difference is known better
than either figure: both are pooled over the same draws of clips (Efron & Tibshirani 1993), and the
interval is that of the differences.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any, NamedTuple

from facetalk.errors import InputError
from facetalk.metrics.pooling import Interval, Pool, interval, resample
from facetalk.metrics.report import SECTIONS
from facetalk.reading import read_json, usable

__all__ = ["Compared", "Difference", "Judged", "difference"]

_TOLD = ("report", "model", "encoder", "motions", "steps", "guidance", "look_ahead", "seeds", "clips")
_APART_S = 0.1
"""Seconds by which rounding to frames, and cutting motions to recordings, may change a clip."""
_NAME, _CELL = 28, 11
_NOTE = (
    "[ ]: 95 % of a bootstrap over clips, both drawn alike; *: 0 lies outside, as it does for one of twenty\n"
    "figures without a difference. Distances of distributions, SLCC and what one report lacks are left out"
)


@dataclasses.dataclass(frozen=True)
class Judged:
    """A report of ``facetalk evaluate --json``, clip by clip.

    Attributes:
        name: what to call it.
        settings: of the report.
        clips: names of the clips.
        pool: the model's figures.
    """

    name: str
    settings: dict[str, Any]
    clips: tuple[str, ...]
    pool: Pool

    @classmethod
    def read(cls, path: Path) -> Judged:
        """Read a report.

        Raises:
            InputError: there is none, or none that says its figures clip by clip.
        """
        content = read_json(path)
        with usable(path, "give reports of facetalk evaluate --json"):
            kept = content.get("clip_by_clip")
            if not kept:
                raise InputError(
                    f"{path} has no figures clip by clip; write it anew with facetalk evaluate --json"
                )
            clips, settings = tuple(map(str, kept["names"])), dict(content["settings"])
            if not clips:
                raise ValueError("no clips")
            return cls(str(path), settings, clips, Pool.from_dict(kept, len(clips)))


class Difference(NamedTuple):
    """A figure of two reports.

    Attributes:
        a: of the first.
        b: of the second.
        difference: a - b; NaN where one of them was not counted.
        interval: 95 % of it over clips; None of a single clip.
    """

    a: float
    b: float
    difference: float
    interval: Interval | None


@dataclasses.dataclass(frozen=True)
class Compared:
    """Differences between two reports.

    Attributes:
        a: name and settings of the first.
        b: of the second.
        figures: figure -> difference, of those that both have.
    """

    a: dict[str, Any]
    b: dict[str, Any]
    figures: dict[str, Difference]

    def as_dict(self) -> dict[str, Any]:
        """As JSON values; null stands for what was not counted."""
        figures = {
            key: {
                **{name: _number(value) for name, value in found._asdict().items() if name != "interval"},
                "interval": None if found.interval is None else list(found.interval),
            }
            for key, found in self.figures.items()
        }
        return {"a": self.a, "b": self.b, "figures": figures}

    def table(self) -> str:
        """As text."""
        lines = []
        for section in SECTIONS:
            columns = [column for column in section.columns if column.key in self.figures]
            if not columns:
                continue
            heads = "".join(f"{head:>{_CELL}}" for head in ("A", "B", "A - B", "[", "]"))
            lines += [section.title, f"{'':<{_NAME}}{heads}"]
            for column in columns:
                found = self.figures[column.key]
                form = column.form.removeprefix("+")
                limits = (math.nan, math.nan) if found.interval is None else found.interval
                cells = [(found.a, column.form), (found.b, column.form)]
                cells += [(value, f"+{form}") for value in (found.difference, *limits)]
                mark = "" if found.interval is None or limits[0] <= 0.0 <= limits[1] else " *"
                lines.append(f"{column.key:<{_NAME}}{''.join(_cell(*cell) for cell in cells)}{mark}")
            lines.append("")
        told = [
            f"{letter}: {', '.join(f'{key} {side[key]}' for key in _TOLD if side.get(key) is not None)}"
            for letter, side in (("A", self.a), ("B", self.b))
        ]
        return "\n".join([*lines, _NOTE, *told])


def difference(a: Judged, b: Judged, *, seed: int = 0) -> Compared:
    """A minus B, figure by figure.

    Args:
        a: a report.
        b: another one of the same clips.
        seed: of the bootstrap.

    Raises:
        InputError: they are not of the same clips in the same order, with the same padding and by the same
            draws of the truth.
    """
    if a.clips != b.clips:
        other = sorted(set(a.clips) ^ set(b.clips))
        what = f"{other[0]} is in one of them alone" if other else "they are in another order or number"
        raise InputError(
            f"{a.name} and {b.name} are not of the same clips ({len(a.clips)} and {len(b.clips)}): {what}"
        )
    _check_alike(a, b)
    drawn = resample(len(a.clips), seed)
    values, samples = (a.pool.means(), b.pool.means()), (a.pool.samples(drawn), b.pool.samples(drawn))
    figures = {}
    for key in (key for key in values[0] if key in values[1]):
        drawn_a, drawn_b = samples[0][key], samples[1][key]
        limits = None if drawn_a is None or drawn_b is None else interval(drawn_a - drawn_b)
        figures[key] = Difference(values[0][key], values[1][key], values[0][key] - values[1][key], limits)
    return Compared({"report": a.name, **a.settings}, {"report": b.name, **b.settings}, figures)


def _check_alike(a: Judged, b: Judged) -> None:
    """Refuse reports of clips of the same names whose figures differ for want of one measure.

    Raises:
        InputError: as :func:`difference`.
    """
    for option, what in (("pad", "silence around its clips"), ("seed", "draws of the truth")):
        values = [judged.settings.get(option) for judged in (a, b)]
        if values[0] != values[1]:
            raise InputError(
                f"{a.name} has other {what} (--{option} {values[0]}) than {b.name} ({values[1]}); give both "
                f"the same --{option}"
            )
    seconds = [judged.settings.get("seconds") for judged in (a, b)]
    first, second = (value if isinstance(value, int | float) else 0.0 for value in seconds)
    if first and second and abs(first - second) > _APART_S * len(a.clips):
        raise InputError(
            f"{a.name} is of {first:g} s of speech and {b.name} of {second:g} s: their clips have the same "
            "names, but are other recordings"
        )


def _cell(value: float, form: str) -> str:
    return f"{'-' if math.isnan(value) else format(value, form):>{_CELL}}"


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
