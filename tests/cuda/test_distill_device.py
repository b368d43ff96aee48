"""A student is taught where the GPU is: by the teacher's trajectories and by the corpus's faces. On a GPU."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from facetalk.diffusion import MotionModel
from facetalk.models import find_model
from facetalk.nphm.head.head import HeadModel
from facetalk.training.loop import LoopOptions, TrainingLoop
from facetalk.training.motion.dataset import MotionData
from facetalk.training.motion.distill import SHARES, DistillTraining, hold_out
from facetalk.training.motion.distill_cache import Cache, Teacher, grid, teacher_timesteps
from facetalk.training.motion.distill_options import DistillOptions
from facetalk.training.openings import lid_openings, lips_of

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")

FRAMES = 64


@pytest.mark.parametrize(
    ("life", "mouth", "energy", "starts"),
    [(0.0, 0.0, 0.1, 0.0), (1.0, 1.0, 0.0, 0.5), (0.0, 1.0, 0.0, 1.0), (1.0, 0.0, 0.0, 0.0)],
)
def test_distillation(tmp_path: Path, life: float, mouth: float, energy: float, starts: float) -> None:
    folder = find_model("default").folder
    motion, head = MotionModel.load(folder / "motion"), HeadModel.load(folder / "head")
    rng = np.random.default_rng(0)
    lengths = (100, 150)
    heard = [rng.normal(size=(length, 192)).astype(np.float16) for length in lengths]
    shown = [rng.uniform(0, 0.4, (2, length, len(motion.expression_names))).astype(np.float16)
             for length in lengths]  # fmt: skip
    states = grid(motion.schedule, tuple(SHARES))
    options = DistillOptions(
        steps=8,
        batch=6,
        crop=48,
        warm_up=12,
        anchor=3,
        settle=0,
        life=life,
        mouth=mouth,
        energy=energy,
        starts=starts,
    )
    teacher = Teacher(
        motion, heard, states, timesteps=teacher_timesteps(states, 1, 3), guidance=(1.0, 2.5), clips=3,
        frames=FRAMES,
    )  # fmt: skip
    taught = life + mouth > 0
    work = DistillTraining(
        motion, lid_openings(head), Cache(tmp_path / "cache", {}, keep=9), teacher,
        hold_out(teacher, 0, tmp_path / "held_out.npz"), options,
        start=motion.student, faces=MotionData(heard, shown) if taught else None,
        beginnings=MotionData(heard, shown) if taught and starts else None,
        lips=lips_of(head) if mouth else None,
    )  # fmt: skip
    loop = TrainingLoop(
        "t", tmp_path, {"student": work.net, "average": work.average}, work.optimizer,
        LoopOptions(steps=options.steps, log_every=1),
    )  # fmt: skip
    before = [value.detach().cpu().clone() for value in work.net.parameters()]
    result = loop.run(work.step, work.save)
    assert work.device.type == "cuda"
    assert math.isfinite(result["new_2_mm"])
    assert any(not torch.equal(a, b.cpu()) for a, b in zip(before, work.net.parameters(), strict=True))
    student = MotionModel.load(tmp_path / "model").student
    assert student is not None and not student.motion_in.weight.is_cuda
