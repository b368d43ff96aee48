"""``facetalk distill``: few-step students from the teacher's trajectories.

The recipe is explained, with its figures, in docs/distillation.md. In short: the teacher samples recordings
under guidance; a student learns to go from one state of such a trajectory to another in one step; what it has
seen is replaced continuously, or it would learn the noise by heart.
"""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facetalk.diffusion.model import MotionModel
from facetalk.diffusion.sampler import guide
from facetalk.diffusion.schedule import CLEAN
from facetalk.diffusion.student import Student, StudentRange
from facetalk.files import atomic_path
from facetalk.reading import usable
from facetalk.training.loop import follow
from facetalk.training.motion.dataset import MotionData
from facetalk.training.motion.distill_cache import Cache, Clips, Teacher, grid
from facetalk.training.motion.distill_energy import EnergyScore
from facetalk.training.motion.distill_life import Faces, LifeScore, mouth_projection
from facetalk.training.motion.distill_loss import NARROW, WIDE, DistillLoss, Steps
from facetalk.training.motion.distill_mouth import FOLLOWED, HELD, MouthScore
from facetalk.training.motion.distill_options import DistillOptions
from facetalk.training.openings import Lips, Opening
from facetalk.training.processes import (
    by_main_process,
    is_main_process,
    process_count,
    process_index,
    step_generator,
)

SHARES = {1: 0.35, 2: 0.4, 4: 0.15, 8: 0.1}
"""How much of the training each number of steps gets."""
LIFE_SHARES = {1: 0.25, 2: 0.35, 4: 0.35, 8: 0.05}
"""The same of the distance of life, whose cost is every step's."""
_TRUTHS, _ENOUGH = 8, 128
"""Motions of the truth for each sound that is sampled, fewer where a batch of them is enough; even, since two
motions are sampled."""
_ON_POLICY = 0.5
"""How often a later step starts from where the student itself got to, not from the teacher's state."""
_ON_POLICY_COUNTS = (2, 4)
_LOOK_EVERY, _MEASURE_EVERY = 25, 250
_FIRST_SHARDS = 4


