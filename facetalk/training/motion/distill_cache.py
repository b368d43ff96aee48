"""The teacher's trajectories on disk: made by one process or several, used by the training, ever renewed.

A student learns the trajectories it sees by heart: trained 24 times on each of 640, it was twice as far from
the teacher on new noise as on theirs. So each is used some ten times, and the oldest give way to new ones. A
shard is one file of a batch of clips; producers only add shards, the trainer alone removes them. Where
several processes share a training, all of them add some and the main one removes them.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facetalk.arrays import Float32
from facetalk.diffusion.denoiser import Denoiser
from facetalk.diffusion.model import MotionModel
from facetalk.diffusion.sampler import dpm_step, guide
from facetalk.diffusion.schedule import CLEAN, NoiseSchedule
from facetalk.errors import InputError
from facetalk.files import atomic_path

_LEDGER = "ledger.json"


def grid(schedule: NoiseSchedule, steps: tuple[int, ...]) -> list[int]:
    """The timesteps that samplers with these numbers of steps pass through, noisiest first, then CLEAN."""
    visited = {timestep for count in steps for timestep in schedule.timesteps(count)}
    return [*sorted(visited, reverse=True), CLEAN]


def teacher_timesteps(states: list[int], between: int = 2, last: int = 12) -> list[int]:
    """Timesteps for the teacher: every state, some between neighbours, and more the nearer to clean.

    Below the last state the path bends most: steps of equal length everywhere leave nearly all of their error
    there. So the last stretch has ``last`` steps whose length falls linearly.

    Args:
        states: the grid, CLEAN at its end.
        between: steps from a state to the next.
        last: steps from the last noisy state to clean.

    Raises:
        InputError: not one step each.
    """
    if between < 1 or last < 1:
        raise InputError(f"the teacher needs at least one step between states, got {between} and {last}")
    visited = set()
    for state, after in itertools.pairwise(states[:-1]):
        visited |= {round(state - k * (state - after) / between) for k in range(between)}
    visited |= {round((states[-2] + 1) * (1.0 - k / last) ** 2) - 1 for k in range(last)}
    return sorted((timestep for timestep in visited if timestep >= 0), reverse=True)


@dataclasses.dataclass
class Clips:
    """Trajectories of a batch of clips.

    Attributes:
        features: (N, L, A) float16 standardised audio features.
        states: (N, S, L, K) float16 states x_t at the timesteps of the grid.
        guidance: (N,) float32 weights of guidance.
    """

    features: NDArray[np.float16]
    states: NDArray[np.float16]
    guidance: Float32

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.guidance)

    @property
    def frames(self) -> int:
        """Frames of all clips together."""
        return int(self.features.shape[0] * self.features.shape[1])


class Teacher:
    """Makes trajectories: the full model under guidance, by DPM-Solver++ (2M).

    Args:
        model: motion model; its full network is the teacher.
        features: per recording (T, A) audio features, not standardised.
        states: the grid of timesteps that are kept.
        timesteps: where the teacher steps, see :func:`teacher_timesteps`.
        guidance: range of the weights, drawn uniformly per clip.
        clips, frames: size of a batch.

    Raises:
        InputError: no recording is as long as a clip.
    """

    def __init__(
        self,
        model: MotionModel,
        features: list[NDArray[np.float16]],
        states: list[int],
        *,
        timesteps: list[int],
        guidance: tuple[float, float],
        clips: int,
        frames: int,
    ) -> None:
        self.net: Denoiser = model.denoiser
        self.dim = model.representation.dim
        self.mean, self.scale = model.feature_mean, model.feature_scale
        self.schedule, self.timesteps = model.schedule, timesteps
        self.states, self.guidance, self.clips, self.frames = states, guidance, clips, frames
        self.heard = [part for part in features if len(part) >= frames]
        if not self.heard:
            raise InputError(f"no recording is as long as {frames} frames; give longer ones or shorter clips")

    @torch.inference_mode()
    def make(self, rng: np.random.Generator) -> Clips:
        """A fresh batch of clips with fresh noise."""
        room = np.array([len(part) - self.frames + 1 for part in self.heard], np.float64)
        pieces = []
        for index in rng.choice(len(room), self.clips, p=room / room.sum()):
            start = int(rng.integers(int(room[index])))
            pieces.append(self.heard[index][start : start + self.frames])
        device = self.net.motion_in.weight.device
        heard = torch.from_numpy(np.stack(pieces)).to(device, torch.float32)
        # Rounded as the trainer will read them, so that both see the same sound.
        heard = ((heard - self.mean.to(device)) / self.scale.to(device)).half()
        weights = rng.uniform(*self.guidance, self.clips).astype(np.float32)
        noise = rng.standard_normal((self.clips, self.frames, self.dim), dtype=np.float32)
        states = trajectory(
            self.net,
            self.schedule,
            self.timesteps,
            heard.float(),
            torch.from_numpy(noise).to(device),
            torch.from_numpy(weights).to(device),
            self.states,
        )
        return Clips(heard.cpu().numpy(), states.half().cpu().numpy(), weights)


def trajectory(
    net: Denoiser,
    schedule: NoiseSchedule,
    timesteps: list[int],
    heard: Tensor,
    noise: Tensor,
    guidance: Tensor,
    states: list[int],
) -> Tensor:
    """States of guided sampling at some timesteps.

    Args:
        net: the teacher.
        schedule: its noise schedule.
        timesteps: where to step, noisiest first.
        heard: (N, L, A) standardised features.
        noise: (N, L, K) standard normal x_T.
        guidance: (N,) weights.
        states: of the timesteps, then CLEAN.

    Returns:
        (N, S, L, K).
    """
    condition = net.guided_condition(heard)
    weight = guidance[:, None, None]
    kept: dict[int, Tensor] = {}
    sample, before = noise, None
    for timestep, previous in itertools.pairwise([*timesteps, CLEAN]):
        kept[timestep] = sample
        at = torch.tensor([timestep], device=sample.device)
        answers, _ = net(torch.cat([sample, sample]), at, condition)
        with_audio, without = answers.chunk(2)
        clean = guide(with_audio, without, weight)
        sample = dpm_step(schedule, sample, clean, timestep, previous, before)
        before = (timestep, clean)
    kept[CLEAN] = sample
    return torch.stack([kept[timestep] for timestep in states], dim=1)


class Cache:
    """A folder of shards.

    Args:
        folder: the place; made if missing.
        settings: what the trajectories depend on; shards of other settings are refused.
        keep: how many of the newest shards are kept.

    Raises:
        InputError: the folder holds trajectories of another teacher or of other settings.
    """

    def __init__(self, folder: Path, settings: dict[str, object], *, keep: int) -> None:
        self.folder, self.keep = folder, keep
        folder.mkdir(parents=True, exist_ok=True)
        mark = folder / "settings.json"
        told = json.dumps(settings, sort_keys=True)
        if mark.is_file() and mark.read_text() != told:
            raise InputError(
                f"{folder} holds trajectories of another teacher or of other settings; use another --out or "
                "remove that folder"
            )
        if not mark.is_file():
            with atomic_path(mark) as temporary:
                temporary.write_text(told)
        self._live: dict[str, Clips] = {}
        self._made: dict[str, int] = {}
        if (folder / _LEDGER).is_file():
            self._made = json.loads((folder / _LEDGER).read_text())

    def add(self, clips: Clips, producer: int, number: int) -> None:
        """Write a shard; it is whole from the moment it can be seen."""
        with atomic_path(self.folder / f"{producer:03d}-{number:07d}.npz") as temporary:
            np.savez(temporary, **dataclasses.asdict(clips))

    def next_number(self, producer: int) -> int:
        """The number of this producer's next shard; numbers are never used twice."""
        last = [int(path.stem[4:]) for path in self.folder.glob(f"{producer:03d}-*.npz")]
        return max([*last, self.made_by(producer) - 1]) + 1

    def made_by(self, producer: int) -> int:
        """Shards that this producer had ever made when this process last looked."""
        return self._made.get(f"{producer:03d}", -1) + 1

    def crowded(self) -> bool:
        """Whether so many shards wait for the trainer that a producer should pause."""
        return sum(1 for _ in self.folder.glob("*.npz")) > 2 * self.keep

    def refresh(self) -> None:
        """Read what is new and drop what is old; for the trainer."""
        for path in sorted(self.folder.glob("*.npz")):
            if path.name in self._live:
                continue
            self._read(path)
            producer, number = path.stem.split("-")
            self._made[producer] = max(self._made.get(producer, -1), int(number))
        newest = sorted(self._live, key=lambda name: (name[4:], name))
        for name in newest[: -self.keep]:
            del self._live[name]
            (self.folder / name).unlink(missing_ok=True)
        with atomic_path(self.folder / _LEDGER) as temporary:
            temporary.write_text(json.dumps(self._made))

    def follow(self) -> None:
        """Take over what another process's :meth:`refresh` has just left: the same shards and the same count.

        Raises:
            InputError: that process wrote to another folder.
        """
        ledger = self.folder / _LEDGER
        if not ledger.is_file():
            raise InputError(
                f"{self.folder} has nothing of the launch's main process; all of its processes need the same "
                "--out, on a disk that they share"
            )
        self._made = json.loads(ledger.read_text())
        # A producer beside the training may have added more since then, which others would not count yet.
        kept = {
            path.name: path
            for path in self.folder.glob("*.npz")
            if int(path.stem.split("-")[1]) <= self._made.get(path.stem.split("-")[0], -1)
        }
        for name in self._live.keys() - kept.keys():
            del self._live[name]
        for name in sorted(kept.keys() - self._live.keys()):
            self._read(kept[name])

    def _read(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as archive:
            self._live[path.name] = Clips(archive["features"], archive["states"], archive["guidance"])

    @property
    def shards_made(self) -> int:
        """Shards ever made here."""
        return sum(number + 1 for number in self._made.values())

    @property
    def frames_made(self) -> int:
        """Frames of all trajectories ever made here, those that are gone included."""
        if not self._live:
            return 0
        return self.shards_made * next(iter(self._live.values())).frames

    def crops(self, rng: np.random.Generator, count: int, length: int) -> Clips:
        """Random stretches of random live clips.

        Raises:
            ValueError: nothing is there yet.
        """
        if not self._live:
            raise ValueError("the cache is empty")
        names = sorted(self._live)
        picked = []
        for _ in range(count):
            clips = self._live[names[int(rng.integers(len(names)))]]
            row = int(rng.integers(len(clips)))
            start = int(rng.integers(clips.features.shape[1] - length + 1))
            cut = slice(start, start + length)
            picked.append((clips.features[row, cut], clips.states[row, :, cut], clips.guidance[row]))
        features, states, guidance = zip(*picked, strict=True)
        return Clips(np.stack(features), np.stack(states), np.array(guidance, np.float32))


def produce(
    cache: Cache,
    teacher: Teacher,
    *,
    producer: int,
    seed: int,
    go_on: Callable[[int], bool],
    on_shard: Callable[[int], None] = lambda _: None,
) -> int:
    """Add shards until ``go_on(shards made)`` says no; waits while the trainer lags behind.

    Returns:
        Shards made.
    """
    made = 0
    while go_on(made):
        if cache.crowded():
            time.sleep(1.0)
            continue
        number = cache.next_number(producer)
        cache.add(teacher.make(np.random.default_rng((seed, producer, number))), producer, number)
        made += 1
        on_shard(made)
    return made
