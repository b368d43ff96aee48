"""Control motions, draws of the truth and their nearest neighbours are what they are called."""

from __future__ import annotations

import numpy as np
import pytest
from metric_faces import talking

from facetalk.data.expressions import EXPRESSION_NAMES, INDEX
from facetalk.metrics import controls
from facetalk.metrics.reference import SEGMENT_FRAMES, Neighbours, draw, reading

UPPER = [i for i, n in enumerate(EXPRESSION_NAMES) if n.startswith(("brow", "eye", "cheekSquint"))]
ALOUD = [("SIL", 0.0, 0.4), ("P", 0.4, 0.5), ("AA1", 0.5, 0.8), ("M", 0.8, 0.9), ("IY1", 0.9, 1.2)]
OTHER = [("SIL", 0.0, 0.4), ("S", 0.4, 0.6), ("UW1", 0.6, 0.9), ("F", 0.9, 1.0), ("AO1", 1.0, 1.4)]


def test_each_control_is_what_it_says() -> None:
    weights = talking(100).astype(np.float32)
    rows = controls.controls(weights, EXPRESSION_NAMES, seed=1)
    assert tuple(rows) == controls.NAMES and all(row.shape == weights.shape for row in rows.values())
    assert not rows["rest"].any()
    np.testing.assert_array_equal(np.sort(rows["shuffled"], axis=0), np.sort(weights, axis=0))
    assert (rows["shuffled"] != weights).any()
    np.testing.assert_array_equal(rows["delayed"][5:], weights[:-5])
    assert (rows["delayed"][:5] == weights[0]).all()
    assert not rows["frozen"][:, UPPER].any()
    np.testing.assert_array_equal(np.delete(rows["frozen"], UPPER, 1), np.delete(weights, UPPER, 1))
    np.testing.assert_allclose(rows["smoothed"].mean(0), weights.mean(0), atol=0.02)
    assert rows["smoothed"][:, INDEX["jawOpen"]].std() < 0.5 * weights[:, INDEX["jawOpen"]].std()
    np.testing.assert_array_equal(rows["doubled"], 2 * weights)
    np.testing.assert_array_equal(controls.shuffled(weights, 1), rows["shuffled"])
    with pytest.raises(ValueError, match=r"\(T, 53\)"):
        controls.controls(weights[:, :5], EXPRESSION_NAMES, seed=1)


def test_what_is_frozen_is_all_of_the_upper_face_and_nothing_else() -> None:
    """Of every expression, those too that speech does not move."""
    weights = np.random.default_rng(0).uniform(0.1, 1.0, (3, len(EXPRESSION_NAMES)))
    still = ~controls.frozen(weights, EXPRESSION_NAMES).any(axis=0)
    assert np.flatnonzero(still).tolist() == UPPER and len(UPPER) == 22


def test_a_delay_longer_than_the_clip_stands_still() -> None:
    assert (controls.delayed(np.arange(3.0), 9) == 0.0).all()


def test_draws_differ_in_what_is_chance() -> None:
    frames = 250
    long = [(s, a * 8, b * 8) for s, a, b in ALOUD]
    first, again, other = (reading(long, frames, 25.0, "arpabet", seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    jaw = INDEX["jawOpen"]
    np.testing.assert_allclose(first[:, jaw], other[:, jaw], atol=1e-6)
    assert np.abs(first[:, UPPER] - other[:, UPPER]).max() > 0.3
    styles = [draw(long, frames, 25.0, "arpabet", seed)[:, jaw].max() for seed in range(6)]
    assert max(styles) > 1.2 * min(styles)


def test_the_nearest_neighbour_is_of_another_text_with_the_same_phones() -> None:
    bank = Neighbours.of([(ALOUD, "arpabet"), (OTHER, "arpabet")], [0, 1], 25.0, seed=7)
    frames = 35
    same = bank.find(OTHER, frames, 25.0, "arpabet", text=2)  # as if it were a third text
    np.testing.assert_array_equal(same[:30], draw(OTHER, frames, 25.0, "arpabet", 8)[:30])
    forced = bank.find(OTHER, frames, 25.0, "arpabet", text=1)
    first = draw(ALOUD, 30, 25.0, "arpabet", 7)
    for start in (0, 10, 20):
        copied = forced[start : start + (SEGMENT_FRAMES if start < 20 else 5)]
        assert any(np.array_equal(copied, first[k : k + len(copied)]) for k in range(31 - len(copied)))


def test_without_another_text_there_is_no_neighbour() -> None:
    bank = Neighbours.of([(ALOUD, "arpabet")], [0], 25.0, seed=0)
    assert bank.find(ALOUD, 30, 25.0, "arpabet", text=0) is None
    assert bank.find(OTHER, SEGMENT_FRAMES - 1, 25.0, "arpabet", text=1) is None
    empty = Neighbours.of([([("P", 0.0, 0.1)], "arpabet")], [0], 25.0, seed=0)
    assert empty.find(ALOUD, 30, 25.0, "arpabet", text=1) is None


def test_of_a_clip_without_end_only_the_beginning_is_kept() -> None:
    endless = [("AA1", 0.0, 1.0), ("P", 1.0, 1e9)]
    bank = Neighbours.of([(endless, "arpabet")], [0], 25.0, seed=0)
    assert len(bank.motions) == 60 * 25