class DistillTraining:
    """The training step and what it needs.

    Attributes:
        net: the student that is trained.
        average: its exponential moving average, which is what gets saved.
        optimizer: AdamW over ``net``.
    """

    def __init__(
        self,
        model: MotionModel,
        lids: list[Opening],
        cache: Cache,
        teacher: Teacher,
        held_out: Clips,
        options: DistillOptions,
        *,
        start: Student | None = None,
        faces: MotionData | None = None,
        beginnings: MotionData | None = None,
        lips: Lips | None = None,
        notes: dict[str, Any] | None = None,
    ) -> None:
        self.model, self.cache, self.teacher, self.options = model, cache, teacher, options
        self.net = (copy.deepcopy(start) if start is not None else Student.of(model.denoiser)).train()
        self.net.requires_grad_(True)
        self.average = copy.deepcopy(self.net).eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self.net.parameters(), lr=options.rate, betas=(0.9, 0.99), weight_decay=0.0
        )
        # A student that was taught before has settled.
        self._settle = options.settle if start is None else 0
        self.counts = tuple(SHARES)
        self.grid = grid(model.schedule, self.counts)
        self.notes = dict(notes or {})
        self._place = {timestep: row for row, timestep in enumerate(self.grid)}
        self._pairs = {count: model.schedule.transitions(count) for count in self.counts}
        self._lids, self._lips, self._held_out, self._faces = lids, lips, held_out, faces
        if (options.life + options.mouth > 0.0) != (faces is not None):
            raise ValueError("faces to compare with are needed with a weight of life or mouth, and only then")
        if (options.mouth > 0.0) != (lips is not None):
            raise ValueError("lips are needed with a weight of the mouth, and only then")
        self._beginnings = beginnings
        if (faces is not None and options.starts > 0.0) != (beginnings is not None):
            raise ValueError("beginnings of recordings are needed where faces start there, and only then")
        self._before = copy.deepcopy(self.average) if options.mouth and not options.life else None
        self._tools: tuple[Steps, DistillLoss] | None = None
        self._held: dict[str, Tensor] = {}
        self._scale_mm = torch.from_numpy(model.representation.scale_mm).float()

    @property
    def device(self) -> torch.device:
        """Where the student is; the training loop places it."""
        return self.net.motion_in.weight.device

    def step(self, index: int) -> dict[str, Tensor]:
        """One batch: the loss and its parts. Now and then measures the student on new and on used noise."""
        if self._tools is None:
            device = self.device
            self.model.denoiser.to(device)
            life = self._faces is not None
            lossy = DistillLoss(
                self.model,
                [] if life else self._lids,
                warm_up=self.options.warm_up,
                keep=mouth_projection(self.model) if life else None,
                device=device,
            )
            self._tools = Steps(self.model.schedule, device), lossy
            if self._faces is not None:
                self._within = Faces(self._faces, self.model, device=device)
            if self._beginnings is not None:
                self._first = Faces(self._beginnings, self.model, device=device, starts=True)
            self._life = LifeScore(self.model, device=device)
            self._mouth = None
            if self._lips is not None:
                self._mouth = MouthScore(self.model, self._lips, apart=self.options.apart, device=device)
        self._supply(index)
        follow(self.average, self.net, index)
        rng = step_generator(self.options.seed, index)
        clips = self.cache.crops(rng, self.options.batch, self.options.crop)
        every = self.options.anchor
        if self._faces is not None and index % 2 == 0:
            # Under a name of its own in the log, and by turns with the rest, which has the mouth alone.
            losses = self._lived(rng)
        elif every and index % every == every - 1:
            losses = self._anchor(clips, rng)
        else:
            losses = self._flow(clips, rng, settled=index >= self._settle)
            if self.options.energy:
                score = self._energy(clips, rng)
                losses = {**losses, "energy": score, "loss": losses["loss"] + self.options.energy * score}
        if self._lips is not None and "mouth" not in losses:
            losses = {**losses, "loss": FOLLOWED * losses["loss"]}
        if index % _MEASURE_EVERY == 0 or not self._held:
            self._measure(np.random.default_rng((self.options.seed, index, 1)))
        return {**losses, **self._held}

    def save(self, out: Path) -> None:
        """Write the teacher with the averaged student to ``out/model``."""
        notes = {**self.notes, "frames_of_trajectories": self.cache.frames_made}
        notes |= {name: round(float(value), 4) for name, value in self._held.items()}
        model = copy.copy(self.model)
        model.student = copy.deepcopy(self.average).cpu()
        model.student_range = StudentRange(self.counts, self.options.guidance, notes=notes)
        model.save(out / "model", half=True)

    def _supply(self, index: int) -> None:
        """Look for new trajectories, and make some if those there have been used enough.

        The processes of a launch use the same ones, and make them side by side: what one process alone would
        make next, the others make after it.
        """
        if index % _LOOK_EVERY == 0 or not self.cache.frames_made:
            self._look()
        drawn = (index + 1) * self.options.batch * self.options.crop * process_count()
        while self.cache.shards_made < _FIRST_SHARDS or drawn > self.options.uses * self.cache.frames_made:
            number = self.cache.made_by(0) + process_index()
            rng = np.random.default_rng((self.options.seed, 0, number))
            self.cache.add(self.teacher.make(rng), 0, number)
            self._look()

    def _look(self) -> None:
        """Have the same live trajectories in all processes; the main one alone removes some."""
        by_main_process(self.cache.refresh, "Reading the trajectories")
        if not is_main_process():
            self.cache.follow()

    def _tensors(self, clips: Clips) -> tuple[Tensor, Tensor, Tensor]:
        return (
            torch.from_numpy(clips.features).to(self.device, torch.float32),
            torch.from_numpy(clips.states).to(self.device, torch.float32),
            torch.from_numpy(clips.guidance).to(self.device),
        )

    def _flow(self, clips: Clips, rng: np.random.Generator, *, settled: bool) -> dict[str, Tensor]:
        """Each example of the batch: one step of the way that some number of steps takes."""
        steps, lossy = self._both()
        features, states, guidance = self._tensors(clips)
        counts = rng.choice(self.counts, len(clips), p=list(SHARES.values()))
        positions = [int(rng.integers(count)) for count in counts]
        pairs = [self._pairs[int(count)][position] for count, position in zip(counts, positions, strict=True)]
        timesteps, ends = (torch.tensor(column, device=self.device) for column in zip(*pairs, strict=True))
        condition = self.net.condition(features)
        rows = torch.arange(len(clips), device=self.device)
        places = [torch.tensor([self._place[int(t)] for t in column]) for column in (timesteps, ends)]
        sample, end = states[rows, places[0]], states[rows, places[1]]
        if settled:
            ways = [(count, position) if count in _ON_POLICY_COUNTS else (count, 0)
                    for count, position in zip(counts.tolist(), positions, strict=True)]  # fmt: skip
            own = rng.random(len(clips)) < _ON_POLICY
            for count, position in sorted({way for way in ways if way[1]}):
                chosen = [row for row, way in enumerate(ways) if own[row] and way == (count, position)]
                if chosen:
                    way = self._pairs[count][:position]
                    sample[chosen] = self._walk(features[chosen], states[chosen, 0], guidance[chosen], way)
        target = steps.target(sample, end, timesteps, ends)
        answer, _ = self.net(sample, torch.stack([timesteps, ends, guidance], -1), condition)
        width = NARROW if settled else WIDE
        return lossy(answer, target, steps.importance(timesteps, ends), ends == CLEAN, width=width)

    def _lived(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """Upper face, and mouth, from two fresh noises, in some number of steps, beside the truth."""
        starts = bool(rng.random() < self.options.starts)
        faces, warm_up = (self._first, 0) if starts else (self._within, self.options.warm_up)
        count = int(rng.choice(list(LIFE_SHARES), p=list(LIFE_SHARES.values())))
        batch = self.options.batch
        many = max(2, min(_TRUTHS, _ENOUGH // batch // 2 * 2)) if self._before is None else 1
        drawn = faces.draw(rng, many * batch, self.options.crop, batch)
        noise = rng.standard_normal((2 * batch, *drawn.truth.shape[1:]), dtype=np.float32)
        guidance = torch.from_numpy(rng.uniform(*self.options.guidance, batch).astype(np.float32))
        told = (
            drawn.heard.repeat(2, 1, 1),
            torch.from_numpy(noise).to(self.device),
            guidance.to(self.device).repeat(2),
            self._pairs[count],
        )
        # In the middle of a recording what comes before is missing from the crop, but not in use.
        sampled = self._walked(self.net, *told)[:, warm_up:]
        first, second = sampled.chunk(2)
        truth, twins = drawn.truth[:, warm_up:], drawn.twins[:, :, warm_up:]
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        if self._before is None:
            life = self._life(first, second, truth[:batch], truth, generator, starts=starts)
            losses = {"loss": self.options.life * life, "life_start" if starts else "life": life}
        else:
            with torch.no_grad():
                was = self._walked(self._before.to(self.device), *told)[:, warm_up:]
            held = self._life.apart(sampled, was)
            losses = {"loss": HELD * held, "held": held}
        if self._mouth is not None:
            parts = self._mouth(first, second, twins, guidance.to(self.device), generator, starts=starts)
            losses["loss"] = losses["loss"] + self.options.mouth * parts.total
            losses |= {"mouth": parts.total}
            losses |= {f"mouth_{name}": getattr(parts, name) for name in ("energy", "sliced", "contact")}
        return losses

    @torch.no_grad()
    def _walk(self, features: Tensor, noise: Tensor, guidance: Tensor, way: list[tuple[int, int]]) -> Tensor:
        """As :meth:`_walked`, without a gradient."""
        return self._walked(self.net, features, noise, guidance, way)

    def _walked(
        self, net: Student, features: Tensor, noise: Tensor, guidance: Tensor, way: list[tuple[int, int]]
    ) -> Tensor:
        """A student's own states at the end of a way, (B, L, K), from x_T (B, L, K)."""
        steps, _ = self._both()
        sample, condition, size = noise, net.condition(features), len(noise)
        weights = guidance.expand(size)
        for timestep, previous in way:
            at = [torch.full((size,), value, device=self.device) for value in (timestep, previous)]
            answer, _ = net(sample, torch.stack([*at, weights], -1), condition)
            sample = steps.move(sample, answer, *at)
        return sample

    def _energy(self, clips: Clips, rng: np.random.Generator) -> Tensor:
        """The energy score of one step from two fresh noises, against the teacher's motion of another."""
        _, lossy = self._both()
        features, states, guidance = self._tensors(clips)
        shape = (2 * len(clips), *states[:, -1].shape[1:])
        noise = torch.from_numpy(rng.standard_normal(shape, dtype=np.float32)).to(self.device)
        at = [torch.full((len(noise),), float(value), device=self.device) for value in self._pairs[1][0]]
        condition = self.net.condition(features.repeat(2, 1, 1))
        answers, _ = self.net(noise, torch.stack([*at, guidance.repeat(2)], -1), condition)
        first, second = answers.chunk(2)
        return EnergyScore(lossy)(first, second, states[:, -1])

    def _anchor(self, clips: Clips, rng: np.random.Generator) -> dict[str, Tensor]:
        """The teacher's own answer, at any timestep and for a step to the next of all its timesteps."""
        _, lossy = self._both()
        features, states, guidance = self._tensors(clips)
        schedule = self.model.schedule
        timesteps = torch.from_numpy(rng.integers(0, schedule.train_steps, len(clips))).to(self.device)
        noise = torch.from_numpy(rng.standard_normal(states[:, -1].shape, dtype=np.float32)).to(self.device)
        noisy = schedule.add_noise(states[:, -1], noise, timesteps)
        with torch.no_grad():
            both = self.model.denoiser.guided_condition(features)
            clean, _ = self.model.denoiser(torch.cat([noisy, noisy]), timesteps.repeat(2), both)
            with_audio, without = clean.chunk(2)
            target = guide(with_audio, without, guidance[:, None, None])
        answer, _ = self.net(
            noisy, torch.stack([timesteps, timesteps - 1, guidance], -1), self.net.condition(features)
        )
        whole = torch.ones(len(clips), device=self.device)
        never = torch.zeros(len(clips), dtype=torch.bool, device=self.device)
        # Under a name of its own in the log; the other parts would jump with it.
        return {"loss": lossy(answer, target, whole, never, width=WIDE)["error"]}

    def _both(self) -> tuple[Steps, DistillLoss]:
        assert self._tools is not None
        return self._tools

    @torch.no_grad()
    def _measure(self, rng: np.random.Generator) -> None:
        """Root mean squared error in mm of one and two steps: of held-out voices and noise, of used ones."""
        count, frames = len(self._held_out), self._held_out.features.shape[1]
        used = self.cache.crops(rng, count, frames)
        errors: dict[str, Tensor] = {}
        trained, self.net = self.net, self.average
        try:
            for name, clips in (("new", self._held_out), ("used", used)):
                features, states, guidance = self._tensors(clips)
                for steps in (1, 2):
                    sample = self._walk(features, states[:, 0], guidance, self._pairs[steps])
                    error = (sample - states[:, -1])[:, self.options.warm_up :] * self._scale_mm.to(
                        self.device
                    )
                    errors[f"{name}_{steps}_mm"] = error.square().sum(-1).mean().sqrt()
        finally:
            self.net = trained
        errors["ratio"] = errors["new_1_mm"] / errors["used_1_mm"]
        self._held = errors


def hold_out(teacher: Teacher, seed: int, file: Path) -> Clips:
    """The trajectories that errors on new noise are measured on, made once and kept in a file."""
    if not file.is_file():
        clips = teacher.make(np.random.default_rng((seed, 1_000_000)))
        with atomic_path(file) as temporary, temporary.open("wb") as out:
            np.savez(out, **dataclasses.asdict(clips))
    with usable(file, "remove it, and it is made again"), np.load(file, allow_pickle=False) as archive:
        return Clips(archive["features"], archive["states"], archive["guidance"])
