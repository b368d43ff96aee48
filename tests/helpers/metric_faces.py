"""A face of 68 points that a few expression weights move in known ways, and motions of it."""

from __future__ import annotations

import numpy as np

from facetalk.data.expressions import EXPRESSION_NAMES, INDEX
from facetalk.data.visemes import lip_gap

FPS = 25.0
MOUTH = list(range(48, 68))
UPPER = [*range(17, 27), *range(36, 48)]
UPPER_LIP, LOWER_LIP = [61, 62, 63], [67, 66, 65]
LOWER_HALF = [*range(55, 60), *LOWER_LIP]
UPPER_LIDS = [37, 38, 43, 44]
BROW_MM, LID_MM = 10.0, 8.0


def rest() -> np.ndarray:
    """(68, 3) metres; the inner lips have the gap of the visemes' table."""
    points = np.random.default_rng(0).normal(size=(68, 3)) * 0.05
    points[LOWER_LIP, 1] = points[UPPER_LIP, 1] - lip_gap(np.zeros(53)) / 1000.0
    return points


def landmarks(weights: np.ndarray) -> np.ndarray:
    """(T, 53) -> (T, 68, 3) metres: the lower lip opens as the table says, brows rise, lids close."""
    points = np.repeat(rest()[None], len(weights), axis=0)
    opened = lip_gap(weights) - lip_gap(np.zeros(53))
    points[:, LOWER_HALF, 1] -= opened[:, None] / 1000.0
    brow = weights[:, [INDEX[n] for n in EXPRESSION_NAMES if n.startswith("brow")]].mean(1)
    points[:, 17:27, 1] += BROW_MM * brow[:, None] / 1000.0
    lids = weights[:, [INDEX["eyeBlink_L"], INDEX["eyeBlink_R"]]].mean(1)
    points[:, UPPER_LIDS, 1] -= LID_MM * lids[:, None] / 1000.0
    return points


def talking(frames: int = 250, seed: int = 0) -> np.ndarray:
    """(T, 53) weights: a mouth that opens 2 to 4 times a second, blinks, brows and gaze."""
    rng = np.random.default_rng(seed)
    t = np.arange(frames) / FPS
    out = np.zeros((frames, 53))
    phase = np.cumsum(2.0 + 2.0 * rng.random(frames)) / FPS
    out[:, INDEX["jawOpen"]] = 0.2 + 0.15 * np.sin(2 * np.pi * phase)
    for start in np.arange(1.0, t[-1] - 1.0, 2.5) + rng.uniform(0, 0.5):
        for side in ("_L", "_R"):
            out[:, INDEX["eyeBlink" + side]] += np.exp(-0.5 * ((t - start) / 0.06) ** 2)
    slow = 0.15 * (1 + np.sin(2 * np.pi * 0.4 * t + rng.uniform(0, 6)))
    for name in EXPRESSION_NAMES:
        if name.startswith("browInner"):
            out[:, INDEX[name]] = slow
        elif name.startswith("eyeLookOut"):
            out[:, INDEX[name]] = 0.1 * (t % 1.0 > 0.5)
    return out
