"""How well drawn faces keep voices apart, and how much seeds differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from facetalk.arrays import Bool, Float32, Float64
from facetalk.casting.voice import Voice
from facetalk.nphm.head.complexion import palette_of
from facetalk.units import HEAD_UNIT_MM

__all__ = ["diversity", "separation"]

Draw = Callable[[Voice, int], Float32]


def separation(
    voices: list[str], heard: list[Voice], draw: Draw, shape: Callable[[Float32], Float32], seeds: int
) -> dict[str, Any]:
    """Whether faces of two recordings are nearer to each other where the voice is the same.

    Args:
        voices: N names.
        heard: N voices, as heard in the recordings.
        draw: coefficients of a voice by a seed.
        shape: landmarks (68, 3) of coefficients, head space.
        seeds: how many; both faces of a pair are of one seed.

    Returns:
        ``auc``: share of pairs (same voice, other voice) in which the same voice's faces are nearer, chance
        0.5, with the 95 % interval over voices; ``auc_alike`` among recordings on the same side of 160 Hz;
        ``first``: share of recordings to whose face another of the same voice is the nearest, with its
        ``first_chance``; ``same_mm`` and ``other_mm``: mean distances of landmarks; ``same_skin`` and
        ``other_skin``: mean differences of the skin's colour, of 255.
    """
    names = np.array(voices)
    same = names[:, None] == names
    off = ~np.eye(len(names), dtype=bool)
    deep = np.array([voice.f0 < 160.0 for voice in heard])
    drawn = [[draw(voice, seed) for voice in heard] for seed in range(seeds)]
    gaps = [_gaps(np.stack([shape(code) for code in row])) for row in drawn]
    tones = [_tones(np.array([palette_of(code).skin for code in row], float)) for row in drawn]
    alike = deep[:, None] == deep
    every = np.array([_by_voice(gap, names, same, off, np.ones_like(off)) for gap in gaps]).mean(axis=0)
    rng = np.random.default_rng(0)
    resampled = [np.nanmean(rng.choice(every, len(every))) for _ in range(2000)]
    nearest = [np.where(off, gap, np.inf).argmin(axis=1) for gap in gaps]
    return {
        "auc": float(np.nanmean(every)),
        "auc_interval": [float(v) for v in np.percentile(resampled, (2.5, 97.5))],
        "auc_alike": float(np.mean([np.nanmean(_by_voice(g, names, same, off, alike)) for g in gaps])),
        "first": float(np.mean([(names[near] == names).mean() for near in nearest])),
        "first_chance": float((same & off).sum() / off.sum()),
        "same_mm": float(np.mean([gap[same & off].mean() for gap in gaps])),
        "other_mm": float(np.mean([gap[~same].mean() for gap in gaps])),
        "same_skin": float(np.mean([tone[same & off].mean() for tone in tones])),
        "other_skin": float(np.mean([tone[~same].mean() for tone in tones])),
    }


def diversity(heard: list[Voice], draw: Draw, shape: Callable[[Float32], Float32], seeds: int) -> float:
    """Mean distance of landmarks, mm, between faces of two seeds for one recording."""
    own = [_gaps(np.stack([shape(draw(voice, seed)) for seed in range(seeds)])) for voice in heard]
    return float(np.mean([gap[~np.eye(seeds, dtype=bool)].mean() for gap in own]))


def _by_voice(gap: Float64, names: Any, same: Bool, off: Bool, alike: Bool) -> Float64:
    """(V,) of each voice the share of pairs in which it is nearer to itself than to others."""
    out = []
    for name in sorted(set(names)):
        rows = names == name
        mine = gap[rows][(same & off & alike)[rows]]
        other = gap[rows][(~same & alike)[rows]]
        out.append((mine[:, None] < other).mean() if len(mine) and len(other) else np.nan)
    return np.array(out)


def _tones(skin: Float64) -> Float64:
    """(N, N) mean differences of colours (N, 3)."""
    return np.asarray(np.abs(skin[:, None] - skin[None]).mean(axis=2), np.float64)


def _gaps(shapes: Float32) -> Float64:
    """(N, N) mean distances of landmarks, mm."""
    flat = shapes[:, None] - shapes[None]
    return np.asarray(np.linalg.norm(flat, axis=3).mean(axis=2) * HEAD_UNIT_MM, np.float64)
