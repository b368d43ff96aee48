"""Settings of a distillation."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class DistillOptions:
    """Settings of a distillation.

    Attributes:
        steps: updates in all.
        batch, crop: crops per update and their frames.
        warm_up: frames of a crop without loss, the history that they need.
        rate: peak learning rate.
        guidance: range of the weight.
        uses: how often a frame of a trajectory is used, on average.
        energy: weight of the energy score of one step, 0 = none; it costs two more passes.
        life: weight of the distance of the upper face from the corpus's own, in all numbers of steps, 0 =
            none; with it the teacher is followed in the mouth alone.
        mouth: weight of the distance of the mouth from the corpus's own, in the same samples, 0 = none; with
            it the teacher has the mouth only at a fifth of its weight. Without ``life`` the upper face is
            held at what the student gave from the same noise before.
        starts: how much of what ``life`` and ``mouth`` look at begins where a recording begins, where faces
            do other things than in the middle: nobody has looked away yet. What begins elsewhere has no say
            in its warm-up.
        apart: how far apart mouths of two noises should be at most, see :class:`~.distill_mouth.MouthScore`.
        anchor: every n-th update teaches the teacher's answer at any timestep; 0 = never.
        settle: updates with the plain square and the teacher's states alone, before the robust loss and the
            student's own states; none where a student is taught further.
        seed: of everything random.
    """

    steps: int = 20_000
    batch: int = 16
    crop: int = 96
    warm_up: int = 24
    rate: float = 5e-4
    guidance: tuple[float, float] = (1.0, 2.5)
    uses: float = 10.0
    energy: float = 0.0
    life: float = 0.0
    mouth: float = 0.0
    starts: float = 0.5
    apart: float = 1.0
    anchor: int = 8
    settle: int = 3000
    seed: int = 0
