"""A clip has as many frames as ``frame_count`` says, whatever its length, rate, look-ahead and engine."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_networks import small_motion

from facetalk.audio.encoder import AudioEncoder
from facetalk.audio.live import is_due, waits_for
from facetalk.audio.load import SampleReader
from facetalk.frames import Frames
from facetalk.native import WHOLE, NativeModel
from facetalk.torch_backend import TorchEngine, feature_rows
from facetalk.units import frame_count
from tests.helpers.small_whisper import add_small_whisper

Make = Callable[..., Path]
CASES = [*((25.0, rate) for rate in (8_000, 16_000, 22_050, 44_100, 48_000)), (29.97, 48_000), (60.0, 16_000)]
AHEAD = [0.0, 0.1, 0.18]

pytestmark = pytest.mark.filterwarnings("ignore::facetalk.errors.HearingWarning")  # of clips of a sample


def lengths(rate: int, fps: float) -> list[int]:
    """Of clips that end in the middle of a frame, a sample before and after it, and anywhere."""
    middles = [round((frame + 0.5) / fps * rate) for frame in (0, 1, 2, 4, 7)]
    some = np.random.default_rng(rate).integers(1, rate // 3, 4).tolist()
    return sorted({1, 2, *some, *(middle + by for middle in middles for by in (-1, 0, 1))})


@functools.cache
def heard(count: int, rate: int) -> int:
    """Samples of 16 kHz of so many, as a recording has them."""
    return len(SampleReader((sound(count), rate)).samples)


def sound(count: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(count).standard_normal(count)).astype(np.float32)


def test_a_clip_that_ends_in_the_middle_of_a_frame_is_told_in_the_same_way_by_all(make_live: Make) -> None:
    """4 middles of these 9 are those of a frame that is not one of the clip's: ``round`` goes to even."""
    folder = make_live()
    model, encoder = NativeModel(folder), AudioEncoder.from_pretrained(folder / "audio")
    for frame in range(9):
        samples = sound(round((frame + 0.5) * 640))
        rows = [model.features(samples, look_ahead=0.0), feature_rows(encoder, samples, 25.0, 0.0)]
        assert [len(each) for each in rows] == [frame_count(len(samples), 25.0)] * 2
        np.testing.assert_allclose(*rows, atol=1e-4)


@pytest.mark.parametrize(("fps", "rate"), CASES)
@pytest.mark.parametrize("look_ahead", [*AHEAD, WHOLE])
def test_the_c_library_gives_as_many(make_live: Make, fps: float, rate: int, look_ahead: float) -> None:
    stream = NativeModel(make_live(fps)).stream(look_ahead=look_ahead, rate=rate, steps=1, pose=True)
    for count in lengths(rate, fps):
        frames = Frames.joined([stream.push(part) for part in np.array_split(sound(count), 3)])
        frames = Frames.joined([frames, stream.finish()])
        stream.reset()
        assert len(frames.curves) == frame_count(heard(count, rate), fps), count
        assert frames.pose is not None and len(frames.pose) == len(frames.curves)


@pytest.mark.parametrize(("fps", "rate"), CASES)
@pytest.mark.parametrize("look_ahead", AHEAD)
def test_torch_gives_as_many(make_live: Make, fps: float, rate: int, look_ahead: float) -> None:
    encoder, motion = AudioEncoder.from_pretrained(make_live(fps) / "audio"), small_motion(20, window=(1, 3))
    for count in lengths(rate, fps):
        engine = TorchEngine(encoder, motion.stream(steps=1), fps, look_ahead, rate)
        parts = [*map(engine.push, np.array_split(sound(count), 3)), engine.finish()]
        assert sum(len(part.curves) for part in parts) == frame_count(heard(count, rate), fps), count


@pytest.mark.parametrize("look_ahead", AHEAD)
def test_whisper_gives_as_many(make_live: Make, look_ahead: float) -> None:
    folder = make_live()
    model = NativeModel(folder, add_small_whisper(folder, 20))
    stream = model.stream(look_ahead=look_ahead, steps=1)
    for count in (1, 319, 320, 321, 1_599, 1_600, 1_601, 2_240, 2_880):
        frames = len(stream.push(sound(count)).curves) + len(stream.finish().curves)
        stream.reset()
        assert frames == frame_count(count, 25.0), count


@pytest.mark.parametrize("fps", [1.0, 24.0, 25.0, 29.97, 60.0, 1000.0])
def test_a_frame_that_came_is_one_of_the_clip_wherever_it_ends(fps: float) -> None:
    done = 0
    for count in range(0, 20_000):
        while is_due(done, count, fps, 0.0):
            done += 1
        assert done <= (frame_count(count, fps) if count else 0)
        assert waits_for(done, fps, 0.0) >= count, "it comes with its middle, or a sample later"
