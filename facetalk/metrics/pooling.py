"""Figures pooled over clips, with intervals from a bootstrap over clips.

Clips and not frames are drawn anew, because frames of a clip depend on each other (Efron & Tibshirani 1993).
All rows of a report use the same draws, so intervals of two rows may be compared clip by clip.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from facetalk.arrays import Float64, Int64

RESAMPLES = 1000
LEVEL = 0.95
_BLOCK = 1_000_000

Interval = tuple[float, float]


def resample(clips: int, seed: int, resamples: int = RESAMPLES) -> Int64:
    """How often each clip is in each of the bootstrap's draws: (resamples, clips)."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(clips, np.full(clips, 1.0 / clips), size=resamples)


def interval(samples: Float64) -> Interval | None:
    """The middle 95 % of (B,) values; None where half of them could not be computed."""
    good = samples[np.isfinite(samples)]
    if 2 * len(good) < max(len(samples), 2):
        return None
    tail = 50.0 * (1.0 - LEVEL)
    low, high = np.percentile(good, (tail, 100.0 - tail))
    return float(low), float(high)


class Pool:
    """The figures of one row of a report, kept clip by clip."""

    def __init__(self) -> None:
        self._means: dict[str, dict[int, tuple[float, float]]] = {}
        self._values: dict[str, dict[int, list[float]]] = {}

    def add(self, clip: int, key: str, value: float, weight: float = 1.0) -> None:
        """Add to a weighted mean; what is NaN or has no weight does not count.

        Args:
            clip: number of the clip.
            key: name of the figure.
            value: of this clip.
            weight: frames, seconds or events that it stands for.
        """
        entries = self._means.setdefault(key, {})
        if weight > 0 and np.isfinite(value):
            total, weights = entries.get(clip, (0.0, 0.0))
            entries[clip] = (total + value * weight, weights + weight)

    def extend(self, clip: int, key: str, values: Iterable[float]) -> None:
        """Add values of which the median over all clips is the figure."""
        self._values.setdefault(key, {}).setdefault(clip, []).extend(values)

    def means(self) -> dict[str, float]:
        """Every figure; NaN where nothing was counted."""
        out = {}
        for key, entries in self._means.items():
            total, weight = np.sum(list(entries.values()), axis=0) if entries else (0.0, 0.0)
            out[key] = float(total / weight) if weight else float("nan")
        for key, values in self._values.items():
            every = [value for clip in values.values() for value in clip]
            out[key] = float(np.median(every)) if every else float("nan")
        return out

    def samples(self, drawn: Int64) -> dict[str, Float64 | None]:
        """Every figure in each draw, (B,); None where one clip or none was counted.

        Args:
            drawn: of :func:`resample`, one column per clip.
        """
        out: dict[str, Float64 | None] = {}
        for key, entries in self._means.items():
            out[key] = None
            if len(entries) > 1:
                total, weight = np.array(list(entries.values())).T
                chosen = drawn[:, list(entries)]
                with np.errstate(invalid="ignore"):
                    out[key] = (chosen @ total) / (chosen @ weight)
        for key, values in self._values.items():
            counted = [clip for clip, own in values.items() if own]
            out[key] = _medians(values, drawn) if len(counted) > 1 else None
        return out

    def intervals(self, drawn: Int64) -> dict[str, Interval | None]:
        """95 % interval of every figure; None where one clip or none was counted.

        Args:
            drawn: of :func:`resample`, one column per clip.
        """
        found = self.samples(drawn)
        return {key: None if samples is None else interval(samples) for key, samples in found.items()}

    def as_dict(self) -> dict[str, Any]:
        """What was added, as JSON values that :meth:`from_dict` takes."""
        means = {
            key: [[clip, total, weight] for clip, (total, weight) in entries.items()]
            for key, entries in self._means.items()
        }
        medians = {
            key: [[clip, [float(value) for value in own]] for clip, own in values.items()]
            for key, values in self._values.items()
        }
        return {"means": means, "medians": medians}

    @classmethod
    def from_dict(cls, kept: dict[str, Any], clips: int) -> Pool:
        """The pool that :meth:`as_dict` told of.

        Args:
            kept: its JSON values.
            clips: how many there are.

        Raises:
            ValueError: they are no such values, or of a clip that there is not.
        """
        pool = cls()
        for key, entries in kept["means"].items():
            pool._means[key] = {
                _clip(clip, clips): (_finite(total), _finite(weight)) for clip, total, weight in entries
            }
            if any(weight <= 0.0 for _, weight in pool._means[key].values()):
                raise ValueError(f"{key} has a clip without weight")
        for key, values in kept["medians"].items():
            pool._values[key] = {
                _clip(clip, clips): [_finite(value) for value in own] for clip, own in values
            }
        return pool


def _clip(value: Any, clips: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < clips:
        raise ValueError(f"there is no clip {value!r}")
    return value


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise ValueError(f"{value!r} is no number")
    return float(value)


def _medians(values: dict[int, list[float]], drawn: Int64) -> Float64:
    """(B,) medians, each value counted as often as its clip was drawn."""
    every = np.array([value for own in values.values() for value in own])
    owners = np.array([clip for clip, own in values.items() for _ in own])
    order = np.argsort(every, kind="stable")
    every, owners = every[order], owners[order]
    out = np.full(len(drawn), np.nan)
    rows = max(1, _BLOCK // len(every))
    for start in range(0, len(drawn), rows):
        upto = np.cumsum(drawn[start : start + rows][:, owners], axis=1)
        count = upto[:, -1:]
        # Of n values in order, the median is the mean of those before which (n - 1) // 2 and n // 2 lie.
        some = count[:, 0] > 0
        places = [(upto[some] <= half[some]).sum(1) for half in ((count - 1) // 2, count // 2)]
        out[start : start + rows][some] = (every[places[0]] + every[places[1]]) / 2
    return out
