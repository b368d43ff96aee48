"""The rows of an evaluation: what is gathered of each, clip by clip, and pooled at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from facetalk.arrays import Float64, Int64
from facetalk.metrics.clip_distances import TruthFeatures
from facetalk.metrics.dynamics import PER_BLINK
from facetalk.metrics.intensity import resampled_correlation, speech_lip_correlation
from facetalk.metrics.lips import COUNTS, MEDIANS, LipFigures
from facetalk.metrics.pooling import Interval, Pool, interval, resample

Figures = dict[str, float]
Intervals = dict[str, Interval | None]
Features = Mapping[str, Float64]
"""Region -> (n, F) features of a clip's windows."""

_PER_CLIP = ("opening_r", "mtm_ms", "lag_ms", "fdd_mm2")
"""Figures of a comparison that are means over clips, as published; the others are means over frames."""


class Row:
    """What is gathered of one row."""

    def __init__(self) -> None:
        self.pool = Pool()
        self.counts: Counter[str] = Counter({name: 0 for name in COUNTS})
        self.features: dict[int, Features] = {}
        self.intensity: dict[int, float] = {}

    def add_lips(self, clip: int, figures: LipFigures, *, count: bool) -> None:
        """Lips against phones; ``count`` where the phones have not been counted yet for this clip."""
        if count:
            self.counts.update({name: len(getattr(figures, field)) for name, field in COUNTS.items()})
        for name, field in MEDIANS.items():
            self.pool.extend(clip, name, getattr(figures, field))
        for name, values in {**figures.shares(), "agreement": figures.agreement}.items():
            self.pool.add(clip, name, float(np.mean(values)) if values else np.nan, len(values))

    def add_comparison(self, clip: int, figures: Figures, frames: int) -> None:
        """Distances from the reference (:func:`facetalk.metrics.compare`)."""
        for name, value in figures.items():
            if name != "fdd":  # the same in square metres
                self.pool.add(clip, name, value, 1.0 if name in _PER_CLIP else frames)

    def add_dynamics(self, clip: int, figures: Figures, seconds: float) -> None:
        """Figures of life (:func:`facetalk.metrics.dynamics`)."""
        blinks = figures["blinks"]
        for name, value in figures.items():
            if name != "blinks":
                self.pool.add(clip, name, value, blinks if name in PER_BLINK else seconds)

    def add_diversity(self, clip: int, figures: Figures, frames: int) -> None:
        """Differences between variants (:func:`facetalk.metrics.diversity`)."""
        for name, value in figures.items():
            self.pool.add(clip, f"diversity_{name}", value, frames)

    def add_scores(self, clip: int, scorer: str, figures: Mapping[str, float]) -> None:
        """Figures of an optional scorer."""
        for name, value in figures.items():
            self.pool.add(clip, f"{scorer}_{name}", float(value))


class Rows:
    """All rows of an evaluation, and what belongs to the clips themselves."""

    def __init__(self, names: Sequence[str]) -> None:
        self._rows = {name: Row() for name in names}
        self._voices: dict[str, Row] = {}
        self._speakers: list[str] = []
        self._loudness: list[float] = []
        self._truth: list[Features] = []

    @property
    def clips(self) -> int:
        """Clips so far."""
        return len(self._speakers)

    def begin(self, speaker: str, loudness: float) -> int:
        """Begin a clip and return its number.

        Args:
            speaker: who speaks.
            loudness: :func:`facetalk.metrics.intensity.speech_intensity` of the recording.
        """
        self._speakers.append(speaker)
        self._loudness.append(loudness)
        return self.clips - 1

    def __getitem__(self, name: str) -> Row:
        """The row of that name."""
        return self._rows[name]

    def voice(self, speaker: str) -> Row:
        """The row of the model's lips for one speaker."""
        return self._voices.setdefault(speaker, Row())

    def add_truth(self, features: Features) -> None:
        """Features of draws of the truth, once per clip."""
        self._truth.append(features)

    def summary(
        self, seed: int, scale: Mapping[str, float]
    ) -> tuple[dict[str, Figures], dict[str, Intervals]]:
        """Pooled figures and their 95 % intervals, row by row; rows that got no clip are left out.

        Args:
            seed: of the bootstrap.
            scale: region -> the length that a kernel distance takes for 1, mm.
        """
        drawn = resample(self.clips, seed)
        figures: dict[str, Figures] = {}
        limits: dict[str, Intervals] = {}
        truth = {
            region: TruthFeatures([clip[region] for clip in self._truth], drawn, scale[region])
            for region in scale
        }
        for name, row in self._rows.items():
            if not row.pool.means():
                continue
            figures[name] = {**row.counts, **row.pool.means()}
            limits[name] = row.pool.intervals(drawn)
            for region, reference in truth.items():
                width = self._truth[0][region].shape[1]
                none = np.zeros((0, width))
                clips = [row.features[i][region] if i in row.features else none for i in range(self.clips)]
                for kind, measured in (
                    (f"frechet_{region}_mm2", reference.frechet),
                    (f"kernel_{region}", reference.kernel),
                ):
                    figures[name][kind], limits[name][kind] = measured(clips)
            self._add_correlation(row, drawn, figures[name], limits[name])
        return figures, limits

    def voice_summary(self, seed: int) -> tuple[dict[str, Figures], dict[str, Intervals]]:
        """The model's lips, speaker by speaker."""
        drawn = resample(self.clips, seed)
        figures = {name: {**row.counts, **row.pool.means()} for name, row in self._voices.items()}
        return figures, {name: row.pool.intervals(drawn) for name, row in self._voices.items()}

    def _add_correlation(self, row: Row, drawn: Int64, figures: Figures, limits: Intervals) -> None:
        """SLCC, and its difference from that of the truth's row."""
        truth = self._rows["truth"].intensity
        clips = [i for i in range(self.clips) if i in row.intensity and i in truth]
        speakers = [self._speakers[i] for i in clips]
        loudness = [self._loudness[i] for i in clips]
        values, samples = [], []
        for intensity in (row.intensity, truth):
            lips = [intensity[i] for i in clips]
            values.append(speech_lip_correlation(loudness, lips, speakers))
            samples.append(resampled_correlation(loudness, lips, speakers, drawn[:, clips]))
        figures["slcc"], limits["slcc"] = values[0], interval(samples[0])
        figures["slcc_difference"] = values[0] - values[1]
        limits["slcc_difference"] = interval(samples[0] - samples[1])
