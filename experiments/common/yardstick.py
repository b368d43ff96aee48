"""Held-out clips and the figures of motions for them, by the functions of ``facetalk.metrics``.

Two sets: clips with phones, of voices that no trial is trained on (the corpus's split "valid"), for all
figures; and recordings of another voice without phones, for the figures of life and diversity.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetalk.audio import AudioEncoder, load_audio
from facetalk.data.expressions import EXPRESSION_NAMES
from facetalk.data.phones import Phone
from facetalk.data.speech.corpus import read_manifest
from facetalk.errors import InputError
from facetalk.mesh import RiggedSequence
from facetalk.metrics import compare, diversity, dynamics, measure
from facetalk.metrics.evaluate import Scorer
from facetalk.metrics.intensity import lip_intensity, speech_intensity
from facetalk.metrics.motion_features import FEATURE_REGIONS, WindowBasis, motion_windows
from facetalk.metrics.reference import draw, reading
from facetalk.metrics.rows import Rows
from facetalk.motion import Motion
from facetalk.multi_pie import MOUTH, UPPER_FACE
from facetalk.pipeline import FaceTalk
from facetalk.units import HEAD_UNIT_METRES

Weights = NDArray[np.float32]
SHORTEST_S = 2.0
STILL_WEIGHT = 0.5
"""Where the facial smoothing weighs less than this (back of the head, neck, shoulders), the head is meant to
stand still; the built-in model's smoothing is wide, its smallest weight 0.2."""
# Seeds of draws lie apart from each other.
_READING, _TRUTH, _DRAWS, _BANK = 10**6, 2 * 10**6, 3 * 10**6, 4 * 10**6
_SEED_STEP = 1000


@dataclasses.dataclass(frozen=True)
class Clip:
    """A recording.

    Attributes:
        audio: the file.
        voice: who speaks.
        phones: (symbol, start_s, end_s), or None where they are not known.
        alphabet: of the phones.
        features: (T, A) of the audio encoder.
    """

    audio: Path
    voice: str
    phones: tuple[Phone, ...] | None
    alphabet: str
    features: Weights


class _Unsmoothed(FaceTalk):
    """Landmarks without facial smoothing; meshes have an option for it."""

    facial_smoothing = None  # type: ignore[assignment]


class Face:
    """Landmarks and mesh of weights on the built-in head; both are linear in the weights."""

    def __init__(self, smoothing: bool = True) -> None:
        kind = FaceTalk if smoothing else _Unsmoothed
        self._model = kind.from_pretrained("default", "cpu")
        self._smoothing, self.fps = smoothing, self._model.config.fps
        count = len(EXPRESSION_NAMES)
        posed = self._model.landmarks(Motion(np.eye(count + 1, count, -1, dtype=np.float32), self.fps))
        self.rest: Weights = posed[0]
        self._basis = posed[1:] - posed[0]

    def landmarks(self, weights: Weights) -> Weights:
        """(T, 53) weights -> (T, 68, 3) metres."""
        return np.asarray(np.tensordot(weights, self._basis, axes=1) + self.rest, np.float32)

    @cached_property
    def _still(self) -> NDArray[np.float64]:
        """(53, 53) m²: mean over the vertices that should stand still of the products of displacements."""
        count = len(EXPRESSION_NAMES)
        rig = self._model.decode(Motion(np.zeros((1, count), np.float32), self.fps), smooth=self._smoothing)
        assert isinstance(rig, RiggedSequence)
        weigh = FaceTalk(self._model.config, self._model.device).facial_smoothing
        weight = weigh.weight(rig.base.vertices / HEAD_UNIT_METRES)
        still = rig.basis[:count, weight < STILL_WEIGHT].astype(np.float64)  # the tongue is no expression
        return np.asarray(np.tensordot(still, still, axes=((1, 2), (1, 2))) / still.shape[1])

    def still_spread_mm(self, weights: Weights) -> float:
        """Root mean square over those vertices of their spread over time, mm."""
        variance = (np.cov(weights.astype(np.float64), rowvar=False) * self._still).sum()
        return float(np.sqrt(max(variance, 0.0)) * 1000.0)


def spoken_clips(corpus: Path, encoder: AudioEncoder, most: int) -> list[Clip]:
    """Clips of the corpus's split "valid", evenly spread.

    Raises:
        InputError: there are none of at least 2 s.
    """
    found = [u for u in read_manifest(corpus, split="valid") if u.seconds >= SHORTEST_S]
    if not found:
        raise InputError(f"{corpus} has no held-out utterances (split valid) of {SHORTEST_S:g} s or more")
    return [
        Clip(u.audio, u.voice, tuple(u.phones), u.alphabet, _features(encoder, u.audio))
        for u in _spread(found, most)
    ]


def unspoken_clips(folder: Path, encoder: AudioEncoder, most: int) -> list[Clip]:
    """Recordings of a folder, evenly spread, of whose words nothing is known.

    Raises:
        InputError: there are none.
    """
    files = sorted(path for path in folder.iterdir() if path.suffix in (".flac", ".wav"))
    if not files:
        raise InputError(f"{folder} has no .flac or .wav files")
    return [Clip(file, folder.name, None, "", _features(encoder, file)) for file in _spread(files, most)]


