"""Sampling a clip piece by piece."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from facetalk.ambient import plainly
from facetalk.arrays import AnyFloat, Float32
from facetalk.diffusion.attention import KeyValue
from facetalk.diffusion.cuda_graph import Past, Replays
from facetalk.diffusion.denoiser import Condition, Denoiser
from facetalk.diffusion.lip_contact import LipContact
from facetalk.diffusion.noise import frame_noise
from facetalk.diffusion.representation import Representation
from facetalk.diffusion.sampler import Sampler, guide
from facetalk.errors import InputError
from facetalk.interrupts import Uninterrupted
from facetalk.ops import set_threads, threads

_ONE_THREAD_WIDTH = 256
"""Up to this width a layer takes less time than threads take to meet at its end."""


_FRAMES_FOR_TWO = 64
"""From this many frames on, the two passes of guidance take longer than their threads take to meet."""

Forward = Callable[..., Any]
"""What a network is called as; see :meth:`Denoiser.forward`."""


class Parts(Protocol):
    """What a stream needs of a motion model beside the network; see :class:`~.model.MotionModel`."""

    representation: Representation
    contact: LipContact | None
    limits: tuple[float, float] | None
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
        with _threads_that_pay(self.denoiser) as spare:
            if replay is None:
                sample = self._loop(batch, noise, side_by_side=spare and count >= _FRAMES_FOR_TWO)
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
        weights = decoded if model.limits is None else decoded.clip(*model.limits)
        return model.contact.apply(weights) if model.contact is not None else weights

    def _loop(self, batch: Tensor, noise: Callable[[int], Tensor], *, side_by_side: bool = False) -> Tensor:
        """The sampling loop, launched step by step: (1, heard, A) features -> (1, frames, E).

        Args:
            batch: features.
            noise: by index.
            side_by_side: have a thread for each of the two passes of guidance.
        """
        denoiser, guided = self.denoiser, self.denoiser.guided(self.guidance)
        prepare = denoiser.guided_condition if guided else denoiser.condition
        condition = prepare(batch, offset=self._context)
        past, kept, pairs = self._past, [], self.sampler.transitions

        def predict(index: int, _timestep: int, sample: Tensor) -> Tensor:
            noisy = sample.expand(2, -1, -1) if guided else sample
            at = denoiser.at(*pairs[index], self.guidance)
            clean, after = forward(noisy, at, condition, past[index] if past else None)
            kept.append(after)
            return guide(clean[:1], clean[1:], self.guidance) if guided else clean

        with contextlib.ExitStack() as stack:
            forward: Forward = denoiser
            if guided and side_by_side:
                forward = TwoPasses(denoiser, stack.enter_context(ThreadPoolExecutor(1)))
            sample = self.sampler.run(predict, lambda index: noise(index).to(self.model.device))
        self._past = kept
        return sample


class TwoPasses:
    """The two passes of guidance, each in a thread of its own, with the face of the network.

    They meet once a step, where threads inside the layers would meet thousands of times.

    Args:
        denoiser: the network.
        helper: a pool of one thread, which takes the second half of every batch.
    """

    def __init__(self, denoiser: Denoiser, helper: ThreadPoolExecutor) -> None:
        self._denoiser, self._helper = denoiser, helper

    def __call__(
        self, noisy: Tensor, timesteps: Tensor, condition: Condition, past: list[KeyValue] | None
    ) -> tuple[Tensor, list[KeyValue]]:
        """As :meth:`Denoiser.forward`, for a batch of two."""
        before = past[0].key.shape[2] if past else 0
        steady = self._denoiser.steady(timesteps, before + noisy.shape[1])

        @torch.inference_mode()  # which is a thread's own
        def half(row: slice) -> tuple[Tensor, list[KeyValue]]:
            layers = [
                layer[row] if isinstance(layer, Tensor) else KeyValue(layer.key[row], layer.value[row])
                for layer in condition.layers
            ]
            own = [KeyValue(layer.key[row], layer.value[row]) for layer in past] if past else None
            result: tuple[Tensor, list[KeyValue]] = self._denoiser(
                noisy[row], steady, Condition(layers, condition.offset), own
            )
            return result

        # A pool takes its locks in Python, where a signal could come before they are given back.
        with Uninterrupted():
            second = self._helper.submit(half, slice(1, 2))
            first = half(slice(0, 1))
            halves = first, second.result()
        kept = [
            KeyValue(torch.cat([one.key, other.key]), torch.cat([one.value, other.value]))
            for one, other in zip(halves[0][1], halves[1][1], strict=True)
        ]
        return torch.cat([halves[0][0], halves[1][0]]), kept


@contextlib.contextmanager
def _threads_that_pay(denoiser: Denoiser) -> Iterator[bool]:
    """One thread for narrow networks on the CPU: thousands of tiny layers, and a barrier after each.

    On two busy cores a clip of 10 s took 0.14 s with one thread and up to 9 s with two.

    Yields:
        Whether that leaves a thread for something else.
    """
    if denoiser.config.width > _ONE_THREAD_WIDTH or denoiser.motion_in.weight.device.type != "cpu":
        yield False
        return
    before = torch.get_num_threads(), threads()
    torch.set_num_threads(1)
    set_threads(1)
    try:
        yield before[0] > 1
    finally:
        torch.set_num_threads(before[0])
        set_threads(before[1])
