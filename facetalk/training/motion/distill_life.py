"""Life from the corpus itself: the upper face of the student beside that of the training motion.

A causal denoiser cannot give back the spread of what it was trained on, however long it trains. Its answer
for a frame is the mean given the noisy frames up to that frame, where the flow that carries noise to motion
wants the mean given all of them; of a slow Gaussian process it samples 0.7 to 0.85 of the standard deviation
at about 1.5 times the speed (``tests/training/motion/test_distill_life.py`` computes it). So brows, lids and
gaze of the teacher are too still and too jittery at once, and a student that follows it is no better.

A student is not bound to that: as a map from noise to motion, a causal one can have any distribution, since
each frame may draw from what the frames before it leave open. So its last stage compares what it samples, in
all its numbers of steps, with the corpus's own faces. The mouth stays with the teacher, or has a score
of its own (:mod:`facetalk.training.motion.distill_mouth`).
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from facetalk.data.expressions import is_upper_face
from facetalk.diffusion.model import MotionModel
from facetalk.training.motion.dataset import MotionData, too_short
from facetalk.training.motion.distill_energy import distance
from facetalk.training.motion.distill_sliced import SlicedDistance

GROUPS = (("eyeBlink",), ("eyeSquint", "eyeWide", "cheekSquint"), ("brow",), ("eyeLook",))
"""Beginnings of the names of the expressions that are compared together. Apart, because the truth draws them
apart, and a score of few values sees more of each."""
ENERGY_WEIGHT = 1.0
"""Of the energy score beside the sliced distance."""
_WINDOW, _HOP = 24, 8
_VELOCITY = 3.0


class LifeScore:
    """Compares the upper faces of sampled motions with those of the truth.

    Of two kinds. The *sliced distance* (:mod:`facetalk.training.motion.distill_sliced`) asks whether values,
    slopes and bends at several scales of time are as often as large as the truth's, whoever speaks: rare
    events such as blinks count in it. The *energy score* (:mod:`facetalk.training.motion.distill_energy`),
    with the truth for the same sound, ties them to what is heard; alone it hardly sees what is rare, since a
    blink at another moment is as far from the truth as none.

    Args:
        model: the motion model, for its coordinates.
        device: where the batches are.
    """

    def __init__(self, model: MotionModel, *, device: torch.device | str = "cpu") -> None:
        names, space = model.expression_names, model.representation
        self._groups: list[tuple[Tensor, Tensor, Tensor]] = []
        for group in GROUPS:
            chosen = [index for index, name in enumerate(names) if name.startswith(group)]
            rows = space.decode_matrix[chosen]
            # Coordinates have variance 1 in the training motion, so this is what moves in it, and how far.
            size = np.sqrt((rows**2).sum(1))
            moved = size > 1e-3
            if moved.any():
                parts = rows[moved].T, space.mean[chosen][moved], size[moved]
                self._groups.append(tuple(torch.from_numpy(part).float().to(device) for part in parts))  # type: ignore[arg-type]
        self._sliced = SlicedDistance(device=device)

    def __call__(
        self,
        first: Tensor,
        second: Tensor,
        truth: Tensor,
        others: Tensor,
        generator: torch.Generator,
        *,
        starts: bool = False,
    ) -> Tensor:
        """How far the motions are from the truth.

        Args:
            first, second: (B, L, K) motions of independent noises for the same sound.
            truth: (B, L, K) a motion of the truth for it.
            others: (N, L, K) motions of the truth for any sound, N a multiple of 2 B.
            generator: of the random mixtures.
            starts: whether they all begin where a recording begins.
        """
        total = first.new_zeros(())
        for group in self._groups:
            one, two, real, more = (self._shown(x, group) for x in (first, second, truth, others))
            a, b, c = (self._windows(x) for x in (one, two, real))
            energy = 0.5 * (distance(a, c) + distance(b, c) - distance(a, b)).mean()
            sliced = self._sliced(torch.cat([one, two]), more, generator, starts=starts)
            total = total + sliced + ENERGY_WEIGHT * energy
        return total

    def apart(self, motion: Tensor, other: Tensor) -> Tensor:
        """Mean square of the difference of two motions (B, L, K), in standard deviations, over the groups."""
        total = motion.new_zeros(())
        for group in self._groups:
            total = total + (self._shown(motion, group) - self._shown(other, group)).square().mean()
        return total

    def _shown(self, motion: Tensor, group: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """(B, L, K) -> (B, L, E) weights as they are shown, in standard deviations of the truth."""
        matrix, mean, size = group
        return (motion @ matrix + mean).clamp(0.0, 1.0) / size

    def _windows(self, looked: Tensor) -> Tensor:
        """(B, L, E) -> (B, N, F): overlapping seconds of one group and of its differences in time."""
        looked = torch.cat([looked[:, 1:], _VELOCITY * looked.diff(dim=1)], dim=-1)
        size = looked.shape[1]
        return looked.unfold(1, min(_WINDOW, size), _HOP).flatten(2) / looked.shape[-1] ** 0.5


def mouth_indices(model: MotionModel) -> list[int]:
    """The weights that are none of the upper face."""
    return [i for i, name in enumerate(model.expression_names) if not is_upper_face(name)]


def mouth_projection(model: MotionModel) -> Tensor:
    """(K, K): coordinates -> those of the same motion with its upper face at rest, by ``x @ matrix``."""
    mouth, space = mouth_indices(model), model.representation
    kept = space.encode_matrix[:, mouth] @ space.decode_matrix[mouth]
    return torch.from_numpy(kept.T.copy()).float()


@dataclasses.dataclass(frozen=True)
class Drawn:
    """Stretches of the corpus.

    Attributes:
        heard: (B, L, A) standardised features of the first B of them.
        truth: (N, L, K) coordinates of a face for each.
        twins: (D, B, L, K) all faces for the sound of the first B, that of ``truth`` among them.
    """

    heard: Tensor
    truth: Tensor
    twins: Tensor


class Faces:
    """Random stretches of the corpus's faces and sound, many at once, from where the student is.

    Args:
        data: the corpus.
        model: the motion model, for its coordinates and standardisation.
        device: where the batches are wanted; the corpus is kept there.
        starts: only stretches from the beginnings of recordings.
    """

    def __init__(
        self,
        data: MotionData,
        model: MotionModel,
        *,
        device: torch.device | str = "cpu",
        starts: bool = False,
    ) -> None:
        self._starts = starts
        self._features = torch.from_numpy(np.concatenate(data.features)).to(device)
        self._weights = torch.from_numpy(np.concatenate(data.weights, axis=1)).to(device)
        self._lengths = np.array([len(part) for part in data.features])
        self._begins = np.cumsum(self._lengths) - self._lengths
        space = model.representation
        self._encode, self._rest = (
            torch.from_numpy(array).float().to(device) for array in (space.encode_matrix.T.copy(), space.mean)
        )
        self._mean, self._scale = (x.to(device) for x in (model.feature_mean, model.feature_scale))

    def draw(self, rng: np.random.Generator, count: int, length: int, heard: int) -> Drawn:
        """Some stretches.

        Args:
            rng: of what is drawn.
            count: stretches.
            length: their frames L.
            heard: of so many, the first ones, the sound is wanted.

        Raises:
            InputError: no recording is so long.
        """
        room = np.maximum(self._lengths - length + 1, 0)
        if not room.any():
            raise too_short(length, int(self._lengths.max(initial=0)))
        if self._starts:
            room = np.minimum(room, 1)
        chosen = rng.choice(len(room), count, p=room / room.sum())
        starts = self._begins[chosen] + (rng.random(count) * room[chosen]).astype(np.int64)
        drawn = rng.integers(len(self._weights), size=count)
        order = rng.permutation(len(self._weights))
        device = self._features.device
        rows = torch.from_numpy(starts[:, None] + np.arange(length)).to(device)
        weights = self._weights[torch.from_numpy(drawn).to(device)[:, None], rows]
        features = self._features[rows[:heard]].float()
        return Drawn(
            (features - self._mean) / self._scale,
            self._coordinates(weights),
            self._coordinates(self._weights[:, rows[:heard]][torch.from_numpy(order).to(device)]),
        )

    def _coordinates(self, weights: Tensor) -> Tensor:
        return (weights.float() - self._rest) @ self._encode
