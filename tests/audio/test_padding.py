"""Where a recording is cut in a word, and the silence put there."""

from __future__ import annotations

import numpy as np
import pytest

from facetalk.audio.padding import DEFAULT_PAD, Padded, cut_hard, hush, padding
from facetalk.errors import InputError


def voice(seconds: float, hertz: float = 140.0) -> np.ndarray:
    """A buzz, as vocal folds make it, in a room."""
    t = np.arange(round(16000 * seconds)) / 16000
    room = np.random.default_rng(0).normal(0, 1e-3, len(t))
    return (0.2 * np.sign(np.sin(2 * np.pi * hertz * t)) + room).astype(np.float32)


def room(seconds: float) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 1e-3, round(16000 * seconds)).astype(np.float32)


@pytest.mark.parametrize("before", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("after", [0.0, 0.1, 0.3])
def test_an_end_is_cut_where_the_voice_is_near(before: float, after: float) -> None:
    sound = np.concatenate([room(before), voice(1.0), room(after)])
    expected = (before < 0.15, after < 0.15)
    assert cut_hard([sound]) == expected
    # However the sound comes in blocks.
    for size in (100, 1601, 7777):
        assert cut_hard(sound[i : i + size] for i in range(0, len(sound), size)) == expected
    assert padding([sound], None) == tuple(DEFAULT_PAD * cut for cut in expected)


@pytest.mark.parametrize(
    "sound",
    [
        np.zeros(16000, np.float32),
        np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32),
        voice(0.1),
        np.zeros(0, np.float32),
        np.concatenate([0.01 * voice(0.5), voice(2.0), 0.01 * voice(0.5)]),  # somebody far away
    ],
    ids=["silence", "noise", "short", "nothing", "far"],
)
def test_what_is_no_word_is_not_cut(sound: np.ndarray) -> None:
    assert cut_hard([sound]) == (False, False)


def test_padding_goes_around(audible: float = 1e-3) -> None:
    blocks = [voice(0.2), voice(0.3)]
    padded = Padded(blocks, 0.5, 0.25)
    sound = np.concatenate(list(padded))
    np.testing.assert_array_equal(sound, np.concatenate(list(padded)))  # anew, and the same
    assert len(sound) == round(1.25 * 16000)
    np.testing.assert_array_equal(sound[8000:16000], np.concatenate(blocks))
    quiet = np.concatenate([sound[:8000], sound[16000:]])
    assert 0 < np.abs(quiet).max() < audible and quiet.any()
    assert len(list(Padded(blocks, 0.0, 0.0))) == 2
    assert [len(one) for one in hush(0.1)] == [1600, 1600]


@pytest.mark.parametrize("pad", [-0.1, 61, float("nan"), "much"])
def test_bad_padding(pad: object) -> None:
    with pytest.raises(InputError, match="pad must"):
        padding([], pad)  # type: ignore[arg-type]
