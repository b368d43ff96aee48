"""Life from the corpus itself: an energy score of the upper face against the training motion.

A causal denoiser cannot give back the spread of what it was trained on, however long it trains. Its answer
for a frame is the mean given the noisy frames up to that frame, where the flow that carries noise to motion
wants the mean given all of them; of a slow Gaussian process it samples 0.7 to 0.85 of the standard deviation
at about 1.5 times the speed (``tests/training/motion/test_distill_life.py`` computes it). So brows, lids and
gaze of the teacher are too still and too jittery at once, and a student that follows it is no better.

A student is not bound to that: as a map from noise to motion, a causal one can have any distribution, since
each frame may draw from what the frames before it leave open. So its last stage compares what it samples, in
all its numbers of steps, with the corpus's own faces for the same sound, by the energy score of
:mod:`facetalk.training.motion.distill_energy`. The mouth stays with the teacher, whose guidance closes more
lips than draws from the truth would.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from facetalk.arrays import Float32
from facetalk.diffusion.model import MotionModel
from facetalk.training.motion.dataset import MotionData
from facetalk.training.motion.distill_energy import distance

GROUPS = (("eyeBlink", "eyeSquint", "eyeWide", "cheekSquint"), ("brow",), ("eyeLook",))
"""Beginnings of the names of the expressions that are compared together. Apart, because the truth draws them
apart, and a score of few values sees more of each."""
_WINDOW, _HOP = 24, 8
_VELOCITY = 3.0


class LifeScore:
    """Compares the upper faces of two motions with one of the truth, for the same sound.

    Args:
        model: the motion model, for its coordinates.
        warm_up: frames at the start of a crop without a say.
        device: where the batches are.
    """

    def __init__(self, model: MotionModel, *, warm_up: int, device: torch.device | str = "cpu") -> None:
        names, decode = model.expression_names, model.representation.decode_matrix
        self.warm_up = warm_up
        self._groups: list[Tensor] = []
        for group in GROUPS:
            rows = decode[[index for index, name in enumerate(names) if name.startswith(group)]]
            # Coordinates have variance 1 in the training motion, so this is the group's own size there.
            size = np.sqrt((rows**2).sum(1).mean()) if len(rows) else 0.0
            if size > 0.0:
                self._groups.append(torch.from_numpy(rows.T / size).float().to(device))

    def __call__(self, first: Tensor, second: Tensor, truth: Tensor) -> Tensor:
        """The energy score of (B, L, K) motions of two independent noises and one of the truth."""
        total = first.new_zeros(())
        for matrix in self._groups:
            one, two, real = (self._windows(x, matrix) for x in (first, second, truth))
            score = distance(one, real) + distance(two, real) - distance(one, two)
            total = total + 0.5 * score.mean()
        return total

    def _windows(self, motion: Tensor, matrix: Tensor) -> Tensor:
        """(B, L, K) -> (B, N, F): overlapping seconds of one group and of its differences in time."""
        looked = motion[:, self.warm_up :] @ matrix
        looked = torch.cat([looked[:, 1:], _VELOCITY * looked.diff(dim=1)], dim=-1)
        return looked.unfold(1, min(_WINDOW, looked.shape[1]), _HOP).flatten(2)


def mouth_projection(model: MotionModel) -> Tensor:
    """(K, K): coordinates -> those of the same motion with its upper face at rest, by ``x @ matrix``."""
    names, space = model.expression_names, model.representation
    mouth = [i for i, name in enumerate(names) if not name.startswith(tuple(sum(GROUPS, ())))]
    kept = space.encode_matrix[:, mouth] @ space.decode_matrix[mouth]
    return torch.from_numpy(kept.T.copy()).float()


def faces(
    data: MotionData, model: MotionModel, rng: np.random.Generator, count: int, length: int
) -> tuple[Tensor, Tensor]:
    """Random stretches of the corpus: standardised features (B, L, A), coordinates (B, L, K)."""
    pairs = [data.crop(rng, length) for _ in range(count)]
    heard = torch.from_numpy(np.stack([features for features, _ in pairs]))
    moved: Float32 = model.representation.encode(np.stack([weights for _, weights in pairs]))
    mean, scale = model.feature_mean.cpu(), model.feature_scale.cpu()
    return (heard - mean) / scale, torch.from_numpy(moved)
