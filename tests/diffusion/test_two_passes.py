"""The two passes of guidance side by side are those of one batch, piece by piece too."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from facetalk.diffusion import Denoiser, DenoiserConfig, MotionModel, Representation
from facetalk.diffusion import stream as stream_module


def make(window: tuple[int, int]) -> MotionModel:
    torch.manual_seed(0)
    config = DenoiserConfig.mini(motion_dim=5, audio_dim=7, width=32, layers=2, history=9, window=window)
    names = [f"e{i}" for i in range(5)]
    return MotionModel(Denoiser(config), Representation.identity(5), expression_names=names)


@pytest.mark.parametrize("window", [(0, 0), (2, 1)])
def test_side_by_side_is_the_same(window: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    model, features = make(window), torch.randn(150, 7)
    calls = []
    real = stream_module.TwoPasses.__call__
    monkeypatch.setattr(
        stream_module.TwoPasses, "__call__", lambda self, *a: (calls.append(len(a[0])), real(self, *a))[1]
    )

    def sample(frames_for_two: int) -> tuple[np.ndarray, np.ndarray]:
        monkeypatch.setattr(stream_module, "_FRAMES_FOR_TWO", frames_for_two)
        whole = model.sample(features, steps=6, guidance=1.7, seed=2)
        pieces = model.stream(steps=6, guidance=1.7, seed=2)
        out = [pieces.push(features[:70]), pieces.push(features[70:90]), pieces.push(features[90:])]
        return whole, np.concatenate([*out, pieces.finish()])

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        apart = sample(10)
        assert len(calls) >= 24 and set(calls) == {2}
        calls.clear()
        together = sample(10**6)
        assert not calls
        torch.set_num_threads(1)
        sample(10)
        assert not calls  # one thread was asked for
    finally:
        torch.set_num_threads(before)
    for one in (*apart, together[1]):
        np.testing.assert_allclose(one, together[0], atol=1e-5)


def test_a_signal_waits_until_the_pool_has_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of taking it, the pool could keep a lock for ever."""
    halfway = []

    class Struck(ThreadPoolExecutor):
        def submit(self, *work: Any) -> Any:
            halfway.append(1)
            signal.raise_signal(signal.SIGINT)
            halfway.pop()
            return super().submit(*work)

    monkeypatch.setattr(stream_module, "ThreadPoolExecutor", Struck)
    monkeypatch.setattr(stream_module, "_FRAMES_FOR_TWO", 10)
    threads, handler = torch.get_num_threads(), signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        torch.set_num_threads(2)
        with pytest.raises(KeyboardInterrupt):
            make((0, 0)).sample(torch.randn(150, 7), steps=6, guidance=1.7, seed=2)
    finally:
        torch.set_num_threads(threads)
        signal.signal(signal.SIGINT, handler)
    assert not halfway


@pytest.mark.parametrize("window", [(0, 0), (2, 1)])
def test_the_null_condition_is_that_of_dropped_audio(window: tuple[int, int]) -> None:
    net, features = make(window).denoiser, torch.randn(3, 20, 7)
    with torch.inference_mode():
        made = net.guided_condition(features, offset=window[0])
        plain = net.condition(torch.cat([features, features]), drop=torch.arange(6) >= 3, offset=window[0])
    assert made.offset == plain.offset
    for one, other in zip(made.layers, plain.layers, strict=True):
        if isinstance(one, torch.Tensor):
            torch.testing.assert_close(one, other)
        else:
            torch.testing.assert_close((one.key, one.value), (other.key, other.value))
