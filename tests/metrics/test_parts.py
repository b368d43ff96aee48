"""Pieces of metrics against what was published, and against slow twins."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from facetalk.errors import InputError
from facetalk.metrics import evaluate as evaluation
from facetalk.metrics.image_features import CROP_SIZE, FEATURES, Mirror, MouthFeatures
from facetalk.metrics.surface import surface_distance, two_sided
from facetalk.metrics.syncnet import FACE_SIZE, SyncNet


def test_syncnet_has_the_published_sizes() -> None:
    """Chung and Zisserman, "Out of time" (2016), as released: name of a weight -> its shape."""
    sound = [
        (64, 1, 3, 3),
        (192, 64, 3, 3),
        (384, 192, 3, 3),
        (256, 384, 3, 3),
        (256, 256, 3, 3),
        (512, 256, 5, 4),
    ]
    lips = [
        (96, 3, 5, 7, 7), (256, 96, 1, 5, 5), (256, 256, 1, 3, 3), (256, 256, 1, 3, 3), (256, 256, 1, 3, 3),
        (512, 256, 1, 6, 6),
    ]  # fmt: skip
    network = SyncNet().eval()
    for stack, shapes in ((network.netcnnaud, sound), (network.netcnnlip, lips)):
        found = [tuple(m.weight.shape) for m in stack if isinstance(m, torch.nn.Conv2d | torch.nn.Conv3d)]
        assert found == shapes
    pools = [m for m in [*network.netcnnaud, *network.netcnnlip] if hasattr(m, "return_indices")]
    assert [(p.kernel_size, p.stride, p.padding) for p in pools] == [
        ((1, 1), 1, 0), ((3, 3), (1, 2), 0), ((3, 3), (2, 2), 0), ((1, 3, 3), (1, 2, 2), 0),
        ((1, 3, 3), (1, 2, 2), (0, 1, 1)), ((1, 3, 3), (1, 2, 2), 0),
    ]  # fmt: skip
    convolutions = [m for m in network.netcnnlip if isinstance(m, torch.nn.Conv3d)]
    assert [(c.stride, c.padding) for c in convolutions] == [
        ((1, 2, 2), (0, 0, 0)), ((1, 2, 2), (0, 1, 1)), ((1, 1, 1), (0, 1, 1)), ((1, 1, 1), (0, 1, 1)),
        ((1, 1, 1), (0, 1, 1)), ((1, 1, 1), (0, 0, 0)),
    ]  # fmt: skip
    flat = [m for m in network.netcnnaud if isinstance(m, torch.nn.Conv2d)]
    assert [(c.stride, c.padding) for c in flat] == [((1, 1), (1, 1))] * 5 + [((1, 1), (0, 0))]
    for head in (network.netfcaud, network.netfclip):
        assert [tuple(m.weight.shape) for m in head if isinstance(m, torch.nn.Linear)] == [
            (512, 512),
            (1024, 512),
        ]
    assert FACE_SIZE == 224
    with torch.inference_mode():
        assert network.embed_sound(torch.zeros(2, 1, 13, 20)).shape == (2, 1024)


def test_mouths_are_coded_and_drawn_again_at_their_size() -> None:
    torch.manual_seed(0)
    features, mirror = MouthFeatures().eval(), Mirror().eval()
    widths = [m.out_channels for m in features.encoder if isinstance(m, torch.nn.Conv2d)]
    assert (CROP_SIZE, FEATURES, widths) == (64, 64, [16, 32, 64, 64])
    up = [m for m in mirror.layers if isinstance(m, torch.nn.ConvTranspose2d)]
    assert [(m.in_channels, m.out_channels) for m in up] == [(64, 64), (64, 32), (32, 16), (16, 3)]
    with torch.inference_mode():
        codes = features.encode(torch.full((2, 3, 64, 64), 127.5))
        assert mirror(codes).shape == (2, 3, 64, 64) and codes.shape == (2, 64)
        # Grey is zero: nothing but biases is left.
        middle = features.encoder(torch.zeros(1, 3, 64, 64))
        torch.testing.assert_close(codes[:1], middle)
        features.mean.fill_(1.0)
        features.scale.fill_(2.0)
        torch.testing.assert_close(features(torch.full((1, 3, 64, 64), 127.5)), (middle - 1.0) / 2.0)


def slow_distance(point: np.ndarray, triangle: np.ndarray) -> float:
    """The least over a fine net of the triangle's points."""
    a, b, c = triangle
    net = [(i / 200, j / 200) for i in range(201) for j in range(201 - i)]
    u, v = np.array(net).T
    places = a + u[:, None] * (b - a) + v[:, None] * (c - a)
    return float(np.linalg.norm(places - point, axis=1).min())


