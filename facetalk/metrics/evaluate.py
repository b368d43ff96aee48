"""Measure motions for the recordings of a manifest, generated or given, beside rows whose quality is known.

Clips are taken one after the other; of each only its figures stay, so memory does not grow with the sound.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from tqdm import tqdm

from facetalk.arrays import Float32, Float64
from facetalk.audio.load import load_audio
from facetalk.audio.padding import Padded, padding
from facetalk.data.expressions import EXPRESSION_NAMES
from facetalk.data.phones import Phone
from facetalk.errors import InputError
from facetalk.metrics import controls
from facetalk.metrics.compare import compare
from facetalk.metrics.diversity import diversity
from facetalk.metrics.dynamics import MIN_FRAMES, dynamics, lid_closure
from facetalk.metrics.given import GivenMotions
from facetalk.metrics.intensity import lip_intensity, speech_intensity
from facetalk.metrics.lips import lip_gap, measure
from facetalk.metrics.manifest import Spoken, read, with_phones
from facetalk.metrics.motion_features import FEATURE_REGIONS, WindowBasis, motion_windows
from facetalk.metrics.reference import Neighbours, draw, reading
from facetalk.metrics.report import Report
from facetalk.metrics.rows import Figures, Intervals, Rows
from facetalk.motion import Motion
from facetalk.multi_pie import MOUTH, UPPER_FACE
from facetalk.units import SAMPLE_RATE

ROWS = ("model", "truth", "nearest", *controls.NAMES)
BANK_CLIPS = 32
"""Clips, spread over the manifest, whose draws make the nearest neighbours and the basis of the features."""
TRUTH_DRAWS = 2
"""Draws per clip that stand for the truth in the distances of distributions."""
MAX_WINDOWS = 2000
"""Windows of a row that are kept for the distances of distributions: the kernel takes the square of it."""
# Seeds of draws lie apart from each other and from those of the model's noise (seed + 1000 k + clip).
_READING, _TRUTH, _DRAWS, _BANK = 10**6, 2 * 10**6, 3 * 10**6, 4 * 10**6
_VARIANT = 1000

Sound = Path | tuple[Float32, int]


class Pipeline(Protocol):
    """What of :class:`facetalk.FaceTalk` is needed here."""

    def generate(
        self,
        audio: Sound,
        *,
        steps: int | None = None,
        guidance: float | None = None,
        seed: int | None = None,
        look_ahead: float | None = None,
    ) -> Motion:
        """Audio -> motion. A ``look_ahead`` is given where one was asked for."""

    def landmarks(self, motion: Motion) -> Float32:
        """Motion -> (T, 68, 3) metres."""


class Scorer(Protocol):
    """A judge of single clips, as a sync expert is."""

    def score(self, audio: Sound, landmarks: Float32, fps: float) -> Mapping[str, float]:
        """Figures of a clip by their names.

        Raises:
            InputError: the clip cannot be judged (too short, ...); it then does not count.
        """


def evaluate(
    pipeline: Pipeline,
    manifest: Path | str | Sequence[Spoken],
    *,
    seed: int = 0,
    seeds: int | None = None,
    limit: int | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    look_ahead: float | None = None,
    split: str | None = None,
    pad: float = 0.0,
    names: Sequence[str] = EXPRESSION_NAMES,
    scorers: Mapping[str, Scorer] | None = None,
    motions: GivenMotions | None = None,
) -> Report:
    """Generate motions for every recording of a manifest and measure them.

    Args:
        pipeline: a :class:`facetalk.FaceTalk`, or anything with its ``generate`` and ``landmarks``.
        manifest: path of a manifest.jsonl, or its content.
        seed: noise seed of clip i and variant k is ``seed + 1000 k + i``.
        seeds: motions per clip, 2 when None; all count, and from 2 on their diversity is measured.
        limit: at most this many clips, evenly spread over the manifest.
        steps: denoising steps; None = the model's default.
        guidance: guidance weight; None = the model's default.
        look_ahead: seconds after a frame's middle that may be heard for it, as live; None = all of a clip.
        split: only this split of the manifest.
        pad: seconds of near-silence put before and after every clip, so that rest is measured on recordings
            that were cut to the words.
        names: of the pipeline's expression weights.
        scorers: judges of single clips; their figures are named ``<scorer>_<figure>``. They see the first
            variant of every row.
        motions: of another system, to be measured in place of generated ones, on the pipeline's own head;
            ``seed`` is then that of the draws alone, and ``seeds``, ``steps``, ``guidance``, ``look_ahead``
            and ``pad`` are refused.

    Raises:
        InputError: the manifest cannot be used, nothing of it could be aligned, an option is out of range or
            would do nothing, a motion is missing or cannot be used, or the expressions are not those that the
            truth is drawn in.
    """
    if tuple(names) != EXPRESSION_NAMES:
        raise InputError(
            "the model's expressions are not those of facetalk.data.visemes, so there is no truth to compare "
            "them with; evaluate a model that was trained on them, or call the functions of facetalk.metrics"
        )
    for name, value in (("limit", limit), ("seeds", seeds)):
        if value is not None and value < 1:
            raise InputError(f"{name} must be at least 1, got {value}")
    if motions is not None:
        told = {"seeds": seeds, "steps": steps, "guidance": guidance, "pad": pad or None}
        told["look_ahead"] = look_ahead
        for name in (name for name, value in told.items() if value is not None):
            raise InputError(f"{name} is for motions that are generated, not for given ones")
    pad, _ = padding((), pad)
    every = read(Path(manifest), split=split) if isinstance(manifest, Path | str) else list(manifest)
    items = every if limit is None else [every[i] for i in _spread(len(every), limit)]
    if motions is not None:
        motions.find(items, every)
    seeds = motions.seeds if motions is not None else 2 if seeds is None else seeds
    clips = [_Clip(item, pad) for item in with_phones(items)]
    run: _Run | None = None
    live = {} if look_ahead is None else {"look_ahead": look_ahead}
    progress = tqdm(clips, desc="evaluate", unit="clip", disable=not sys.stderr.isatty())
    for index, clip in enumerate(progress):
        sound = clip.sound()
        if motions is not None:
            made = motions.motions(clip.item)
        else:
            made = [
                pipeline.generate(
                    sound, seed=seed + _VARIANT * k + index, steps=steps, guidance=guidance, **live
                )
                for k in range(seeds)
            ]
        if len(made[0]) < MIN_FRAMES:
            progress.write(f"skipped {clip.item.audio}: {len(made[0])} frames are too few", sys.stderr)
            continue
        run = run or _Run(pipeline, clips, made[0], seed, scorers or {})
        run.clip(index, clip, sound, made)
    if run is None:
        raise InputError("nothing to evaluate: no recording could be aligned with its text or is long enough")
    settings = {
        "manifest": Path(manifest).name if isinstance(manifest, str | Path) else None,
        "motions": None if motions is None else motions.folder.resolve().name,
        "without": ", ".join(motions.missing) or None if motions is not None else None,
        "split": split,
        "limit": limit,
        "clips": run.rows.clips,
        "seconds": round(run.seconds, 1),
        "seed": seed,
        "seeds": seeds,
        # What the model resolved a missing option to, where it says so.
        "steps": run.provenance.get("steps", steps),
        "guidance": run.provenance.get("guidance", guidance),
        "pad": pad,
        **live,
    }
    clip_by_clip = {"names": run.names, **run.rows["model"].pool.as_dict()}
    return Report(settings, *run.summary(), *run.rows.voice_summary(seed), run.example, clip_by_clip)


class _Clip:
    """A recording with the times of its phones, both moved by the padding."""

    def __init__(self, item: Spoken, pad: float) -> None:
        self.item = item
        self.pad = pad
        self.phones: list[Phone] = [(s, start + pad, end + pad) for s, start, end in item.phones or []]

    def sound(self) -> Sound:
        """The sound, with ``pad`` seconds of near-silence on both sides."""
        if not self.pad:
            return self.item.audio
        blocks = list(Padded([load_audio(self.item.audio)], self.pad, self.pad))
        return np.concatenate(blocks), SAMPLE_RATE


class _Run:
    """What is known of the manifest as a whole, and the figures that grow clip by clip.

    Args:
        pipeline: makes landmarks of weights.
        clips: all clips of the manifest; a few of them, spread over it, make the bank.
        first: a motion of the pipeline, for its frame rate and identity.
        seed: of every draw.
        scorers: judges of single clips.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        clips: Sequence[_Clip],
        first: Motion,
        seed: int,
        scorers: Mapping[str, Scorer],
    ) -> None:
        self.pipeline, self.seed, self.scorers = pipeline, seed, scorers
        self.rows = Rows(ROWS)
        self.names: list[str] = []
        self.seconds = 0.0
        self.example: dict[str, list[float]] = {}
        self._fps, self._identity, self.provenance = first.fps, first.identity, first.provenance
        self._rest = self._landmarks(np.zeros((1, len(EXPRESSION_NAMES)), np.float32))[0]
        texts: dict[tuple[str, ...], int] = {}
        self._texts = [texts.setdefault(tuple(p[0] for p in c.phones), len(texts)) for c in clips]
        chosen = _spread(len(clips), BANK_CLIPS)
        self._bank = Neighbours.of(
            [(clips[i].phones, clips[i].item.alphabet) for i in chosen],
            [self._texts[i] for i in chosen],
            self._fps,
            seed + _BANK,
        )
        self._bases = self._fit(self._bank)
        self._most_windows = max(1, MAX_WINDOWS // len(clips))

    def clip(self, index: int, clip: _Clip, audio: Sound, motions: Sequence[Motion]) -> None:
        """Measure the motions of one clip, and all rows beside them."""
        frames, phones, alphabet = len(motions[0]), clip.phones, clip.item.alphabet
        self.names.append(clip.item.name or clip.item.audio.name)
        number = self.rows.begin(clip.item.voice, speech_intensity(load_audio(clip.item.audio)))
        truth = self._landmarks(reading(phones, frames, self._fps, alphabet, self.seed + _READING + index))
        for name, variants in self._variants(index, clip, motions).items():
            row = self.rows[name]
            seen = [self._landmarks(weights) for weights in variants]
            for k, (weights, landmarks) in enumerate(zip(variants, seen, strict=True)):
                lips = measure(landmarks, self._rest, phones, fps=self._fps, alphabet=alphabet, reading=truth)
                row.add_lips(number, lips, count=k == 0)
                if name == "model":
                    self.rows.voice(clip.item.voice).add_lips(number, lips, count=k == 0)
                away = compare(
                    landmarks, truth, lips=MOUTH, upper=UPPER_FACE, neutral=self._rest, fps=self._fps
                )
                row.add_comparison(number, away, frames)
                alive = dynamics(weights, EXPRESSION_NAMES, landmarks, self._fps)
                row.add_dynamics(number, alive, frames / self._fps)
            if len(motions) > 1:
                # A row without chance is the same for every seed.
                row.add_diversity(number, diversity(seen if len(seen) > 1 else seen * 2), frames)
            row.features[number] = self._features(seen[:1])
            row.intensity[number] = lip_intensity(seen[0])
            for scorer, judge in self.scorers.items():
                with contextlib.suppress(InputError):
                    row.add_scores(number, scorer, judge.score(audio, seen[0], self._fps))
            if not number and name in ("model", "truth"):
                self.example[name] = lip_gap(seen[0]).tolist()
                self.example[f"{name} lids"] = lid_closure(variants[0], EXPRESSION_NAMES).tolist()
        draws = [self._draw(_DRAWS, k, index, clip, frames) for k in range(TRUTH_DRAWS)]
        self.rows.add_truth(self._features([self._landmarks(one) for one in draws]))
        self.seconds += frames / self._fps

    def summary(self) -> tuple[dict[str, Figures], dict[str, Intervals]]:
        """Pooled figures and intervals of every row."""
        return self.rows.summary(self.seed, {region: basis.scale for region, basis in self._bases.items()})

    def _variants(self, index: int, clip: _Clip, motions: Sequence[Motion]) -> dict[str, list[Float32]]:
        """Row -> weights (T, 53) of each of its variants."""
        frames, count = len(motions[0]), len(motions)
        out = {"model": [motion.expressions for motion in motions]}
        out["truth"] = [self._draw(_TRUTH, k, index, clip, frames) for k in range(count)]
        found = self._bank.find(clip.phones, frames, self._fps, clip.item.alphabet, self._texts[index])
        if found is not None:
            out["nearest"] = [found]
        made = [
            controls.controls(weights, EXPRESSION_NAMES, self.seed + _VARIANT * k + index)
            for k, weights in enumerate(out["model"])
        ]
        for name in controls.NAMES:
            every = [np.asarray(one[name], np.float32) for one in made]
            out[name] = every[:1] if name == "rest" else every
        return out

    def _draw(self, kind: int, variant: int, index: int, clip: _Clip, frames: int) -> Float32:
        """A draw of the truth with a seed of its own."""
        seed = self.seed + kind + _VARIANT * variant + index
        return draw(clip.phones, frames, self._fps, clip.item.alphabet, seed)

    def _landmarks(self, weights: Float32) -> Float32:
        return self.pipeline.landmarks(Motion(weights, self._fps, self._identity))

    def _fit(self, bank: Neighbours) -> dict[str, WindowBasis]:
        """A basis per region; none where the bank's clips are too short."""
        if not len(bank.ends):
            return {}
        # Clip by clip: a window across a seam would show a leap that no truth makes.
        clips = np.split(self._landmarks(bank.motions), bank.ends[:-1])
        windows = {
            region: np.concatenate([motion_windows(clip, self._rest, points, self._fps) for clip in clips])
            for region, points in FEATURE_REGIONS.items()
        }
        return {region: WindowBasis.fit(rows) for region, rows in windows.items() if len(rows) > 1}

    def _features(self, variants: Sequence[Float32]) -> dict[str, Float64]:
        """Region -> features (n, F) of the windows of a clip, at most its share of all that are kept."""
        out = {}
        for region, basis in self._bases.items():
            points = FEATURE_REGIONS[region]
            rows = np.concatenate([motion_windows(one, self._rest, points, self._fps) for one in variants])
            out[region] = basis.transform(rows[_spread(len(rows), self._most_windows * len(variants))])
        return out


def _spread(count: int, most: int) -> list[int]:
    """At most ``most`` of ``count`` positions, evenly spread."""
    return np.linspace(0, count - 1, min(most, count)).round().astype(int).tolist()
