"""The diffused coordinates: invertible, unit variance, and lip gaps that survive noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facetalk.diffusion.representation import Representation, face_metric, lip_gap_matrix


def motion(rng: np.random.Generator, count: int = 500, shapes: int = 8) -> np.ndarray:
    return rng.uniform(0, 0.6, (count, shapes)) * rng.uniform(0.2, 1, shapes)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_round_trip_and_unit_variance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = motion(rng)
    root = rng.normal(size=(8, 8))
    rep = Representation.fit(weights, root @ root.T, floor=0.0)
    coordinates = rep.encode(weights)
    assert rep.dim == 8
    np.testing.assert_allclose(np.cov(coordinates.T), np.eye(8), atol=1e-3)
    np.testing.assert_allclose(rep.decode(coordinates), weights, atol=1e-4)


def test_scale_is_the_metric_length_of_a_unit() -> None:
    rng = np.random.default_rng(0)
    root = rng.normal(size=(8, 8))
    metric = root @ root.T
    rep = Representation.fit(motion(rng), metric, floor=0.0)
    lengths = np.sqrt(np.einsum("ek,ef,fk->k", rep.decode_matrix, metric, rep.decode_matrix))
    np.testing.assert_allclose(lengths, rep.scale_mm, rtol=1e-3)
    assert (np.diff(rep.scale_mm) <= 1e-9).all()


def test_still_weights_are_left_out_and_come_back_as_their_mean() -> None:
    weights = motion(np.random.default_rng(0))
    weights[:, 3] = 0.25
    rep = Representation.fit(weights, np.eye(8) * 100)
    assert rep.dim == 7
    np.testing.assert_allclose(rep.decode(rep.encode(weights)), weights, atol=1e-4)


def test_motion_that_does_not_move_is_an_error() -> None:
    with pytest.raises(ValueError, match="does not move"):
        Representation.fit(np.full((50, 8), 0.3), np.eye(8))


def test_face_metric_sees_the_gap_that_an_isotropic_error_misses() -> None:
    """Two weights that open and close the mouth by 30 mm: the same small error costs a closure or nothing."""
    landmarks = np.arange(68)
    neutral = np.random.default_rng(0).normal(size=(80, 3)) * 30
    moves = np.zeros((3, 80, 3))
    moves[0, [67, 66, 65], 1] = -30.0  # jawOpen: lower lip down
    moves[1, [67, 66, 65], 1] = 30.0  # mouthClose: lower lip up
    moves[2, 5, 0] = 30.0  # something at the jaw line
    gap = lip_gap_matrix(moves, landmarks)
    np.testing.assert_allclose(gap, [[30, -30, 0]] * 3)
    metric = face_metric(moves, neutral, landmarks, 80, ["jawOpen", "mouthClose", "jawLeft"])
    np.testing.assert_allclose(metric, metric.T)
    assert np.linalg.eigvalsh(metric).min() > -1e-9 * np.abs(metric).max()
    together, apart = np.array([0.1, 0.1, 0.0]), np.array([0.1, -0.1, 0.0])
    assert apart @ metric @ apart > 1e6 * (together @ metric @ together)


def test_gaze_counts_though_skin_hardly_follows_it() -> None:
    names = ["eyeLookIn_L", "eyeLookOut_L", "eyeLookUp_R", "mouthClose"]
    metric = face_metric(np.zeros((4, 68, 3)), np.zeros((68, 3)), np.arange(68), 68, names)
    assert metric[0, 0] > 1 and metric[2, 2] > 1 and metric[3, 3] == 0
    assert metric[0, 1] == -metric[0, 0] and metric[0, 2] == 0


def test_identity_is_no_change() -> None:
    rep = Representation.identity(4)
    weights = np.random.default_rng(0).uniform(size=(5, 4)).astype(np.float32)
    np.testing.assert_array_equal(rep.decode(rep.encode(weights)), weights)
