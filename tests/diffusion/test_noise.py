"""Noise per frame and step: known answers of the generator, independence of chunking, statistics."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facetalk.diffusion.noise import frame_noise, philox4x32
from facetalk.errors import InputError


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # the philox4x32-10 lines of the known-answer file of the authors' Random123 library
        ([0] * 4, (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            (0xA4093822, 0x299F31D0),
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_known_answers(counter: list[int], key: tuple[int, int], expected: list[int]) -> None:
    assert philox4x32(np.array(counter, np.uint32), key).tolist() == expected


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**64 - 1),
    step=st.integers(0, 1000),
    cuts=st.lists(st.integers(0, 60), min_size=2, max_size=5).map(sorted),
    channels=st.integers(1, 60),
)
def test_chunks_join_to_the_whole(seed: int, step: int, cuts: list[int], channels: int) -> None:
    whole = frame_noise(seed, step, cuts[0], cuts[-1], channels)
    parts = [frame_noise(seed, step, a, b, channels) for a, b in itertools.pairwise(cuts)]
    assert whole.shape == (cuts[-1] - cuts[0], channels)
    np.testing.assert_array_equal(whole, np.concatenate(parts))


def test_noise_is_standard_normal_and_white() -> None:
    noise = frame_noise(7, 3, 0, 4000, 50).astype(np.float64)
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 1) < 0.01
    # Standard errors at 200 000 draws: 0.0022, 0.0016, 0.011.
    assert abs((noise**4).mean() - 3) < 0.05
    correlation = np.corrcoef(noise.T)
    assert np.abs(correlation - np.eye(50)).max() < 0.09
    assert abs(np.mean(noise[1:] * noise[:-1])) < 0.01


def test_seed_step_and_frame_all_matter() -> None:
    base = frame_noise(1, 1, 10, 11, 8)
    for other in (frame_noise(2, 1, 10, 11, 8), frame_noise(1, 2, 10, 11, 8), frame_noise(1, 1, 11, 12, 8)):
        assert np.abs(base - other).min() > 0
    assert np.abs(base - frame_noise(1 + 2**32, 1, 10, 11, 8)).min() > 0


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5])
def test_bad_seed_is_refused(seed: object) -> None:
    with pytest.raises(InputError, match="seed"):
        frame_noise(seed, 0, 0, 1, 1)  # type: ignore[arg-type]
