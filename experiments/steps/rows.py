"""Rows of the experiment and their motions, sampled once and kept.

A row is a sampler and a number of steps. Its motions lie in ``OUT/motions/ROW/CLIP.npz``, so that a run that
was broken off goes on where it stopped and figures can be computed anew without sampling.
"""

from __future__ import annotations

import dataclasses
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from facetalk.audio import load_audio
from facetalk.audio.encoder import AudioEncoder
from facetalk.audio.whisper_encoder import WhisperEncoder
from facetalk.data.expressions import with_upper_face
from facetalk.data.phones import Phone
from facetalk.diffusion.noise import INITIAL, frame_noise
from facetalk.diffusion.schedule import CLEAN
from facetalk.errors import InputError
from facetalk.files import atomic_path
from facetalk.metrics.reference import draw
from facetalk.pipeline import FaceTalk
from facetalk.reading import MANIFEST
from facetalk.training.motion.distill_audio import SUFFIXES, recordings
from facetalk.training.motion.distill_cache import grid, teacher_timesteps, trajectory

SAMPLERS = {
    "teacher": ("ddim", False),
    "student": ("ddim", True),
    "dpm++": ("dpm++", False),
    "converged": None,
    "truth": None,
}
CONVERGED_STEPS = 26
"""Steps of the finest trajectories of distillation; a "converged" row takes a multiple of them."""
_TRUTH_SEED = 2_000_003


@dataclasses.dataclass(frozen=True)
class Row:
    """A sampler and its steps.

    Attributes:
        sampler: "teacher" (DDIM, two passes a step), "student" (DDIM, one pass), "dpm++" (two passes),
            "converged" (two passes; DPM-Solver++ with its steps where the path bends, as in distillation), or
            "truth" (draws of what training saw, from the phones; no network).
        steps: number of steps.
        clips: only this many clips, for what takes very long; None = all.
        seeds: only this many seeds; None = all.
    """

    sampler: str
    steps: int
    clips: int | None = None
    seeds: int | None = None

    @property
    def name(self) -> str:
        """Such as "student-2"."""
        return f"{self.sampler}-{self.steps}"

    @property
    def passes(self) -> int:
        """Forward passes of the network, with guidance."""
        if self.sampler == "truth":
            return 0
        return self.steps if self.sampler == "student" else 2 * self.steps


@dataclasses.dataclass(frozen=True)
class Clip:
    """A recording that nothing was trained on.

    Attributes:
        name: unique, fit for a file.
        audio: the file.
        phones, alphabet: what is said when; empty where nobody knows.
    """

    name: str
    audio: Path
    phones: tuple[Phone, ...] = ()
    alphabet: str = ""


def find_clips(sources: Sequence[Path], most: int, shortest_s: float = 3.0) -> list[Clip]:
    """Held-out recordings: of a corpus those of its split "valid", of other folders all, by turns.

    Raises:
        InputError: a source has none.
    """
    groups: list[list[Clip]] = []
    for source in sources:
        if (source / MANIFEST).is_file():
            spoken = [u for u in recordings(source, "valid") if u.seconds >= shortest_s]
            group = [Clip(u.id.replace("/", "__"), u.audio, tuple(u.phones), u.alphabet) for u in spoken]
        else:
            files = sorted(path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES)
            group = [Clip(path.stem, path) for path in files]
        if not group:
            raise InputError(f"{source}: no recordings there")
        np.random.default_rng(0).shuffle(group)  # type: ignore[arg-type]
        groups.append(group)
    turns = [
        clip for turn in range(max(map(len, groups))) for group in groups for clip in group[turn : turn + 1]
    ]
    return turns[:most]


def clip_seed(clip: Clip, seed: int) -> int:
    """The seed of a clip's noise, the same in every row.

    Of its own for each clip: blinks and gaze follow from the noise more than from the sound, so one noise for
    all clips would be looked at again and again, and 24 clips with four seeds would tell of four seeds.
    """
    return 1000 * seed + zlib.crc32(clip.name.encode())


