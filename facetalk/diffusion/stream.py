"""Sampling a clip piece by piece."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from facetalk.ambient import plainly
from facetalk.arrays import AnyFloat, Float32
from facetalk.diffusion.cuda_graph import Past, Replays
from facetalk.diffusion.denoiser import Denoiser
from facetalk.diffusion.lip_contact import LipContact
from facetalk.diffusion.noise import frame_noise
from facetalk.diffusion.representation import Representation
from facetalk.diffusion.sampler import Sampler, guide
from facetalk.errors import InputError
from facetalk.ops import set_threads, threads

_ONE_THREAD_WIDTH = 256
"""Up to this width a layer takes less time than threads take to meet at its end."""


class Parts(Protocol):
    """What a stream needs of a motion model beside the network; see :class:`~.model.MotionModel`."""

    representation: Representation
    contact: LipContact | None
    feature_mean: Tensor
    feature_scale: Tensor
    replays: Replays

    @property
    def device(self) -> torch.device:
        """Where the network is."""

    @property
    def expression_dim(self) -> int:
        """Number of weights E."""


class MotionStream:
    """Samples a clip in pieces, each as soon as its features are there.

    The denoiser is causal, so a piece needs of the past only the keys and values that each layer computed at
    each denoising step; they are kept (``history`` frames of them). The result equals sampling the whole clip
    at once, to rounding.
    """

    @plainly
    def __init__(
        self, model: Parts, denoiser: Denoiser, sampler: Sampler, guidance: float, seed: int
    ) -> None:
        self.model, self.sampler, self.guidance, self.seed = model, sampler, guidance, seed
        self.denoiser = denoiser
        self.frames_done = 0
        self._past: Past | None = None
        self._heard = torch.zeros(0, denoiser.config.audio_dim, device=model.device, dtype=torch.float32)
        self._context = 0

    @plainly
    def push(self, features: Tensor | AnyFloat) -> Float32:
        """Take the next (n, A) features, give the weights (m, E) of the frames that can be finished.

        With an alignment window that looks ahead by r frames, the last r frames wait for the next call.

        Raises:
            InputError: the features have the wrong size or are not finite.
        """
        self._hear(features)
        return self._advance(len(self._heard) - self._context - self.denoiser.config.window[1])

    @plainly
    def finish(self) -> Float32:
        """The weights of the frames that were still waiting, possibly none."""
        return self._advance(len(self._heard) - self._context)

    def _hear(self, features: Tensor | AnyFloat) -> None:
        model = self.model
        given = torch.as_tensor(features, dtype=torch.float32, device=model.device)
        if given.ndim != 2 or given.shape[1] != self.denoiser.config.audio_dim:
            size = self.denoiser.config.audio_dim
            raise InputError(
                f"audio features must have shape (T, {size}) for this motion model, got "
                f"{tuple(given.shape)}; audio encoder and motion model must belong together"
            )
        if not torch.isfinite(given).all():
            raise InputError("audio features have values that are not finite")
        self._heard = torch.cat([self._heard, (given - model.feature_mean) / model.feature_scale])

    @torch.inference_mode()
    def _advance(self, count: int) -> Float32:
        model, start = self.model, self.frames_done
        if count <= 0:
            return np.zeros((0, model.expression_dim), np.float32)
        left, right = self.denoiser.config.window
        batch = self._heard[None, : self._context + count + right]

        def noise(index: int) -> Tensor:
            values = frame_noise(self.seed, index, start, start + count, model.representation.dim)
            return torch.from_numpy(values)[None]

        replay = model.replays.find(
            self.denoiser,
            self.sampler,
            self.guidance,
            frames=count,
            before=self._past[0][0].key.shape[2] if self._past else 0,
            heard=batch.shape[1],
            offset=self._context,
        )
        with _threads_that_pay(self.denoiser):
            if replay is None:
                sample = self._loop(batch, noise)
            else:
                drawn = torch.stack([noise(index) for index in replay.noise_indices])
                sample, self._past = replay.run(batch, drawn, self._past)
            coordinates = sample[0].cpu().numpy()
        keep = min(self._context + count, left)
        self._heard = self._heard[self._context + count - keep :].clone()
        self._context = keep
        self.frames_done += count
        decoded = model.representation.decode(coordinates)
        if not np.isfinite(decoded).all():
            raise InputError(
                "the motion model gives numbers that are not finite: its weights are damaged, or the audio "
                "encoder is not the one that it was trained with"
            )
        weights = decoded.clip(0.0, 1.0)
        return model.contact.apply(weights) if model.contact is not None else weights

    def _loop(self, batch: Tensor, noise: Callable[[int], Tensor]) -> Tensor:
        """The sampling loop, launched step by step: (1, heard, A) features -> (1, frames, E)."""
        denoiser, guided = self.denoiser, self.denoiser.guided(self.guidance)
        prepare = denoiser.guided_condition if guided else denoiser.condition
        condition = prepare(batch, offset=self._context)
        past, kept, pairs = self._past, [], self.sampler.transitions

        def predict(index: int, _timestep: int, sample: Tensor) -> Tensor:
            noisy = sample.expand(2, -1, -1) if guided else sample
            at = denoiser.at(*pairs[index], self.guidance)
            clean, after = denoiser(noisy, at, condition, past[index] if past else None)
            kept.append(after)
            return guide(clean[:1], clean[1:], self.guidance) if guided else clean

        sample = self.sampler.run(predict, lambda index: noise(index).to(self.model.device))
        self._past = kept
        return sample


@contextlib.contextmanager
def _threads_that_pay(denoiser: Denoiser) -> Iterator[None]:
    """One thread for narrow networks on the CPU: thousands of tiny layers, and a barrier after each.

    On two busy cores a clip of 10 s took 0.14 s with one thread and up to 9 s with two.
    """
    if denoiser.config.width > _ONE_THREAD_WIDTH or denoiser.motion_in.weight.device.type != "cpu":
        yield
        return
    before = torch.get_num_threads(), threads()
    torch.set_num_threads(1)
    set_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        set_threads(before[1])
