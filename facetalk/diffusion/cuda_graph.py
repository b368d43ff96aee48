"""The whole sampling loop over buffers that never move, so that a GPU can replay it as one CUDA graph.

A step of the denoiser is a hundred small kernels, each launched by the host. Everything but the numbers is
the same from clip to clip of a length, so the loop is recorded once and then replayed by a single launch.
Without a GPU the same code runs the same loop over the same buffers, with the results of the plain loop.
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from facetalk.diffusion.attention import KeyValue
from facetalk.diffusion.sampler import Sampler, guide

if TYPE_CHECKING:
    from facetalk.diffusion.denoiser import Denoiser

Past = list[list[KeyValue]]
"""Keys and values of the frames before a chunk, by sampling step and layer."""

Mode = Literal["auto", "on", "off"]
MODES: tuple[Mode, ...] = ("auto", "on", "off")


class Replay:
    """One sampling loop with its buffers: a sampler, a guidance weight, and the sizes of a chunk.

    What depends on the timesteps and the sizes alone (FiLM's gains and shifts, the rotary encoding) is
    computed here, once. The denoiser's weights are taken as constant.

    Args:
        denoiser: the network, in evaluation mode.
        sampler: step rule and schedule.
        guidance: weight of classifier-free guidance; 1 leaves the unconditional half out.
        frames: frames of the chunk.
        before: frames of the past that come with it; 0 at the start of a clip.
        heard: audio frames that come with it, context included.
        offset: how many of those are context on the left.
        capture: record a CUDA graph on the first run. False runs the loop itself, on any device.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        sampler: Sampler,
        guidance: float,
        *,
        frames: int,
        before: int,
        heard: int,
        offset: int,
        capture: bool,
    ) -> None:
        config, weight = denoiser.config, denoiser.motion_in.weight
        self._denoiser, self._sampler, self._guidance, self._offset = denoiser, sampler, guidance, offset
        pairs = sampler.transitions
        # Row of each index of noise in the buffer: the start, then the steps whose rule adds fresh noise.
        wanted = [0, *(index + 1 for index, (_, after) in enumerate(pairs) if sampler.needs_noise(after))]
        self.noise_indices = wanted
        self._row = {index: row for row, index in enumerate(wanted)}
        self._steady = [
            denoiser.steady(denoiser.at(timestep, previous, guidance), before + frames)
            for timestep, previous in pairs
        ]
        batch = 2 if denoiser.guided(guidance) else 1
        depth = config.width // config.heads
        self._features, self._noise = (
            torch.zeros(shape, device=weight.device)  # the sample stays float32 whatever the weights are
            for shape in ((1, heard, config.audio_dim), (len(wanted), 1, frames, config.motion_dim))
        )
        self._past = weight.new_zeros(
            2 * len(pairs) * config.layers, batch, config.heads, before, depth if before else 0
        )
        self._capture = capture
        self._graph: torch.cuda.CUDAGraph | None = None
        self._out: tuple[Tensor, Tensor] | None = None
        self._lock = threading.Lock()
        self._done: torch.cuda.Event | None = None
        if capture:
            self._mark_done()  # the first run may be on another stream than what was made here

    def _mark_done(self) -> None:
        self._done = torch.cuda.Event()
        self._done.record(torch.cuda.current_stream(self._features.device))

    @torch.inference_mode()
    def run(self, features: Tensor, noise: Tensor, past: Past | None) -> tuple[Tensor, Past]:
        """Sample a chunk.

        Args:
            features: (1, heard, A) standardised audio features.
            noise: (K, 1, frames, E) standard normal, one entry for each of ``noise_indices``.
            past: what the run on the chunk before gave; None at the start of a clip.

        Returns:
            (1, frames, E) x_0, and what the next chunk needs. Both are the caller's own.
        """
        with self._lock:
            if self._done is not None:  # another stream may still be reading the buffers
                torch.cuda.current_stream(self._features.device).wait_event(self._done)
            self._features.copy_(features)
            self._noise.copy_(noise)
            if past is not None:
                torch.stack([x for step in past for layer in step for x in _pair(layer)], out=self._past)
            if self._capture and self._graph is None:
                self._graph, self._out = _record(self._work, self._features.device)
            if self._graph is None or self._out is None:
                sample, kept = self._work()
            else:
                self._graph.replay()
                sample, kept = (part.clone() for part in self._out)
                self._mark_done()
        return sample, self._as_past(kept)

    def __del__(self) -> None:
        """Wait for the last replay: the memory of a graph must outlive it, on whatever stream it runs."""
        done = getattr(self, "_done", None)
        if done is not None:
            done.synchronize()

    def _work(self) -> tuple[Tensor, Tensor]:
        """The loop itself: reads the buffers, allocates the rest, asks the host for nothing."""
        guided = self._denoiser.guided(self._guidance)
        prepare = self._denoiser.guided_condition if guided else self._denoiser.condition
        condition = prepare(self._features, offset=self._offset)
        given = self._as_past(self._past) if self._past.shape[3] else None
        kept: list[Tensor] = []

        def predict(index: int, _timestep: int, sample: Tensor) -> Tensor:
            noisy = sample.expand(2, -1, -1) if guided else sample
            before = given[index] if given else None
            clean, after = self._denoiser(noisy, self._steady[index], condition, before)
            kept.extend(x for layer in after for x in _pair(layer))
            return guide(clean[:1], clean[1:], self._guidance) if guided else clean

        sample = self._sampler.run(predict, lambda index: self._noise[self._row[index]])
        return sample, torch.stack(kept)

    def _as_past(self, flat: Tensor) -> Past:
        parts = list(flat.unbind())
        layers = [KeyValue(key, value) for key, value in zip(parts[::2], parts[1::2], strict=True)]
        size = self._denoiser.config.layers
        return [layers[first : first + size] for first in range(0, len(layers), size)]