class Motions:
    """Sampled motions on disk."""

    def __init__(
        self,
        folder: Path,
        model: FaceTalk,
        *,
        seeds: int,
        guidance: float | None = None,
        look_ahead: float | None = None,
    ) -> None:
        self.folder, self.model, self.seeds = folder, model, seeds
        self.asked, self.look_ahead = guidance, look_ahead
        self.guidance = model.motion_model.default_guidance if guidance is None else guidance
        # What Whisper hears has a weight of its own for the mouth, where nobody asks for another.
        of_whisper = model.speech_encoder.guidance if guidance is None else None
        self.mouth_guidance: float = of_whisper or self.guidance
        self._features: dict[tuple[str, str], NDArray[np.float32]] = {}

    def file(self, row: Row, clip: Clip) -> Path:
        """Where the motions of a clip are."""
        return self.folder / row.name / f"{clip.name}.npz"

    def sample(self, row: Row, clips: Sequence[Clip]) -> None:
        """Sample what is missing of a row."""
        chosen = clips[: row.clips]
        (self.folder / row.name).mkdir(parents=True, exist_ok=True)
        for clip in tqdm(chosen, desc=row.name, unit="clip", mininterval=2.0):
            file = self.file(row, clip)
            if not file.is_file():
                weights, seconds = self._motion(row, clip)
                with atomic_path(file) as temporary:
                    np.savez(temporary, weights=weights, cpu_s=seconds)

    def load(self, row: Row, clip: Clip) -> tuple[NDArray[np.float32], float]:
        """(S, T, E) weights of the seeds, and the processor's seconds for one of them."""
        with np.load(self.file(row, clip), allow_pickle=False) as archive:
            return archive["weights"], float(archive["cpu_s"])

    def _motion(self, row: Row, clip: Clip) -> tuple[NDArray[np.float32], float]:
        model, names = self.model, self.model.any_head.expression_names
        heard = self._heard(clip, model.speech_encoder)
        motions, spent = [], []
        for seed in range(row.seeds or self.seeds):
            begun = time.process_time()
            if row.sampler == "truth":
                chance = _TRUTH_SEED + clip_seed(clip, seed)
                motions.append(draw(clip.phones, len(heard), self.model.config.fps, clip.alphabet, chance))
            elif self.look_ahead is not None:
                live = model.generate(
                    clip.audio, steps=row.steps, guidance=self.asked, seed=clip_seed(clip, seed), pad=0.0,
                    look_ahead=self.look_ahead,
                )  # fmt: skip
                motions.append(live.expressions)
            else:
                motions.append(self._sampled(row, heard, clip_seed(clip, seed), self.mouth_guidance))
                if model.speech_encoder is not model.audio_encoder:
                    own = self._heard(clip, model.audio_encoder)
                    upper = self._sampled(row, own, clip_seed(clip, seed), self.guidance)
                    motions[-1] = with_upper_face(motions[-1], upper, names)
            spent.append(time.process_time() - begun)
        return np.stack(motions), float(np.median(spent))

    def _sampled(
        self, row: Row, heard: NDArray[np.float32], seed: int, guidance: float
    ) -> NDArray[np.float32]:
        model, how = self.model.motion_model, SAMPLERS[row.sampler]
        if how is not None:
            kind, student = how
            return model.sample(
                heard, steps=row.steps, guidance=guidance, seed=seed, kind=kind, student=student
            )
        fine, states = row.steps // CONVERGED_STEPS, grid(model.schedule, model.student_range.steps)
        features = (torch.from_numpy(heard) - model.feature_mean) / model.feature_scale
        noise = frame_noise(seed, INITIAL, 0, len(heard), model.representation.dim)
        with torch.inference_mode():
            motion = trajectory(
                model.denoiser, model.schedule, teacher_timesteps(states, 2 * fine, 12 * fine),
                features[None], torch.from_numpy(noise)[None], torch.tensor([guidance]), [CLEAN],
            )  # fmt: skip
        weights = model.representation.decode(motion[0, 0].numpy()).clip(0.0, 1.0)
        return model.contact.apply(weights) if model.contact is not None else weights

    def _heard(self, clip: Clip, encoder: AudioEncoder | WhisperEncoder) -> NDArray[np.float32]:
        key = clip.name, type(encoder).__name__
        if key not in self._features:
            heard = encoder.features(load_audio(clip.audio), fps=self.model.config.fps)
            self._features[key] = heard.float().cpu().numpy()
        return self._features[key]
