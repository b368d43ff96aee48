"""The motion model: a trained denoiser, its coordinates, its sampler's defaults, and sampling of clips."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from facetalk.ambient import loading
from facetalk.arguments import real_number, whole_number
from facetalk.arrays import AnyFloat, Float32
from facetalk.diffusion import checkpoint
from facetalk.diffusion.cuda_graph import Replays
from facetalk.diffusion.denoiser import Denoiser
from facetalk.diffusion.lip_contact import LipContact
from facetalk.diffusion.noise import frame_noise
from facetalk.diffusion.representation import Representation
from facetalk.diffusion.sampler import Sampler
from facetalk.diffusion.schedule import NoiseSchedule
from facetalk.diffusion.stream import MotionStream
from facetalk.diffusion.student import Student, StudentRange
from facetalk.errors import InputError

Features = Tensor | AnyFloat | Iterable[Tensor]
"""(T, A) audio features, or an iterable of consecutive (n, A) pieces of them."""


class MotionModel:
    """Audio features in, blendshape weights or the codes of a learned space out.

    Attributes:
        denoiser: the network, in evaluation mode, on ``device``.
        representation: linear map between its coordinates and the weights.
        schedule: the noise schedule it was trained with.
        expression_names: names of the weights, E of them.
        default_steps, default_guidance: what :meth:`sample` uses when not told otherwise; where there is a
            student that covers the guidance, its default number of steps goes before.
        student, student_range: the few-step student and what it was trained for, or None.
        contact: lip contact, or None.
        limits: least and largest value of a weight; None for the codes of a learned space, which have none.
        feature_mean, feature_scale: (A,) standardisation of the audio features.
        replays: when sampling is replayed as one CUDA graph, ``replays.mode``.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        representation: Representation,
        *,
        expression_names: list[str],
        feature_mean: Tensor | None = None,
        feature_scale: Tensor | None = None,
        schedule: NoiseSchedule | None = None,
        default_steps: int = 25,
        default_guidance: float = 1.0,
        contact: LipContact | None = None,
        limits: tuple[float, float] | None = (0.0, 1.0),
        notes: dict[str, Any] | None = None,
        student: Student | None = None,
        student_range: StudentRange | None = None,
    ) -> None:
        config = denoiser.config
        if representation.dim != config.motion_dim:
            raise ValueError(
                f"representation has {representation.dim} values, the denoiser takes {config.motion_dim}"
            )
        if len(expression_names) != len(representation.mean):
            raise ValueError(
                f"got {len(expression_names)} names for {len(representation.mean)} expression weights"
            )
        self.denoiser = denoiser.eval().requires_grad_(False)
        self.representation = representation
        self.schedule = schedule or NoiseSchedule()
        self.expression_names = list(expression_names)
        self.default_steps, self.default_guidance = default_steps, default_guidance
        self.contact = contact
        self.limits = limits
        self.notes = dict(notes or {})
        self.student = None if student is None else student.eval().requires_grad_(False)
        self.student_range = student_range or StudentRange()
        self.replays = Replays()
        device = self.device
        self.feature_mean = torch.zeros(config.audio_dim) if feature_mean is None else feature_mean.detach()
        self.feature_scale = torch.ones(config.audio_dim) if feature_scale is None else feature_scale.detach()
        self.feature_mean, self.feature_scale = self.feature_mean.to(device), self.feature_scale.to(device)

    @property
    def device(self) -> torch.device:
        """Where the denoiser is."""
        return self.denoiser.motion_in.weight.device

    @property
    def expression_dim(self) -> int:
        """Number of weights E."""
        return len(self.expression_names)

    def stream(
        self,
        *,
        steps: int | None = None,
        guidance: float | None = None,
        seed: int = 0,
        kind: str = "ddim",
        eta: float = 0.0,
        student: bool | None = None,
    ) -> MotionStream:
        """Start a clip whose features arrive piece by piece; see :class:`MotionStream`.

        Arguments as those of :meth:`sample`.

        Raises:
            InputError: a setting is out of range.
        """
        steps = None if steps is None else whole_number("steps", steps)
        seed = whole_number("seed", seed)
        weight = self.default_guidance if guidance is None else real_number("guidance", guidance)
        if not 0.0 <= weight <= 20.0:
            raise InputError(f"guidance must lie in 0..20, got {guidance}")
        steps, denoiser = self._network(steps, weight, student, plain=kind == "ddim" and eta == 0.0)
        frame_noise(seed, 0, 0, 0, 1)
        sampler = Sampler(kind, steps, eta=eta, schedule=self.schedule)  # type: ignore[arg-type]
        return MotionStream(self, denoiser, sampler, weight, int(seed))

    def steps_for(self, steps: int | None, guidance: float | None = None) -> int:
        """The number of steps that :meth:`sample` takes when asked for ``steps`` with this guidance."""
        weight = self.default_guidance if guidance is None else float(guidance)
        return self._network(steps, weight, None, plain=True)[0]

    def _network(
        self, steps: int | None, weight: float, wanted: bool | None, *, plain: bool
    ) -> tuple[int, Denoiser]:
        """The number of steps and the network that takes them; ``plain``: DDIM without fresh noise."""
        able, known = self.student, self.student_range
        if wanted is False or able is None or not plain:
            if wanted:
                raise InputError(
                    "this motion model has no few-step student; make one with `facetalk distill`"
                    if able is None
                    else "the few-step student samples by DDIM without fresh noise; use kind 'ddim' and eta 0"
                )
            return self.default_steps if steps is None else steps, self.denoiser
        if steps is None and (known.covers(weight) or wanted):
            steps = known.default_steps
        if steps is None or (steps not in known.steps and not wanted):
            return self.default_steps if steps is None else steps, self.denoiser
        if steps not in known.steps:
            told = ", ".join(map(str, known.steps))
            raise InputError(f"the few-step student takes {told} steps, got {steps}")
        if not known.covers(weight):
            low, high = known.guidance
            raise InputError(
                f"with {steps} steps guidance must lie in {low:g}..{high:g}, for which the few-step student "
                f"was trained, got {weight:g}; other numbers of steps take any, 25 for instance"
            )
        return steps, able

    def sample(
        self,
        features: Features,
        *,
        steps: int | None = None,
        guidance: float | None = None,
        seed: int | None = None,
        kind: str = "ddim",
        eta: float = 0.0,
        student: bool | None = None,
        progress: bool | Callable[[int], None] | None = None,
        chunk: int = 250,
    ) -> Float32:
        """Sample the motion of a clip.

        Args:
            features: (T, A) audio features, or an iterable of pieces of them.
            steps: denoising steps, 1 to 1000. The numbers that the few-step student knows (1, 2, 4, 8) are
                taken by it where there is one.
            guidance: weight w of classifier-free guidance; 1 switches it off and, but for the student,
                halves the work.
            seed: noise seed; None draws a fresh one. The noise belongs to frames, so the same seed gives the
                same motion whatever ``chunk`` is (to rounding, about 1e-5).
            kind: "ddim", "ddpm" or "dpm++".
            eta: share of fresh noise in DDIM.
            student: True demands the few-step student, False the full model whatever the steps; None lets
                the number of steps decide.
            progress: True for a bar on stderr, or a function that is told the number of frames done.
            chunk: frames sampled at a time; bounds the memory when the denoiser has a bounded history.

        Returns:
            (T, E) float32 blendshape weights in 0..1, or codes without limits.

        Raises:
            InputError: a setting is out of range, or the features have the wrong size or are not finite.
        """
        if seed is None:
            seed = int.from_bytes(os.urandom(4), "little")
        stream = self.stream(steps=steps, guidance=guidance, seed=seed, kind=kind, eta=eta, student=student)
        chunk = whole_number("chunk", chunk)
        if chunk < 1:
            raise InputError(f"chunk must be at least 1 frame, got {chunk}")
        total = len(features) if isinstance(features, Tensor | np.ndarray) else None
        bar = tqdm(
            total=total, desc="motion", unit="frame", disable=progress is not True or not sys.stderr.isatty()
        )
        out: list[Float32] = []
        with bar:
            for piece in _pieces(features, chunk):
                out.append(stream.push(piece))
                bar.update(len(out[-1]))
                if callable(progress):
                    progress(sum(map(len, out)))
            out.append(stream.finish())
        return np.concatenate(out)

    def save(self, folder: str | os.PathLike[str], *, half: bool = False, force: bool = False) -> Path:
        """Write ``config.json``, ``model.safetensors`` and, where there is one, ``student.safetensors``.

        The folder is replaced as a whole.

        Args:
            folder: the place; its parent has to exist.
            half: store the network as float16, half the size; weights change by 1 in 2000 at most.
            force: replace the folder even if it holds other files than a motion model.

        Raises:
            InputError: the place cannot be written to, or holds what :meth:`save` did not write.
        """
        parts = {
            field.name: getattr(self, field.name) for field in dataclasses.fields(checkpoint.MotionContent)
        }
        checkpoint.write(folder, checkpoint.MotionContent(**parts), half=half, force=force)
        return Path(folder)

    @classmethod
    @loading
    def load(
        cls,
        folder: str | os.PathLike[str],
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> MotionModel:
        """Read a model written by :meth:`save`.

        Args:
            folder: where it was written to.
            device: where to run.
            dtype: what the denoiser computes in; float16 and bfloat16 need a CUDA device. Noise, steps and
                results stay float32.

        Raises:
            InputError: a file is missing, damaged, of another kind, or a tensor is missing or has the wrong
                shape.
        """
        return cls(**vars(checkpoint.read(Path(folder), device, dtype)))


def _pieces(features: Features, chunk: int) -> Iterator[Tensor | AnyFloat]:
    blocks = [features] if isinstance(features, Tensor | np.ndarray) else features
    for block in blocks:
        if block.ndim != 2:
            yield block  # refused with a message by the stream
            return
        for start in range(0, len(block), chunk):
            yield block[start : start + chunk]
