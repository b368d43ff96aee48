"""The sliced Wasserstein distance of motions: are they as often as large, as fast and as bent as the truth?

Bonneel et al. ("Sliced and Radon Wasserstein barycenters of measures", 2015) compare distributions by their
sorted projections. Here each channel of a motion, and random mixtures of them, go through a bank of filters
in time; what comes out is sorted and compared, of whatever is said when.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv1d

_MIXES = 4
"""Random mixtures of the channels in each comparison, beside the channels themselves."""
_WIDTHS = (1.0, 2.0, 4.0)
"""Frames, of the Gaussians whose values, slopes and bends are compared beside those of the frames."""
_LONGEST = 25
_STRETCH = 24
"""Frames of the stretches in which beginnings of recordings are compared."""


class SlicedDistance:
    """Compares the values of motions, their slopes and bends at several scales of time.

    Args:
        jerk: compare third differences from frame to frame as well.
        device: where the batches are.
    """

    def __init__(self, *, jerk: bool = False, device: torch.device | str = "cpu") -> None:
        self._kernels = _kernels(jerk).to(device)

    def __call__(
        self, sampled: Tensor, truth: Tensor, generator: torch.Generator, *, starts: bool = False
    ) -> Tensor:
        """Mean over slices of the squared Wasserstein distance, relative to the truth's variance.

        Args:
            sampled: (B, L, C) channels of the motions that are judged.
            truth: (N, L, C), N a multiple of B.
            generator: of the random mixtures.
            starts: whether they all begin where a recording begins. How often a face does something depends
                on the time since then, so each second is compared by itself, from the first frame on.
        """
        count = sampled.shape[-1]
        mix = torch.randn(count, _MIXES, generator=generator).to(sampled)
        mix = torch.cat([torch.eye(count).to(sampled), mix / mix.norm(dim=0)], dim=1)
        if starts:
            edge = _LONGEST // 2
            sampled, truth = (torch.cat([x[:, :1].expand(-1, edge, -1), x], dim=1) for x in (sampled, truth))
        mine, theirs = (self._filtered(x @ mix) for x in (sampled, truth))
        size = _STRETCH if starts else mine.shape[1]
        parts = zip(mine.split(size, 1), theirs.split(size, 1), strict=True)
        # Where nothing has happened yet the variance is next to none, so that of the whole is the measure.
        variance = theirs.flatten(0, 1).var(dim=0) + 1e-6
        return (
            torch.stack([_apart(a, b) * a.shape[1] / mine.shape[1] for a, b in parts])
            .sum(0)
            .div(variance)
            .mean()
        )

    def _filtered(self, mixed: Tensor) -> Tensor:
        """(B, L, M) -> (B, L', M x kernels): every channel through every kernel."""
        batch, _, channels = mixed.shape
        rows = mixed.transpose(1, 2).flatten(0, 1)[:, None]
        # Of short crops the middle of the kernels.
        cut = max(0, (_LONGEST - mixed.shape[1] + 1) // 2)
        out = conv1d(rows, self._kernels[:, None, cut : _LONGEST - cut])
        return out.unflatten(0, (batch, channels)).permute(0, 3, 1, 2).flatten(2)


def _apart(sampled: Tensor, truth: Tensor) -> Tensor:
    """(B, L, S) and (N, L, S), N a multiple of B -> (S,): squared Wasserstein distance of each slice."""
    mine, theirs = (x.flatten(0, 1).sort(dim=0).values for x in (sampled, truth))
    quantiles = theirs.reshape(len(mine), -1, theirs.shape[1]).mean(1)
    return (mine - quantiles).square().mean(0)


def _kernels(jerk: bool) -> Tensor:
    """(N, T): a frame, its first and second (and third) difference, Gaussians with two derivatives each."""
    frame = torch.arange(_LONGEST) - _LONGEST // 2
    one = (frame == 0).float()
    step = one - one.roll(1)
    bend = step - step.roll(1)
    bank = [one, step, bend, *([bend - bend.roll(1)] if jerk else [])]
    for width in _WIDTHS:
        hill = torch.exp(-0.5 * (frame / width) ** 2)
        hill = hill / hill.sum()
        bank += [hill, -frame / width**2 * hill, (frame**2 / width**2 - 1.0) / width**2 * hill]
    return torch.stack(bank)
