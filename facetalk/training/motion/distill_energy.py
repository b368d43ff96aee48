"""The energy score of a one-step student: are its motions *distributed* as the teacher's are?

Distillation of trajectories compares each answer with the teacher's for the same noise; what the student
cannot follow it averages, and averages are too much alike. The energy score (Gneiting and Raftery, 2007; for
few-step diffusion De Bortoli et al., "Distributional Diffusion Models with Scoring Rules", ICML 2025)
compares sets of answers instead: it is smallest, in expectation, only where both distributions are one, and
it needs no second network.
"""

from __future__ import annotations

import torch
from torch import Tensor

from facetalk.training.motion.distill_loss import DistillLoss

_WINDOW, _HOP = 12, 6
_VELOCITY, _LID = 4.0, 3.0
"""How much differences from frame to frame and lids in mm count beside the coordinates."""
_SOFT = 1e-2


class EnergyScore:
    """Compares two answers to two noises with one motion of the teacher, for the same sound.

    Args:
        loss: knows how much each coordinate matters, the lids, and the warm-up.
    """

    def __init__(self, loss: DistillLoss) -> None:
        self._loss = loss

    def __call__(self, first: Tensor, second: Tensor, truth: Tensor) -> Tensor:
        """1/2 |Psi(X1) - Psi(Y)| + 1/2 |Psi(X2) - Psi(Y)| - 1/2 |Psi(X1) - Psi(X2)|, a mean over windows.

        Args:
            first, second: (B, L, K) answers X1, X2 to independent noises.
            truth: (B, L, K) a motion Y of the teacher, of yet another noise.
        """
        one, two, real = (self._windows(x) for x in (first, second, truth))
        return 0.5 * (distance(one, real) + distance(two, real) - distance(one, two)).mean()

    def _windows(self, motion: Tensor) -> Tensor:
        """(B, L, K) -> (B, N, F): overlapping half seconds of what is looked at."""
        motion = motion[:, self._loss.warm_up :]
        weighted = motion * self._loss.weight.sqrt()
        lids = motion @ self._loss.lids_mm
        looked = torch.cat([weighted[:, 1:], _VELOCITY * weighted.diff(dim=1), _LID * lids[:, 1:]], dim=-1)
        size = min(_WINDOW, looked.shape[1])
        return looked.unfold(1, size, _HOP).flatten(2)


def distance(a: Tensor, b: Tensor) -> Tensor:
    """(..., F) twice -> (...): root of the mean square, softened at zero, where a root has no slope."""
    return ((a - b).square().mean(-1) + _SOFT**2).sqrt()
