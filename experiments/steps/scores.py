"""Figures of each row, clip by clip, and their ratios to the reference with intervals over clips."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.steps.rows import Clip, Motions, Row
from facetalk.metrics import compare, diversity, dynamics, frechet_distance, kernel_distance
from facetalk.metrics.dynamics import PER_BLINK
from facetalk.metrics.lips import measure
from facetalk.metrics.motion_features import FEATURE_REGIONS, WindowBasis, motion_windows
from facetalk.metrics.pooling import interval, resample
from facetalk.metrics.reference import reading
from facetalk.motion import Motion
from facetalk.multi_pie import MOUTH, UPPER_FACE
from facetalk.pipeline import FaceTalk

LIFE = (
    "blinks_per_minute", "blink_depth", "blink_duration_ms", "brow_sd", "gaze_sd",
    "mouth_speed", "mouth_acceleration", "mouth_jerk", "upper_speed", "upper_acceleration", "upper_jerk",
    "mouth_spread_mm", "brows_spread_mm", "lids_spread_mm",
    "mouth_fast_mm2", "brows_fast_mm2", "lids_fast_mm2",
)  # fmt: skip
DIVERSITY = tuple(
    f"diversity_{name}" for name in ("mouth_mm", "upper_mm", "brows_mm", "lids_mm", "opening_mm")
)
LIPS = ("closed", "touching")
"""Figures that a sampler of few steps should leave as they are: their ratio to the reference should be 1."""
RATIOS = (*LIFE, *DIVERSITY, *LIPS)
DISTANCES = ("lve_mm", "mve_mm", "opening_mm", "opening_r")
"""Distances to the reference motion of the same noise."""

Entry = dict[str, tuple[float, float]]
"""Figure -> (sum, weight) of one clip."""


class Scorer:
    """Computes figures of motions on the landmarks of the model's head."""

    def __init__(self, model: FaceTalk) -> None:
        self.model, self.fps = model, model.config.fps
        self.names = model.motion_model.expression_names
        # Landmarks are linear in the weights, so those of each weight alone say all.
        self.rest = self._landmarks(np.zeros((1, len(self.names)), np.float32))[0]
        self._moves = self._landmarks(np.eye(len(self.names), dtype=np.float32)) - self.rest
        self._reference: dict[str, list[NDArray[np.float32]]] = {}
        self._readings: dict[str, NDArray[np.float32]] = {}

    def _landmarks(self, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        return self.model.landmarks(Motion(weights, self.fps))

    def _points(self, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """(T, E) weights -> (T, 68, 3) metres."""
        return np.asarray(np.tensordot(weights, self._moves, axes=1) + self.rest, np.float32)

    def _read(self, clip: Clip, frames: int) -> NDArray[np.float32]:
        """(T, 68, 3) metres of a face that says the phones as the table has it."""
        if clip.name not in self._readings:
            said = reading(clip.phones, frames, self.fps, clip.alphabet, 0)
            self._readings[clip.name] = self._points(said)
        return self._readings[clip.name]

    def clip(
        self, clip: Clip, weights: NDArray[np.float32], reference: NDArray[np.float32], cpu_s: float
    ) -> tuple[Entry, list[NDArray[np.float32]]]:
        """Figures of a clip, (sum, weight) over its seeds, and the landmarks of each seed.

        Args:
            clip: the recording.
            weights: (S, T, E).
            reference: (R, T, E) with R >= S, the same noises sampled in many steps.
            cpu_s: time of sampling one of them.
        """
        seeds, frames, _ = weights.shape
        minutes = frames / self.fps / 60.0
        points = [self._points(part) for part in weights]
        entry: Entry = {"cpu_ms_per_s": (1000.0 * cpu_s, 60.0 * minutes)}

        def add(name: str, value: float, weight: float) -> None:
            if np.isfinite(value) and weight > 0:
                total, before = entry.get(name, (0.0, 0.0))
                entry[name] = (total + value * weight, before + weight)

        if clip.name not in self._reference:
            self._reference[clip.name] = [self._points(part) for part in reference]
        for part, moved, same in zip(weights, points, self._reference[clip.name], strict=False):
            life = dynamics(part, self.names, moved, self.fps)
            for name in LIFE:
                add(name, life[name], life["blinks"] if name in PER_BLINK else minutes)
            apart = compare(moved, same, lips=MOUTH, upper=UPPER_FACE, neutral=self.rest, fps=self.fps)
            for name in DISTANCES:
                add(name, apart[name], minutes)
            if clip.phones:
                lips = measure(
                    moved, self.rest, clip.phones, fps=self.fps, alphabet=clip.alphabet,
                    reading=self._read(clip, frames),
                )  # fmt: skip
                for name, cases in lips.shares().items():
                    if name in LIPS and cases:
                        add(name, float(np.mean(cases)), len(cases))
        if seeds > 1:
            for name, value in diversity(points).items():
                add(f"diversity_{name}", value, minutes)
        return entry, points


@dataclasses.dataclass
class Scores:
    """Figures of a row.

    Attributes:
        entries: per clip name.
        windows: per region, per half of the seeds, (N, F) windows for the distances of distributions.
    """

    entries: dict[str, Entry]
    windows: dict[str, list[NDArray[np.float64]]]


def score(scorer: Scorer, motions: Motions, row: Row, reference: Row, clips: Sequence[Clip]) -> Scores:
    """Figures of all clips of a row."""
    scores = Scores({}, {region: [] for region in FEATURE_REGIONS})
    halves: dict[str, tuple[list[Any], list[Any]]] = {region: ([], []) for region in FEATURE_REGIONS}
    for clip in clips[: row.clips]:
        weights, cpu_s = motions.load(row, clip)
        entry, points = scorer.clip(clip, weights, motions.load(reference, clip)[0], cpu_s)
        scores.entries[clip.name] = entry
        for seed, moved in enumerate(points):
            for region, indices in FEATURE_REGIONS.items():
                halves[region][seed % 2].append(motion_windows(moved, scorer.rest, indices, scorer.fps))
    for region, parts in halves.items():
        scores.windows[region] = [np.concatenate(part) for part in parts if part]
    return scores


def summary(row: Row, own: Scores, reference: Scores, bases: dict[str, WindowBasis]) -> dict[str, Any]:
    """What the report says of a row: figures, ratios to the reference with 95 % intervals, distances."""
    names = list(own.entries)
    drawn = resample(len(names), 0)
    out: dict[str, Any] = {
        "row": row.name, "sampler": row.sampler, "steps": row.steps, "passes": row.passes,
        "clips": len(names),
        "figures": {}, "ratios": {},
    }  # fmt: skip
    for figure in ("cpu_ms_per_s", *DISTANCES, *RATIOS):
        mine = np.array([own.entries[name].get(figure, (0.0, 0.0)) for name in names])
        if not mine[:, 1].sum():
            continue
        out["figures"][figure] = float(mine[:, 0].sum() / mine[:, 1].sum())
        if figure not in RATIOS or row.seeds is not None:
            continue  # One seed beside several of the reference would compare chance.
        theirs = np.array([reference.entries[name].get(figure, (0.0, 0.0)) for name in names])
        if not theirs[:, 0].sum():
            continue

        def ratio(counts: NDArray[Any], mine: Any = mine, theirs: Any = theirs) -> NDArray[np.float64]:
            with np.errstate(invalid="ignore", divide="ignore"):
                a, b = counts @ mine, counts @ theirs
                return np.asarray((a[..., 0] / a[..., 1]) / (b[..., 0] / b[..., 1]))

        found = interval(ratio(drawn))
        out["ratios"][figure] = {"ratio": float(ratio(np.ones(len(names)))), "interval": found}
    if row.seeds is None and row.clips is None:
        for region, basis in bases.items():
            # Odd seeds beside even ones of the reference: chance is the same for all rows, the reference too.
            there, here = (
                basis.transform(part) for part in (reference.windows[region][0], own.windows[region][1])
            )
            out["figures"][f"frechet_{region}"] = frechet_distance(here, there)
            out["figures"][f"kernel_{region}"] = kernel_distance(here / basis.scale, there / basis.scale)
    return out
