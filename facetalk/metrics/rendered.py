"""What motions look like: FID and KID of rendered mouths, SyncNet's LSE of rendered faces.

Motions are drawn on the model's own head beside truth that rules read from the phones. Rows of truth again,
smoothed, doubled and frozen motions say what a figure is worth.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from scipy.ndimage import gaussian_filter1d
from torch import nn
from tqdm import tqdm

from facetalk.arrays import Float32, UInt8
from facetalk.data.expressions import EXPRESSION_NAMES
from facetalk.data.visemes import curves
from facetalk.errors import InputError
from facetalk.metrics.images import face_crops, image_distances, mouth_crops
from facetalk.metrics.manifest import Spoken, read, with_phones
from facetalk.metrics.syncnet import SyncNet
from facetalk.motion import Motion
from facetalk.units import DEFAULT_FPS

ROWS = ("model", "truth again", "smoothed", "doubled", "frozen")
_SMOOTHING_S = 0.12
_BLOCK = 200


class Pipeline(Protocol):
    """What of :class:`facetalk.FaceTalk` is needed here."""

    @property
    def head(self) -> Any:
        """Its neural parametric head."""

    def generate(
        self, audio: Any, *, steps: int | None = None, guidance: float | None = None, seed: int | None = None
    ) -> Motion:
        """Audio -> motion."""

    def decode(self, motion: Motion) -> Any:
        """Motion -> meshes."""

    def landmarks(self, motion: Motion) -> Float32:
        """Motion -> (T, 68, 3) metres."""


@dataclasses.dataclass(frozen=True)
class Rendered:
    """Distances of rendered motions.

    Attributes:
        settings: clips, crops, features, seed.
        rows: row -> ``fid``, ``kid``, ``kid_sd`` against renders of truth and, where SyncNet judged, the
            means over clips of ``lse_d``, ``lse_c``, ``distance`` and the median of ``offset_frames``.
    """

    settings: dict[str, Any]
    rows: dict[str, dict[str, float]]

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return dataclasses.asdict(self)

    def table(self) -> str:
        """As text."""
        keys = [key for key in ("fid", "kid", "lse_d", "lse_c", "offset_frames", "distance")
                if any(key in row for row in self.rows.values())]  # fmt: skip
        title = f"rendered, by {self.settings['features']}"
        lines = [f"{title:<30}" + "".join(f"{key:>14}" for key in keys)]
        for name, row in self.rows.items():
            cells = "".join(f"{row[k]:14.4f}" if k in row else f"{'-':>14}" for k in keys)
            lines.append(f"{name:<30}{cells}")
        return "\n".join(lines)


def evaluate_rendered(
    pipeline: Pipeline,
    manifest: Path | str | Sequence[Spoken],
    *,
    split: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    steps: int | None = None,
    guidance: float | None = None,
    crops: int = 2000,
    features: nn.Module | None = None,
    syncnet: SyncNet | None = None,
) -> Rendered:
    """Draw a model's motions and truth for the recordings of a manifest, and compare the pictures.

    Args:
        pipeline: a :class:`facetalk.FaceTalk`.
        manifest: what ``facetalk evaluate`` takes.
        split: only this split of the manifest.
        limit: at most this many clips, evenly spread.
        seed: noise seed of clip i is ``seed + i``; draws of truth follow from it as well.
        steps: denoising steps; None = the model's.
        guidance: guidance weight; None = the model's.
        crops: about how many pictures a side; frames are taken evenly.
        features: see :func:`facetalk.metrics.images.image_distances`.
        syncnet: also judge whole faces of the rows "model" and "truth again" by SyncNet (slow on a CPU).

    Raises:
        InputError: the manifest cannot be used, an option is out of range, the model's expressions are not
            those of the viseme table, torchmetrics is missing.
    """
    for name, value, least in (("limit", limit, 1), ("crops", crops, 2)):
        if value is not None and value < least:
            raise InputError(f"{name} must be at least {least}, got {value}")
    if tuple(pipeline.head.expression_names) != EXPRESSION_NAMES:
        raise InputError("the model's expressions are not those of the viseme table, so there is no truth")
    items = read(Path(manifest), split=split) if isinstance(manifest, Path | str) else list(manifest)
    if limit is not None:
        items = [items[i] for i in np.linspace(0, len(items) - 1, min(limit, len(items))).round().astype(int)]
    clips: dict[str, list[Float32]] = {name: [] for name in ("reference", *ROWS)}
    lse: dict[str, list[dict[str, float]]] = {}
    fps = float(DEFAULT_FPS)
    bar = tqdm(with_phones(items), "generate", len(items), disable=not sys.stderr.isatty())
    studio = _Studio(pipeline)
    for index, item in enumerate(bar):
        motion = pipeline.generate(item.audio, steps=steps, guidance=guidance, seed=seed + index)
        fps = motion.fps
        for name, weights in _rows(item, motion, seed + index):
            clips[name].append(weights)
            if syncnet is not None and name in ("model", "truth again"):
                if fps != DEFAULT_FPS:
                    raise InputError(f"SyncNet judges motions of {DEFAULT_FPS:g} fps, this model has {fps:g}")
                lse.setdefault(name, []).append(syncnet.score(item.audio, studio.faces(weights)))
    if not clips["model"]:
        raise InputError("nothing to evaluate: no recording could be aligned with its text")
    truth = studio.mouths(_some(clips["reference"], crops), "reference")
    rows: dict[str, dict[str, float]] = {}
    told: dict[str, Any] = {}
    for name in ROWS:
        drawn = studio.mouths(_some(clips[name], crops), name)
        told = image_distances(truth, drawn, features=features, seed=seed)
        rows[name] = {key: told[key] for key in ("fid", "kid", "kid_sd")}
        if name in lse:
            scores = lse[name]
            for key in ("lse_d", "lse_c", "distance"):
                rows[name][key] = float(np.mean([s[key] for s in scores]))
            rows[name]["offset_frames"] = float(np.median([s["offset_frames"] for s in scores]))
    settings = {"clips": len(clips["model"]), "crops": len(truth), "features": told["features"], "seed": seed}
    return Rendered(settings, rows)


def _rows(item: Spoken, motion: Motion, seed: int) -> Iterator[tuple[str, Float32]]:
    """Expression codes of the reference and of every row."""
    count, fps = len(motion), motion.fps
    for draw, name in enumerate(("reference", "truth again")):
        rng = np.random.default_rng((seed, draw))
        truth = curves(item.phones or [], count / fps, fps, alphabet=item.alphabet, rng=rng)[:count]
        yield name, truth
    weights = motion.expressions
    yield "model", weights
    yield "smoothed", np.asarray(gaussian_filter1d(weights, _SMOOTHING_S * fps, axis=0, mode="nearest"))
    yield "doubled", np.clip(2.0 * weights, 0.0, 1.0)
    yield "frozen", np.repeat(weights.mean(0, keepdims=True), count, axis=0)


def _some(clips: Sequence[Float32], count: int) -> Float32:
    """About ``count`` frames, evenly."""
    frames = np.concatenate(clips)
    return frames[np.unique(np.linspace(0, len(frames) - 1, count).round().astype(int))]


class _Studio:
    """Draws expression codes of the default identity."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        still = np.zeros((1, len(EXPRESSION_NAMES)), np.float32)
        self.rest = pipeline.landmarks(self._motion(still))[0]

    def _motion(self, weights: Float32) -> Motion:
        identity = self.pipeline.head.default_identity
        return Motion(np.asarray(weights, np.float32), float(DEFAULT_FPS), identity)

    def mouths(self, weights: Float32, name: str) -> UInt8:
        """(T, 53) -> (T, 64, 64, 3)."""
        meshes = self.pipeline.decode(self._motion(weights))
        starts = range(0, len(weights), _BLOCK)
        bar = tqdm(starts, f"draw {name}", leave=False, disable=not sys.stderr.isatty())
        return np.concatenate([mouth_crops(meshes[start : start + _BLOCK], self.rest) for start in bar])

    def faces(self, weights: Float32) -> UInt8:
        """(T, 53) -> (T, 224, 224, 3)."""
        return face_crops(self.pipeline.decode(self._motion(weights)), self.rest)
