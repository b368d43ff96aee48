"""An encoder that hears levels alone and a head of lips alone, for trainings of motion that take seconds."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from facetalk.data.expressions import EXPRESSION_NAMES
from facetalk.data.visemes import lip_gap
from facetalk.units import HEAD_UNIT_MM, SAMPLE_RATE, frame_count


class LevelEncoder:
    """Features: the level of each frame and of its neighbours."""

    def __init__(self) -> None:
        self.calls = 0

    def features(self, samples: np.ndarray, *, fps: float) -> torch.Tensor:
        self.calls += 1
        count, step = frame_count(len(samples), fps), int(SAMPLE_RATE / fps)
        padded = np.pad(samples, (0, max(0, count * step - len(samples))))[: count * step]
        level = np.sqrt((padded.reshape(count, step) ** 2).mean(1))
        return torch.from_numpy(np.stack([np.roll(level, k) for k in range(-2, 3)], 1) * 10.0).float()


def head_of_lips(path: Path) -> SimpleNamespace:
    """A morphable head of 68 points that move by the gap model of visemes.json, for want of a 16 MB file."""
    moves = np.zeros((len(EXPRESSION_NAMES), 68, 3))
    moves[:, :, 2] = np.eye(len(EXPRESSION_NAMES), 68)
    bias = lip_gap(np.zeros(len(EXPRESSION_NAMES)))
    moves[:, [67, 66, 65], 1] = -(lip_gap(np.eye(len(EXPRESSION_NAMES))) - bias)[:, None]
    rest = np.random.default_rng(0).normal(size=(68, 3)) * 30
    for upper, lower in ((61, 67), (62, 66), (63, 65)):
        rest[lower] = rest[upper] - [0, bias, 0]
    return SimpleNamespace(
        expression_names=EXPRESSION_NAMES,
        expression_basis=moves / HEAD_UNIT_MM,
        neutral=rest / HEAD_UNIT_MM,
        landmark_ids=np.arange(68),
    )