class Yardstick:
    """Measures the motions of a trial, or of a row whose quality is known, for the same clips."""

    def __init__(
        self, clips: Sequence[Clip], *, seed: int = 0, scorers: Mapping[str, Scorer] | None = None
    ) -> None:
        self.clips, self.seed, self.scorers = list(clips), seed, dict(scorers or {})
        self.face = Face()
        self.plain = Face(smoothing=False)
        self.fps = self.face.fps
        self.loudness = [speech_intensity(load_audio(clip.audio)) for clip in clips]
        self.spoken = all(clip.phones is not None for clip in clips)
        if self.spoken:
            told = [(c.phones or (), len(c.features), self.fps, c.alphabet) for c in clips]
            read = (reading(*one, seed + _READING + i) for i, one in enumerate(told))
            self._reading = [self.face.landmarks(weights) for weights in read]
            bank = [self.face.landmarks(w) for w in self._drawn(_BANK, 0)]
            self._bases = {
                region: WindowBasis.fit(np.concatenate([self._windows(self.face, p, region) for p in bank]))
                for region in FEATURE_REGIONS
            }
            draws = [self._drawn(_DRAWS, k) for k in range(2)]
            self._truth = [
                self._features(self.face, [self.face.landmarks(w) for w in own])
                for own in zip(*draws, strict=True)
            ]
            self._truth_intensity = [lip_intensity(self.face.landmarks(w)) for w in self._drawn(_TRUTH, 0)]

    def truth(self, seeds: int) -> list[list[Weights]]:
        """Other draws of what the corpus's faces are drawn from, clip by clip."""
        return [list(own) for own in zip(*(self._drawn(_TRUTH, k) for k in range(seeds)), strict=True)]

    def measure(
        self, motions: Sequence[Sequence[Weights]], *, smoothing: bool = True
    ) -> dict[str, dict[str, Any]]:
        """Figures of a row.

        Args:
            motions: clip by clip, for each seed (T, 53) weights.
            smoothing: whether the row's own face is decoded with facial smoothing; the references are always.

        Returns:
            figures: name -> value, pooled over clips and seeds.
            intervals: name -> 95 % interval of a bootstrap over clips, or None.
        """
        face = self.face if smoothing else self.plain
        rows = Rows(("row", "truth"))
        row = rows["row"]
        for index, (clip, own) in enumerate(zip(self.clips, motions, strict=True)):
            rows.begin(clip.voice, self.loudness[index])
            points = [face.landmarks(weights) for weights in own]
            frames = len(points[0])
            for weights, seen in zip(own, points, strict=True):
                life = dynamics(weights, EXPRESSION_NAMES, seen, self.fps)
                row.add_dynamics(index, life, frames / self.fps)
                if clip.phones is not None:
                    self._compare(rows, index, clip, face, seen)
                spread = face.still_spread_mm(weights)
                row.pool.add(index, "still_spread_mm", spread, frames)
            if len(points) > 1:
                row.add_diversity(index, diversity(points), frames)
            row.intensity[index] = lip_intensity(points[0])
            if self.spoken:
                row.features[index] = self._features(face, points[:1])
                rows["truth"].intensity[index] = self._truth_intensity[index]
                rows.add_truth(self._truth[index])
            for name, scorer in self.scorers.items():
                with contextlib.suppress(InputError):
                    row.add_scores(index, name, scorer.score(clip.audio, points[0], self.fps))
        scale = {region: basis.scale for region, basis in self._bases.items()} if self.spoken else {}
        figures, limits = rows.summary(self.seed, scale)
        return {"figures": figures["row"], "intervals": limits["row"]}

    def _compare(self, rows: Rows, index: int, clip: Clip, face: Face, seen: Weights) -> None:
        row, truth = rows["row"], self._reading[index]
        lips = measure(
            seen, face.rest, clip.phones or (), fps=self.fps, alphabet=clip.alphabet, reading=truth
        )
        row.add_lips(index, lips, count=False)
        away = compare(seen, truth, lips=MOUTH, upper=UPPER_FACE, neutral=self.face.rest, fps=self.fps)
        row.add_comparison(index, away, len(seen))

    def _drawn(self, kind: int, variant: int) -> list[Weights]:
        first = self.seed + kind + _SEED_STEP * variant
        return [
            draw(c.phones or (), len(c.features), self.fps, c.alphabet, first + i)
            for i, c in enumerate(self.clips)
        ]

    def _windows(self, face: Face, points: Weights, region: str) -> NDArray[np.float64]:
        return motion_windows(points, face.rest, FEATURE_REGIONS[region], self.fps)

    def _features(self, face: Face, variants: Sequence[Weights]) -> dict[str, NDArray[np.float64]]:
        return {
            region: basis.transform(np.concatenate([self._windows(face, p, region) for p in variants]))
            for region, basis in self._bases.items()
        }


def _features(encoder: AudioEncoder, audio: Path) -> Weights:
    heard = encoder.features(load_audio(audio), fps=FaceTalk.from_pretrained("default", "cpu").config.fps)
    return heard.float().cpu().numpy()


def _spread(items: list[Any], most: int) -> list[Any]:
    chosen = np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int)
    return [items[i] for i in chosen]
