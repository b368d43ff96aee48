"""Weights that keep outliers from deciding: Tukey's biweight with a scale from the residuals themselves."""

from __future__ import annotations

import torch
from torch import Tensor

# 95 % efficiency on normal noise, and the normal deviation that a median of 1 stands for (P. J. Huber,
# E. M. Ronchetti, Robust Statistics, 2nd ed., 2009, sections 4.8 and 5.1).
TUKEY, NORMAL = 4.685, 1.4826


def scale_of(residual: Tensor, least: float) -> float:
    """The spread of residuals (N,), by their median; at least `least`."""
    return max(NORMAL * float(residual.abs().median()), least) if len(residual) else least


def weights(residual: Tensor, scale: float, farthest: float) -> Tensor:
    """Weights (N,) in 0..1 of residuals (N,), 0 beyond 4.685 scales or `farthest`, whichever is less."""
    reach = min(TUKEY * scale, farthest)
    return (1 - (residual / reach) ** 2).clamp(min=0) ** 2


def even(residual: Tensor, knee: float) -> Tensor:
    """Huber's weights: 1 up to `knee`, falling as its inverse beyond."""
    return knee / torch.clamp(residual.abs(), min=knee)


def rare(change: Tensor, scale: float) -> Tensor:
    """Cauchy's weights: of changes that are mostly noise of this scale, and now and then a real movement."""
    return 1 / (1 + (change / scale) ** 2)