class Replays:
    """The recorded loops of one denoiser: what is recorded, when, and how many are kept.

    Attributes:
        mode: "auto" records on a CUDA device what is asked for a second time, since recording costs about as
            much as two runs; "on" takes the fixed buffers from the first time on, also on the CPU, where
            nothing is recorded; "off" never does.
    """

    def __init__(self, mode: Mode = "auto", capacity: int = 8) -> None:
        if mode not in MODES:
            raise ValueError(f"mode: expected one of {', '.join(MODES)}, got {mode!r}")
        self.mode: Mode = mode
        self._capacity = capacity
        self._kept: collections.OrderedDict[tuple[Any, ...], Replay | None] = collections.OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles start without recordings, which belong to a process and its device."""
        return Replays, (self.mode, self._capacity)

    def find(
        self,
        denoiser: Denoiser,
        sampler: Sampler,
        guidance: float,
        *,
        frames: int,
        before: int,
        heard: int,
        offset: int,
    ) -> Replay | None:
        """The loop for these sizes, or None where the plain loop should run; arguments as in `Replay`."""
        device = denoiser.motion_in.weight.device
        if self.mode == "off" or (self.mode == "auto" and not self._records_on(device)):
            return None
        key = (id(denoiser), device, sampler, guidance, frames, before, heard, offset)
        with self._lock:
            first_time = key not in self._kept
            found = self._kept.pop(key, None)
            if found is None and (self.mode == "on" or not first_time):
                found = Replay(
                    denoiser,
                    sampler,
                    guidance,
                    frames=frames,
                    before=before,
                    heard=heard,
                    offset=offset,
                    capture=self._records_on(device),
                )
            self._kept[key] = found
            while len(self._kept) > self._capacity:
                self._kept.popitem(last=False)
        return found

    def _records_on(self, device: torch.device) -> bool:
        return device.type == "cuda"

    def clear(self) -> None:
        """Forget everything recorded; needed after the denoiser's weights were changed."""
        with self._lock:
            self._kept.clear()


def _pair(layer: KeyValue) -> tuple[Tensor, Tensor]:
    return layer.key, layer.value


def _record(
    work: Callable[[], tuple[Tensor, Tensor]], device: torch.device
) -> tuple[torch.cuda.CUDAGraph, tuple[Tensor, Tensor]]:
    """Record a CUDA graph of ``work``; gives the graph and the tensors that a replay fills.

    On a stream of its own, as recording demands, and by hand: ``torch.cuda.graph`` would wait for the whole
    device first.
    """
    with torch.cuda.device(device):
        stream, current = torch.cuda.Stream(), torch.cuda.current_stream()
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            work()  # libraries set themselves up on their first calls, which cannot be recorded
            graph = torch.cuda.CUDAGraph()
            # Other threads may allocate meanwhile; only this one must not.
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                out = work()
            finally:
                graph.capture_end()
        current.wait_stream(stream)
    return graph, out
