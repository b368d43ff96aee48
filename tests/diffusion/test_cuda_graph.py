"""The sampling loop over fixed buffers: the plain loop's numbers, what is recorded and when."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch

from facetalk.diffusion import Denoiser, DenoiserConfig, MotionModel, Representation
from facetalk.diffusion import cuda_graph as replay
from facetalk.diffusion.cuda_graph import Replays

EXPRESSIONS, AUDIO = 6, 7


def make(
    window: tuple[int, int] = (0, 0), history: int | None = 5, device: str = "cpu", mode: replay.Mode = "off"
) -> MotionModel:
    torch.manual_seed(0)
    config = DenoiserConfig(
        motion_dim=EXPRESSIONS,
        audio_dim=AUDIO,
        layers=2,
        heads=2,
        width=32,
        feedforward=24,
        window=window,
        history=history,
    )
    model = MotionModel(
        Denoiser(config).to(device),
        Representation.identity(EXPRESSIONS),
        expression_names=[f"e{i}" for i in range(EXPRESSIONS)],
    )
    model.replays = Replays(mode)
    return model


def features(frames: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(frames, AUDIO, generator=torch.Generator().manual_seed(seed))


WAITED: list[object] = []
"""Events that something waited for."""


class FakeGraph:
    """Replays as CUDA does: the recorded work again, into the tensors of the recording."""

    def __init__(self, work, out):
        self.work, self.out = work, out

    def replay(self):
        for to, fresh in zip(self.out, self.work(), strict=True):
            to.copy_(fresh)


@pytest.fixture
def recorded(monkeypatch):
    """Recording as if there were a GPU; gives the list of what was recorded."""
    graphs = []

    def record(work, device):
        out = work()
        graphs.append(FakeGraph(work, tuple(torch.full_like(part, torch.nan) for part in out)))
        return graphs[-1], graphs[-1].out

    class Event:
        def record(self, stream):
            pass

        def synchronize(self):
            WAITED.append(self)

    class Stream:
        def wait_event(self, event):
            assert isinstance(event, Event)

    make_replay = replay.Replay

    def capturing(*args, capture, **kwargs):
        return make_replay(*args, capture=True, **kwargs)

    monkeypatch.setattr(replay, "_record", record)
    monkeypatch.setattr(replay, "Replay", capturing)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: Stream())
    return graphs


@pytest.mark.parametrize("window", [(0, 0), (1, 2)])
@pytest.mark.parametrize("history", [5, None])
@pytest.mark.parametrize(
    ("kind", "eta", "guidance"),
    [("ddim", 0.0, 1.0), ("ddim", 0.0, 2.5), ("ddim", 0.7, 2.5), ("ddpm", 0.0, 1.5)],
)
def test_fixed_buffers_give_the_plain_loop_to_the_bit(
    window: tuple[int, int], history: int | None, kind: str, eta: float, guidance: float
) -> None:
    sound = features(31)
    options = dict(steps=4, guidance=guidance, seed=3, kind=kind, eta=eta, chunk=8)
    plain = make(window, history).sample(sound, **options)
    fixed = make(window, history, mode="on")
    assert np.array_equal(fixed.sample(sound, **options), plain)
    assert not np.array_equal(fixed.sample(features(31, 2), **options), plain)
    assert np.array_equal(fixed.sample(sound, **options), plain)  # buffers that were used before


def test_the_first_run_waits_for_what_another_stream_may_have_made(
    recorded: list[FakeGraph], monkeypatch: pytest.MonkeyPatch
) -> None:
    waited = []

    class Stream:
        def wait_event(self, event):
            waited.append(event)

    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: Stream())
    make(mode="on").sample(features(9), steps=2, guidance=1.0, seed=0)
    assert len(waited) == 1


def test_a_recording_is_replayed_for_every_clip_of_its_sizes(recorded: list[FakeGraph]) -> None:
    model, plain = make(mode="on"), make()
    for seed in range(4):
        sound = features(20, seed)
        options = dict(steps=3, guidance=2.0, seed=seed, chunk=10)
        assert np.array_equal(model.sample(sound, **options), plain.sample(sound, **options))
    assert len(recorded) == 2  # the first chunk of a clip, and those with a past


def test_streams_that_share_a_recording_keep_their_own_past(recorded: list[FakeGraph]) -> None:
    model, plain = make(mode="on"), make()
    sounds = [features(18, seed) for seed in range(3)]
    streams = [model.stream(steps=2, guidance=1.5, seed=seed) for seed in range(3)]
    pieces: list[list[np.ndarray]] = [[] for _ in streams]
    for start in range(0, 18, 6):
        for stream, sound, out in zip(streams, sounds, pieces, strict=True):
            out.append(stream.push(sound[start : start + 6]))
    for seed, out in enumerate(pieces):
        whole = plain.sample(sounds[seed], steps=2, guidance=1.5, seed=seed, chunk=6)
        assert np.array_equal(np.concatenate(out), whole)
    assert len(recorded) == 2


def test_what_is_recorded_and_when(monkeypatch: pytest.MonkeyPatch, recorded: list[FakeGraph]) -> None:
    model = make(mode="auto")
    model.sample(features(9), steps=2, guidance=1.0, seed=0)
    model.sample(features(9), steps=2, guidance=1.0, seed=0)
    assert not recorded  # the CPU has no graphs
    monkeypatch.setattr(Replays, "_records_on", lambda self, device: True)
    for times in range(3):
        model.sample(features(9), steps=2, guidance=1.0, seed=0)
        assert len(recorded) == max(0, min(times, 1))  # the second time
    for change in (dict(steps=3), dict(guidance=1.5), dict(eta=0.5), dict(kind="ddpm")):
        options = dict(steps=2, guidance=1.0, seed=0) | change
        before = len(recorded)
        for _ in range(2):
            model.sample(features(9), **options)
        assert len(recorded) == before + 1
    model.replays.clear()
    model.sample(features(9), steps=2, guidance=1.0, seed=0)
    assert len(recorded) == before + 1
    model.replays.mode = "off"
    for _ in range(3):
        model.sample(features(10), steps=2, guidance=1.0, seed=0)
    assert len(recorded) == before + 1


@pytest.mark.parametrize("mode", ["off", "on"])
def test_weights_of_another_dtype_compute_in_theirs(mode: replay.Mode) -> None:
    model, exact = make(mode=mode), make(mode=mode)
    exact.denoiser.double()
    options = dict(steps=4, guidance=2.0, seed=3, eta=0.5, chunk=8)
    weights, right = model.sample(features(20), **options), exact.sample(features(20), **options)
    assert right.dtype == np.float32
    np.testing.assert_allclose(weights, right, atol=1e-5)
    assert not np.array_equal(weights, right)


def test_a_recording_is_freed_after_its_last_replay_ended(recorded: list[FakeGraph]) -> None:
    model = make(mode="on")
    model.sample(features(9), steps=1, guidance=1.0, seed=0)
    gc.collect()  # what other tests left
    WAITED.clear()
    recorded.clear()
    model.replays.clear()
    gc.collect()
    assert len(WAITED) == 1


def test_the_number_of_recordings_is_bounded() -> None:
    model = make(mode="on")
    for frames in range(1, 20):
        model.sample(features(frames), steps=1, guidance=1.0, seed=0)
    assert len(model.replays._kept) == 8


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="mode: expected one of auto, on, off, got 'yes'"):
        Replays("yes")  # type: ignore[arg-type]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("window", [(0, 0), (1, 2)])
def test_cuda_graph_gives_the_plain_loop(window: tuple[int, int]) -> None:
    plain, graph = make(window, device="cuda"), make(window, device="cuda", mode="on")
    for seed in range(3):
        sound = features(31, seed)
        options = dict(steps=4, guidance=2.0, seed=seed, eta=0.5, chunk=8)
        # Both run the same kernels; what may differ is the algorithm that cuBLAS picks under capture.
        np.testing.assert_allclose(graph.sample(sound, **options), plain.sample(sound, **options), atol=1e-5)
        here = make(window).sample(sound, **options)
        np.testing.assert_allclose(plain.sample(sound, **options), here, atol=1e-3)
    other = torch.cuda.Stream()
    with torch.cuda.stream(other):
        np.testing.assert_allclose(graph.sample(sound, **options), plain.sample(sound, **options), atol=1e-5)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_cuda_graph_of_a_denoiser_in_16_bit(dtype: torch.dtype) -> None:
    exact, model = make((1, 2), device="cuda"), make((1, 2), device="cuda", mode="on")
    model.denoiser.to(dtype)
    options = dict(steps=4, guidance=2.0, seed=0, chunk=8)
    for seed in range(2):
        got = model.sample(features(31, seed), **options)
        # Every layer rounds to 11 or 8 bits, over four steps, and guidance doubles the difference.
        limit = 0.03 if dtype == torch.float16 else 0.2
        np.testing.assert_allclose(got, exact.sample(features(31, seed), **options), atol=limit)
