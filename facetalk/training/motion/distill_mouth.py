"""The mouth from the corpus itself: what the student says beside the truth for the same sound.

The teacher's mouth is too jittery, its spread too small, its lower lip seldom at the teeth, for the reason
that :mod:`facetalk.training.motion.distill_life` tells of the upper face: a causal denoiser cannot sample the
motion that it was trained on. Here the mouth that the student samples, in all its numbers of steps, is held
beside the corpus's own curves. Since these follow from what is said, the truth for the same sound says much
more of a mouth than of brows: not only how it should move but when. What is seldom and small, lips that
touch, is asked for by itself.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import max_pool1d, pad, relu

from facetalk.data.visemes import AT_TEETH_ROLL
from facetalk.diffusion.model import MotionModel
from facetalk.errors import InputError
from facetalk.training.motion.distill_energy import distance
from facetalk.training.motion.distill_life import mouth_indices
from facetalk.training.motion.distill_sliced import SlicedDistance
from facetalk.training.openings import Lips

ENERGY_WEIGHT, SLICED_WEIGHT, CONTACT_WEIGHT = 1.0, 8.0, 0.15
CLOSURE = 5.0
TEETH = 4.0
"""How much lips that should be closed, and a lower lip that should be at the teeth, count beside lips that
should be apart. A face that is unsure of an f and meets in the middle touches nothing."""
HELD = 5.0
"""Weight of the upper face's distance from what it was before the mouth was taught."""
FOLLOWED = 0.2
"""Weight of the teacher's mouth where the mouth is held beside the corpus's: guidance should go on to mean
something, and the rest of the teacher's mouth is what is being mended."""
_WINDOW, _HOP = 12, 6
_VELOCITY = 3.0
USUAL = 1.5
"""Weight of guidance at which mouths of two noises should be as far apart as two draws of the corpus."""
_SEEN_MM = 0.2
"""Directions in which the mouth's landmarks together move less than this are left out."""
_SOFT_MM = 1.0
"""Of the gap its logarithm counts, after this was added: the last millimetre is what closes lips."""
CLOSED_MM, OPEN_MM = 0.5, 3.0
"""A gap of the truth below the first is a closure, above the second lips should be apart. On the built-in
head p, b, m are below 0.4 and a face at rest is at 0.9."""
NEAR_MM, TOUCH_MM, APART = 0.7, 1.0, 0.7
"""What is let through: a gap where the truth is closed, a distance of the lower lip from where it touches the
teeth, and a share of the opening where the truth is open."""


@dataclasses.dataclass(frozen=True)
class MouthParts:
    """What the score is made of, each a mean.

    Attributes:
        energy: energy scores of half seconds.
        sliced: sliced Wasserstein distance.
        contact: mm beyond what :class:`MouthScore` lets through.
    """

    energy: Tensor
    sliced: Tensor
    contact: Tensor

    @property
    def total(self) -> Tensor:
        """Their weighted sum."""
        return ENERGY_WEIGHT * self.energy + SLICED_WEIGHT * self.sliced + CONTACT_WEIGHT * self.contact


