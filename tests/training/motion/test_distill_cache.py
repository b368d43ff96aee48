"""Trajectories of the teacher: what they are, which are kept, and who has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from facetalk.diffusion import Sampler
from facetalk.errors import InputError
from facetalk.training.motion.distill_cache import Cache, Teacher, produce
from tests.helpers.small_distillation import AUDIO, CLIPS, DIM, FRAMES, make_teacher, motion_model


def test_trajectories_are_those_of_guided_sampling() -> None:
    """With the sampler's own timesteps for the teacher, states and end are what DPM-Solver++ gives."""
    model = motion_model()
    teacher = make_teacher(model)
    teacher.timesteps = model.schedule.timesteps(16)
    clips = teacher.make(np.random.default_rng(1))
    assert clips.states.shape == (CLIPS, 9, FRAMES, DIM) and clips.features.shape == (CLIPS, FRAMES, AUDIO)
    assert clips.states.dtype == np.float16
    row = 1
    heard = torch.from_numpy(clips.features[row : row + 1].astype(np.float32))
    condition, weight = model.denoiser.guided_condition(heard), float(clips.guidance[row])

    def predict(_index: int, timestep: int, sample: torch.Tensor) -> torch.Tensor:
        both, _ = model.denoiser(sample.expand(2, -1, -1), torch.tensor([timestep]), condition)
        return weight * both[:1] + (1.0 - weight) * both[1:]

    start = torch.from_numpy(clips.states[row : row + 1, 0].astype(np.float32))
    with torch.inference_mode():
        end = Sampler("dpm++", 16).run(predict, lambda _: start)
    np.testing.assert_allclose(clips.states[row, -1], end[0].numpy(), atol=2e-2)
    assert clips.guidance.min() >= 1.0 and clips.guidance.max() <= 2.5 and np.ptp(clips.guidance) > 0


def test_a_teacher_refuses_recordings_that_are_all_too_short() -> None:
    model = motion_model()
    with pytest.raises(InputError, match="no recording is as long as 24 frames"):
        Teacher(
            model, [np.zeros((10, AUDIO), np.float16)], [999, -1], timesteps=[999], guidance=(1, 1), clips=1,
            frames=24,
        )  # fmt: skip


def test_the_cache_keeps_the_newest_and_counts_all(tmp_path: Path) -> None:
    teacher = make_teacher(motion_model())
    cache = Cache(tmp_path, {"a": 1}, keep=2)
    assert produce(cache, teacher, producer=1, seed=0, go_on=lambda made: made < 3) == 3
    produce(cache, teacher, producer=0, seed=0, go_on=lambda made: made < 1)
    cache.refresh()
    # The newest two by number: of producer 1 its second and third.
    assert sorted(path.name for path in tmp_path.glob("*.npz")) == ["001-0000001.npz", "001-0000002.npz"]
    assert cache.frames_made == 4 * CLIPS * FRAMES
    assert (cache.next_number(0), cache.next_number(1), cache.next_number(2)) == (1, 3, 0)
    crops = cache.crops(np.random.default_rng(0), 7, 16)
    assert crops.states.shape == (7, 9, 16, DIM) and crops.features.shape == (7, 16, AUDIO)
    again = Cache(tmp_path, {"a": 1}, keep=2)
    again.refresh()
    assert again.frames_made == cache.frames_made and again.next_number(0) == 1
    with pytest.raises(InputError, match="another teacher"):
        Cache(tmp_path, {"a": 2}, keep=2)


def test_other_processes_follow_the_main_one_to_the_shard(tmp_path: Path) -> None:
    clips = make_teacher(motion_model()).make(np.random.default_rng(0))
    cache, other = Cache(tmp_path, {}, keep=2), Cache(tmp_path, {}, keep=2)
    with pytest.raises(InputError, match="need the same"):
        other.follow()
    for number in range(3):
        cache.add(clips, 0, number)
        cache.refresh()
        other.follow()
    assert (other.shards_made, other.made_by(0)) == (3, 3)
    # What a producer adds after the main process looked counts for nobody before it looks again.
    cache.add(clips, 1, 0)
    other.follow()
    assert other.frames_made == cache.frames_made and other.made_by(1) == 0
    draws = (each.crops(np.random.default_rng(1), 50, 16).guidance for each in (cache, other))
    np.testing.assert_array_equal(*draws)
    cache.refresh()
    other.follow()
    assert other.frames_made == cache.frames_made and other.made_by(1) == 1
    assert other._live.keys() == cache._live.keys() == {"000-0000001.npz", "000-0000002.npz"}


def test_crops_are_parts_of_their_trajectories(tmp_path: Path) -> None:
    cache = Cache(tmp_path, {}, keep=2)
    clips = make_teacher(motion_model()).make(np.random.default_rng(0))
    cache.add(clips, 0, 0)
    cache.refresh()
    crop = cache.crops(np.random.default_rng(3), 1, 16)
    windows = [
        (row, start)
        for row in range(CLIPS)
        for start in range(FRAMES - 16 + 1)
        if np.array_equal(clips.states[row, :, start : start + 16], crop.states[0])
    ]
    assert len(windows) == 1
    row, start = windows[0]
    np.testing.assert_array_equal(clips.features[row, start : start + 16], crop.features[0])
    assert clips.guidance[row] == crop.guidance[0]


def test_producers_wait_when_the_trainer_lags(tmp_path: Path) -> None:
    cache = Cache(tmp_path, {}, keep=1)
    clips = make_teacher(motion_model()).make(np.random.default_rng(0))
    for number in range(2):
        cache.add(clips, 1, number)
    assert not cache.crowded()
    cache.add(clips, 1, 2)
    assert cache.crowded()
