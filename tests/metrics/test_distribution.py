"""Distances of distributions against closed forms, a slow reference, and motions that are known to be off."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from metric_faces import FPS, MOUTH, UPPER, landmarks, rest, talking

from facetalk.data.expressions import EXPRESSION_NAMES
from facetalk.metrics import WindowBasis, frechet_distance, kernel_distance, motion_windows
from facetalk.metrics.clip_distances import TruthFeatures
from facetalk.metrics.controls import controls
from facetalk.metrics.pooling import resample


def test_frechet_of_normal_distributions_is_the_closed_form() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(200_000, 3)) * [1.0, 2.0, 3.0] + [1.0, 0.0, 0.0]
    b = rng.normal(size=(200_000, 3)) * [2.0, 2.0, 1.0]
    # Diagonal: |mu|^2 + sum (s_a - s_b)^2.
    assert frechet_distance(a, b) == pytest.approx(1.0 + 1.0 + 0.0 + 4.0, rel=0.02)
    assert frechet_distance(a, a) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("shape", [(40, 5), (7, 1), (6, 12)])
def test_frechet_is_the_formula_with_a_matrix_root(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=shape) @ rng.normal(size=(shape[1],) * 2), rng.normal(size=(50, shape[1]))
    s, t = np.atleast_2d(np.cov(a, rowvar=False)), np.atleast_2d(np.cov(b, rowvar=False))
    root = scipy.linalg.sqrtm(s @ t + 1e-12 * np.eye(shape[1])).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s + t - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-3, abs=1e-4)
    assert frechet_distance(b, a) == pytest.approx(frechet_distance(a, b), rel=1e-6)


def slow_kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
    k = lambda x, y: (float(x @ y) / len(x) + 1) ** 3  # noqa: E731
    within = lambda s: np.mean([k(x, y) for i, x in enumerate(s) for j, y in enumerate(s) if i != j])  # noqa: E731
    return float(within(a) + within(b) - 2 * np.mean([k(x, y) for x in a for y in b]))


@pytest.mark.parametrize("sizes", [(2, 2, 1), (7, 4, 3), (30, 25, 6)])
def test_kernel_distance_is_its_sum_over_pairs(sizes: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(sizes[0], sizes[2])), rng.normal(size=(sizes[1], sizes[2])) + 0.5
    assert kernel_distance(a, b) == pytest.approx(slow_kernel_distance(a, b), rel=1e-9)


def test_kernel_distance_in_blocks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(50, 4)), rng.normal(size=(33, 4))
    whole = kernel_distance(a, b)
    monkeypatch.setattr("facetalk.metrics.distribution._BLOCK", 7)
    assert kernel_distance(a, b) == pytest.approx(whole, rel=1e-12)


def test_kernel_distance_of_equals_is_zero_on_average() -> None:
    rng = np.random.default_rng(4)
    found = [kernel_distance(*rng.normal(size=(2, 40, 5))) for _ in range(200)]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(200) and min(found) < 0
    assert kernel_distance(rng.normal(size=(200, 5)), 2 * rng.normal(size=(200, 5))) > 5 * np.std(found)


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_wrong_features_are_named(distance) -> None:
    good = np.zeros((5, 3))
    for a, b, message in [
        (good, np.zeros((5, 4)), r"\(N, F\) and \(M, F\)"),
        (good[0], good, r"\(N, F\)"),
        (np.zeros((5, 0)), np.zeros((5, 0)), r"\(N, F\)"),
        (good[:1], good, "a has 1 feature"),
        (good, good[:0], "b has 0 feature"),
        (good, good * np.nan, "b has 15 values"),
    ]:
        with pytest.raises(ValueError, match=message):
            distance(a, b)


def test_windows_are_cut_from_rest_and_keep_their_length() -> None:
    moved = np.repeat(rest()[None], 60, axis=0)
    moved[:, MOUTH, 2] += 0.002
    windows = motion_windows(moved, rest(), MOUTH, FPS)
    assert windows.shape == (3, 25 * 20 * 3)  # begin at 0, 12, 24
    np.testing.assert_allclose(np.linalg.norm(windows, axis=1), 2.0)
    assert not motion_windows(moved, rest(), UPPER, FPS).any()
    assert motion_windows(moved[:24], rest(), MOUTH, FPS).shape == (0, 1500)
    with pytest.raises(ValueError, match=r"rest must have shape \(68, 3\)"):
        motion_windows(moved, rest()[:5], MOUTH, FPS)


def test_basis_keeps_the_length_of_every_window() -> None:
    rng = np.random.default_rng(5)
    windows = rng.normal(size=(40, 3)) @ rng.normal(size=(3, 90)) + 1.0
    basis = WindowBasis.fit(windows, components=3)
    features = basis.transform(windows)
    assert features.shape == (40, 4)
    np.testing.assert_allclose(features[:, 3], 0.0, atol=1e-5)
    assert ((features / basis.scale) ** 2).mean() == pytest.approx(1.0)
    strange = windows + rng.normal(size=windows.shape)
    np.testing.assert_allclose(
        np.linalg.norm(basis.transform(strange), axis=1), np.linalg.norm(strange - basis.mean, axis=1)
    )
    with pytest.raises(ValueError, match="at least two windows"):
        WindowBasis.fit(windows[:1])


@pytest.fixture(scope="module")
def clips() -> dict[str, list[np.ndarray]]:
    """Row -> windows of the mouth's and of the upper face's features, clip by clip."""
    weights = {
        "truth": [talking(150, 100 + i) for i in range(12)],
        "model": [talking(150, i) for i in range(12)],
    }
    for i, model in enumerate(weights["model"]):
        for name, row in controls(model, EXPRESSION_NAMES, i).items():
            weights.setdefault(name, []).append(row)
    out = {}
    for region, points in (("mouth", MOUTH), ("upper", UPPER)):
        windows = {
            k: [motion_windows(landmarks(w), rest(), points, FPS) for w in v] for k, v in weights.items()
        }
        basis = WindowBasis.fit(np.concatenate(windows["truth"]), components=8)
        out[region] = {k: [basis.transform(w) / basis.scale for w in v] for k, v in windows.items()}
    return out


def test_the_controls_are_further_than_the_model(clips) -> None:
    for measure in ("frechet", "kernel"):
        found = {}
        for region, rows in clips.items():
            truth = TruthFeatures(rows["truth"], resample(12, 0), 1.0)
            found[region] = {name: getattr(truth, measure)(features) for name, features in rows.items()}
        for region, rows in found.items():
            model = rows["model"][0]
            for name in ("rest", "shuffled", "smoothed", "doubled"):
                assert rows[name][0] > 2 * abs(model), (measure, region, name)
        assert found["upper"]["frozen"][0] == pytest.approx(found["upper"]["rest"][0])
        assert found["mouth"]["frozen"][0] == pytest.approx(found["mouth"]["model"][0])
        for rows in found.values():
            for value, limits in rows.values():
                assert limits[0] <= value <= limits[1]


def test_distances_over_clips_are_those_over_windows(clips) -> None:
    rows = clips["mouth"]
    truth = TruthFeatures(rows["truth"], resample(12, 0), 1.0)
    a, b = np.concatenate(rows["model"]), np.concatenate(rows["truth"])
    assert truth.frechet(rows["model"])[0] == pytest.approx(frechet_distance(a, b), rel=1e-9)
    # One window a clip: leaving out pairs of one clip leaves out i = j alone, and i = j across.
    single = [x[:1] for x in rows["model"]], [x[:1] for x in rows["truth"]]
    k = lambda x, y: (float(x @ y) / len(x) + 1) ** 3  # noqa: E731
    pairs = [(i, j) for i in range(12) for j in range(12) if i != j]
    mean = lambda s, t: np.mean([k(s[i][0], t[j][0]) for i, j in pairs])  # noqa: E731
    expected = mean(single[0], single[0]) + mean(single[1], single[1]) - 2 * mean(*single)
    assert TruthFeatures(single[1], resample(12, 0), 1.0).kernel(single[0])[0] == pytest.approx(expected)


def test_clips_without_a_window_do_not_count(clips) -> None:
    model, truth = clips["mouth"]["model"], clips["mouth"]["truth"]
    none = np.zeros((0, model[0].shape[1]))
    padded = TruthFeatures([*truth, none], resample(13, 0), 1.0)
    plain = TruthFeatures(truth, resample(12, 0), 1.0)
    for measure in ("frechet", "kernel"):
        with_none, without = getattr(padded, measure)([*model, none]), getattr(plain, measure)(model)
        assert with_none[0] == pytest.approx(without[0])
    empty = TruthFeatures([none, none], resample(2, 0), 1.0)
    assert np.isnan(empty.frechet([none, none])[0]) and np.isnan(empty.kernel([none, none])[0])
    assert empty.kernel([none, none])[1] is None