def test_distances_from_triangles_are_those_of_a_fine_net() -> None:
    rng = np.random.default_rng(0)
    for _ in range(12):
        vertices = rng.normal(size=(3, 3))
        points = rng.normal(size=(3, 3)) * 1.5
        found = surface_distance(points, vertices, np.array([[0, 1, 2]]))
        np.testing.assert_allclose(found, [slow_distance(p, vertices) for p in points], atol=0.012)
    flat = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    inside = surface_distance(
        np.array([[0.2, 0.2, 0.5], [0.2, 0.2, -2.0], [0.5, 0.5, 0.0]]), flat, np.array([[0, 1, 2]])
    )
    np.testing.assert_allclose(inside, [0.5, 2.0, 0.0], atol=1e-12)
    line = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]])  # no triangle, but it has a distance
    np.testing.assert_allclose(
        surface_distance(np.array([[1.5, 3.0, 0]]), line, np.array([[0, 1, 2]])), [3.0]
    )
    point = np.zeros((3, 3))
    np.testing.assert_allclose(
        surface_distance(np.array([[3.0, 4.0, 0]]), point, np.array([[0, 1, 2]])), [5.0]
    )


def test_of_many_triangles_the_nearest_counts_in_both_directions() -> None:
    grid = np.array([(x, y, 0.0) for x, y in itertools.product(range(6), range(6))])
    faces = np.array([f for x, y in itertools.product(range(5), range(5)) for i in [6 * x + y]
                      for f in ((i, i + 1, i + 6), (i + 1, i + 7, i + 6))])  # fmt: skip
    above = grid + np.array([0.0, 0.0, 0.25])
    np.testing.assert_allclose(two_sided((grid, faces), (above, faces)), np.full(72, 0.25))
    assert surface_distance(np.array([[2.3, 2.6, 4.0]]), grid, faces, nearest=1) == pytest.approx([4.0])


def test_short_clips_are_skipped_and_the_rest_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each clip and seed has a noise of its own."""
    lengths, seeds, taken = iter([2, 99, 99, 2, 99, 99]), [], []

    class Run:
        def __init__(self, *_: Any) -> None:
            self.rows, self.seconds = SimpleNamespace(clips=0), 0.0

        def clip(self, index: int, *_: Any) -> None:
            taken.append(index)

    def generate(sound: Any, *, seed: int, steps: Any, guidance: Any) -> Any:
        seeds.append(seed)
        return [0] * current[0]

    current = [0]

    def sound(self: Any) -> Any:
        current[0] = next(lengths)

    monkeypatch.setattr(evaluation, "_Run", Run)
    monkeypatch.setattr(
        evaluation, "_Clip", lambda item, pad: SimpleNamespace(item=item, sound=lambda: sound(None))
    )
    monkeypatch.setattr(evaluation, "with_phones", lambda items: items)
    items = [SimpleNamespace(audio=f"{i}.wav") for i in range(6)]
    pipeline = SimpleNamespace(
        generate=generate, head=SimpleNamespace(expression_names=evaluation.EXPRESSION_NAMES)
    )
    with pytest.raises(AttributeError, match="provenance"):  # what is made of the rows is told by other tests
        evaluation.evaluate(pipeline, items, seeds=2)
    assert taken == [1, 2, 4, 5]
    assert sorted(seeds) == [1000 * k + i for k in range(2) for i in range(6)]
    with pytest.raises(InputError, match="pad must lie in 0"):
        evaluation.evaluate(pipeline, items, pad=60.5)


def test_names_that_are_not_there_are_said() -> None:
    import facetalk.metrics

    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = facetalk.metrics.nonsense
    assert Path(evaluation.__file__).name == "evaluate.py"