class MouthScore:
    """Compares the mouths of sampled motions with those of the truth for the same sound.

    Of three kinds. The *energy score* (:mod:`facetalk.training.motion.distill_energy`) of half seconds, of
    the mouth's landmarks in mm with their velocities and of the logarithm of the lip gap. The *sliced
    Wasserstein distance* of values, slopes, bends and jerks, against jitter; beside the same sounds, since
    what is said decides most of it. And *contact*: within a frame of where the truth's lips are closed those
    of the sample should be, where the truth's lower lip is at the teeth its own should be, and where the
    truth is open it should not be shut.

    Args:
        model: the motion model, for its coordinates.
        lips: where the lips are on its head.
        apart: mouths of two noises gain by being apart no further than this many times two draws of the
            corpus, at a guidance of :data:`USUAL`; 0 = as far as it goes, but the less the more guidance.
        device: where the batches are.

    Raises:
        InputError: the model's weights are not expressions of the mouth.
    """

    def __init__(
        self, model: MotionModel, lips: Lips, *, apart: float = 1.0, device: torch.device | str = "cpu"
    ) -> None:
        self._apart = apart
        names, space = model.expression_names, model.representation
        if "mouthRollLower" not in names or len(names) != len(lips.points_mm):
            raise InputError(
                "the mouth of a corpus is known by its expressions (jawOpen, mouthRollLower, ...), and this "
                "model moves others; leave --mouth out"
            )
        chosen = mouth_indices(model)

        def tensor(array: object) -> Tensor:
            return torch.as_tensor(np.asarray(array), dtype=torch.float32, device=device)

        self._decode, self._mean = tensor(space.decode_matrix[chosen].T), tensor(space.mean[chosen])
        # Coordinates have variance 1 in the training motion, so this is what the landmarks do in it.
        moves = lips.points_mm[chosen].reshape(len(chosen), -1)
        _, sizes, axes = np.linalg.svd(space.decode_matrix[chosen].T @ moves, full_matrices=False)
        seen = sizes > _SEEN_MM
        self._axes = tensor(moves @ axes[seen].T)
        # Frames of two unlike mouths are about 1 apart, whatever the head.
        self._scale = float(np.sqrt(seen.sum() / (sizes**2).sum()))
        self._gap = tensor(lips.gap.per_unit_mm[chosen])
        self._lower = tensor(lips.lower_mm[chosen])
        # What does not count as mouth is taken to be at rest, as in the projection.
        self._rest_mm = lips.gap.rest_mm
        self._roll = chosen.index(names.index("mouthRollLower"))
        self._sliced = SlicedDistance(jerk=True, device=device)

    def __call__(
        self,
        first: Tensor,
        second: Tensor,
        twins: Tensor,
        guidance: Tensor,
        generator: torch.Generator,
        *,
        starts: bool = False,
    ) -> MouthParts:
        """How far the mouths are from the truth.

        Args:
            first, second: (B, L, K) motions of independent noises for the same sound.
            twins: (D, B, L, K) motions of the truth for it, at least two.
            guidance: (B,) weights that the motions were sampled with. More of it means likelier mouths: see
                :meth:`_reward`.
            generator: of the random mixtures of the sliced distance.
            starts: whether they all begin where a recording begins.
        """
        one, two, all_real = (self._shown(x) for x in (first, second, twins))
        both, twice = torch.cat([one, two]), all_real[:2].flatten(0, 1)
        energy = first.new_zeros(())
        real = self._windows(all_real.flatten(0, 1))
        for a, b, c in zip(self._windows(one), self._windows(two), real, strict=True):
            c = c.unflatten(0, (len(twins), -1))
            from_truth = (distance(a, c) + distance(b, c)).mean(0)
            energy = energy + 0.5 * (from_truth - self._reward(distance(a, b), c, guidance)).mean()
        mine, theirs = (torch.cat([x @ self._axes, self.gap_mm(x)[..., None]], dim=-1) for x in (both, twice))
        sliced = self._sliced(mine, theirs, generator, starts=starts)
        return MouthParts(energy, sliced, self._contact(both, twice))

    def _reward(self, spread: Tensor, truth: Tensor, guidance: Tensor) -> Tensor:
        """What two samples gain by being apart, (B, N).

        The energy score has their distance for it, which is proper: the samples are spread as all faces that
        go with the features are. But features do not tell everything that was said, so that is further than
        two speakers of the same sentence are apart, and lips shake between readings of what was hardly heard.
        So what is further than two draws of the truth gains nothing, and with more guidance even less does.

        Args:
            spread: (B, N) distances of windows of two samples.
            truth: (D, B, N, F) windows of draws of the truth.
            guidance: (B,).
        """
        weight = guidance.clamp_min(1.0)[:, None]
        if not self._apart:
            return spread / weight
        usual = torch.stack([distance(a, b) for a, b in itertools.combinations(truth, 2)]).mean(0)
        return torch.minimum(spread, self._apart * USUAL / weight * usual)

    def gap_mm(self, shown: Tensor) -> Tensor:
        """(..., E) weights of the mouth -> (...) gap in mm, below 0 where lips press."""
        return shown @ self._gap + self._rest_mm

    def _shown(self, motion: Tensor) -> Tensor:
        """(B, L, K) -> (B, L, E) weights of the mouth as they are shown."""
        return (motion @ self._decode + self._mean).clamp(0.0, 1.0)

    def _windows(self, shown: Tensor) -> list[Tensor]:
        """(B, L, E) -> twice (B, N, F): overlapping half seconds of the landmarks and of the lip gap."""
        near = torch.log1p(self.gap_mm(shown).clamp_min(0.0) / _SOFT_MM)[..., None]
        out = []
        for looked in (self._scale * (shown @ self._axes), near):
            both = torch.cat([looked[:, 1:], _VELOCITY * looked.diff(dim=1)], dim=-1)
            out.append(both.unfold(1, min(_WINDOW, both.shape[1]), _HOP).flatten(2))
        return out

    def _contact(self, sampled: Tensor, truth: Tensor) -> Tensor:
        """(B, L, E) twice -> mm beyond what is let through, a mean over the frames of each kind."""
        gap, wanted = self.gap_mm(sampled), self.gap_mm(truth)
        closed, opened = wanted < CLOSED_MM, wanted > OPEN_MM
        touched = truth[..., self._roll] > AT_TEETH_ROLL
        apart = _within_a_frame(gap)
        wide = relu(APART * wanted - apart)
        shut = relu(-_within_a_frame(-gap) - NEAR_MM)
        far = relu(self._from_teeth(sampled, truth) - TOUCH_MM)
        return CLOSURE * _mean_of(shut, closed) + TEETH * _mean_of(far, touched) + _mean_of(wide, opened)

    def _from_teeth(self, sampled: Tensor, truth: Tensor) -> Tensor:
        """(B, L): how near the lower lip comes, within a frame, to where the truth has it; mm."""
        place, lip = truth @ self._lower, sampled @ self._lower
        around = pad(lip.transpose(1, 2), (1, 1), mode="replicate").transpose(1, 2)
        count = lip.shape[1]
        apart = [(around[:, shift : shift + count] - place).square().sum(-1) for shift in range(3)]
        # The root of 0 has no slope.
        return (torch.stack(apart).amin(0) + 1e-6).sqrt()


def _within_a_frame(values: Tensor) -> Tensor:
    """(B, L) -> (B, L): the largest of each frame and its two neighbours."""
    return max_pool1d(values[:, None], 3, 1, 1)[:, 0]


def _mean_of(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean over the chosen; 0 without any."""
    return (values * chosen).sum() / chosen.sum().clamp_min(1)
