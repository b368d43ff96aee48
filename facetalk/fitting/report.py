"""How well a fit explains its capture, frame by frame."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import torch

from facetalk.arrays import Float32, Float64
from facetalk.fitting.differentiable import DifferentiableField
from facetalk.fitting.frame import Frame
from facetalk.fitting.options import MM
from facetalk.metrics.lips import CLOSED_MM

# Above these, somebody should look at a frame: half of its points off by more than the noise of good scans,
# or more points than hair and clothes are that lie nowhere near.
_MEDIAN_MM, _OUTLIERS = 1.5, 0.4
_OPTIONAL = ("landmark_mm", "landmark_px", "lip_gap_mm")
_LANDMARK_MM = 6.0
_MEASURED = ("mean_mm", "median_mm", "ninetieth_mm", "outliers", "code_speed")


@dataclasses.dataclass(frozen=True)
class Report:
    """Figures of a fit; distances are of points to the fitted surface, in millimetres.

    Attributes:
        mean_mm: (T,) of the points within `outlier_mm`.
        median_mm: (T,) of all points.
        ninetieth_mm: (T,) nine tenths of the points within `outlier_mm` are nearer.
        outliers: (T,) share of the points beyond `outlier_mm`.
        code_speed: (T,) largest change of a number of the code since the frame before.
        flagged: frames that somebody should look at.
        landmark_mm: (T,) mean distance of the landmarks, empty without.
        landmark_px: (T,) the same in the pictures that they were seen in, pixels.
        lip_gap_mm: (T,) between the inner lips of the fitted face, empty where it was not measured.
    """

    mean_mm: list[float]
    median_mm: list[float]
    ninetieth_mm: list[float]
    outliers: list[float]
    code_speed: list[float]
    flagged: list[int]
    landmark_mm: list[float] = dataclasses.field(default_factory=list)
    landmark_px: list[float] = dataclasses.field(default_factory=list)
    lip_gap_mm: list[float] = dataclasses.field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Totals first, then everything a frame; what a frame has nothing to say of is None."""
        told: dict[str, Any] = {"frames": len(self.mean_mm)}
        for name in ("mean_mm", "ninetieth_mm", "outliers", "code_speed", "landmark_mm", "landmark_px"):
            if np.isfinite(row := np.array(getattr(self, name))).any():
                told[name] = round(float(np.nanmean(row)), 4)
        if self.lip_gap_mm:
            told["closed"] = self.closed
        rows = {name: getattr(self, name) for name in (*_MEASURED, *_OPTIONAL)}
        told["flagged"] = self.flagged
        told["per_frame"] = {
            name: [value if np.isfinite(value) else None for value in row]
            for name, row in rows.items()
            if np.isfinite(row).any()
        }
        return told

    @property
    def closed(self) -> int:
        """Frames in which the fitted lips are shut."""
        return sum(gap < CLOSED_MM for gap in self.lip_gap_mm)


class Measurement:
    """Takes down fitted frames, one after the other, and lets their points go.

    Args:
        field: of the identity.
        outlier_mm: see :class:`Report`.
        most: points of a frame that are looked at.

    Attributes:
        codes: (E,) float32 of each frame so far.
        poses: (4, 4) of each.
    """

    def __init__(self, field: DifferentiableField, outlier_mm: float, most: int = 5000) -> None:
        self._field, self._outlier_mm, self._most = field, outlier_mm, most
        self._generator = torch.Generator().manual_seed(1)
        self._figures: dict[str, list[float]] = {name: [] for name in _MEASURED}
        self.codes: list[Float32] = []
        self.poses: list[Float64] = []

    def __len__(self) -> int:
        """Frames so far."""
        return len(self.codes)

    def state(self) -> dict[str, np.ndarray]:
        """Everything taken down, as arrays."""
        return {
            "codes": np.stack(self.codes),
            "poses": np.stack(self.poses),
            "figures": np.array([self._figures[name] for name in sorted(self._figures)]),
            "measuring": self._generator.get_state().numpy(),
        }

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Go on from what :meth:`state` gave."""
        self.codes, self.poses = list(state["codes"]), list(state["poses"])
        for name, row in zip(sorted(self._figures), state["figures"], strict=True):
            self._figures[name] = [float(value) for value in row]
        self._generator.set_state(torch.from_numpy(state["measuring"]))

    def add(self, frame: Frame) -> None:
        """Measure a frame that is as it will stay."""
        points = frame.drawn(self._most, self._generator)
        off = torch.tensor([math.nan])
        if len(points):
            off = self._field.bound.evaluate(points, frame.code.float()[None], "sdf")[0].abs() / MM
        near = off[off <= self._outlier_mm]
        near = near if len(near) else off
        code = frame.code.numpy().astype(np.float32)
        speed = float(np.abs(code - self.codes[-1]).max()) if self.codes else 0.0
        beyond = (off > self._outlier_mm).float().mean() if len(points) else math.nan
        for name, value in (
            ("mean_mm", near.mean()), ("median_mm", off.median()), ("ninetieth_mm", near.quantile(0.9)),
            ("outliers", beyond), ("code_speed", speed),
        ):  # fmt: skip
            self._figures[name].append(round(float(value), 4))
        self.codes.append(code)
        self.poses.append(frame.pose.matrix().numpy())

    def report(self, lip_gap_mm: list[float], landmark_mm: list[float]) -> Report:
        """Of the frames so far, with what was measured of their landmarks."""
        rows = zip(self._figures["median_mm"], self._figures["outliers"], strict=True)
        flagged = {t for t, (median, out) in enumerate(rows) if median > _MEDIAN_MM or out > _OUTLIERS}
        flagged |= {t for t, off in enumerate(landmark_mm) if off > _LANDMARK_MM}
        return Report(
            **self._figures, flagged=sorted(flagged), lip_gap_mm=lip_gap_mm, landmark_mm=landmark_mm
        )
