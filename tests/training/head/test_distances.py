"""Distances of heads drawn anew, and what learns by them."""

import numpy as np
import pytest
import torch

from facetalk.data.heads.ict import BUILT_IN, MorphableHead
from facetalk.data.heads.samples import SurfaceSampler, random_identities
from facetalk.nphm.networks import IdentityConfig, IdentityNetwork
from facetalk.training.head.distances import DistanceSource, _to_triangles
from facetalk.training.head.identity import dense
from facetalk.training.soap import Soap
from facetalk.units import HEAD_UNIT_MM

pytest.importorskip("igl", reason="libigl makes training data; pip install 'facetalk[train]'")


def test_distances_are_libigl_s():
    head = MorphableHead.load(BUILT_IN)
    source = DistanceSource(head, SurfaceSampler(head), pool=4000)
    drawn = random_identities(head, 2, 77)
    found = source.draw(torch.from_numpy(drawn), 1200, torch.Generator().manual_seed(0))
    assert found.known.mean() > 0.8
    for row, points, distance, known in zip(drawn, found.points, found.distances, found.known, strict=True):
        true = head.signed_distance(points.numpy(), head.canonical(row))
        near = (np.abs(true) < 2.0 / HEAD_UNIT_MM) & (known > 0).numpy()
        error = np.abs(true - distance.numpy()) * HEAD_UNIT_MM
        assert near.sum() > 200
        # Behind folds the nearest triangle may not touch the nearest vertex.
        assert np.median(error[near]) < 1e-3 and error[near].mean() < 0.04
        assert np.mean(error[near] > 0.1) < 0.03
        outside = (true > 0) & (known > 0).numpy()
        assert np.mean(distance.numpy()[outside] < 0) < 0.005
    half = found.points.shape[1] // 2
    apart = (found.points[:, half:] - found.points[:, :half]).norm(dim=-1) * HEAD_UNIT_MM
    assert torch.allclose(apart, torch.full_like(apart, 0.8), atol=1e-3)


def test_the_nearest_edge_tells_the_side():
    """A ridge of two triangles: beside it, the plane of the one that does not face the point would lie."""
    left = [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [-0.3, 0.0, -1.0]]
    ridge = torch.tensor([left, [[0.0, 0.0, 0.0], [0.3, 0.0, -1.0], [0.0, 1.0, 0.0]]])
    points = torch.tensor([[0.05, 0.2, 0.5], [-0.05, 0.2, 0.5], [0.4, 0.2, -0.2], [0.0, 0.2, -0.3]])
    corners = ridge.expand(1, len(points), 2, 3, 3)
    found = _to_triangles(points[None], corners)[0]
    expected = [0.05**2 + 0.25, 0.05**2 + 0.25]
    assert torch.allclose(found[:2].square(), torch.tensor(expected))
    assert (found[:3] > 0).all() and found[3] < 0


def test_dense_is_the_network():
    torch.manual_seed(0)
    config = IdentityConfig(
        anchors=5, pairs=2, global_dim=3, local_dim=2, hidden=12, layers=4, anchor_hidden=8
    )
    network = IdentityNetwork(config, 0.2 * torch.randn(5, 3))
    points, code = 0.3 * torch.randn(2, 40, 3), torch.randn(2, 3 + 6 * 2)
    assert torch.allclose(dense(network, points, code), network(points, code), atol=1e-6)


def test_a_stack_is_turned_as_its_matrices_are():
    torch.manual_seed(0)
    start = torch.randn(3, 4, 5)
    stack = torch.nn.Parameter(start.clone())
    alone = [torch.nn.Parameter(matrix.clone()) for matrix in start]
    optimizers = Soap([stack], lr=0.01, every=3), Soap(alone, lr=0.01, every=3)
    for _ in range(8):
        target = torch.randn(3, 4, 5)
        stack.grad = target.clone()
        for parameter, gradient in zip(alone, target, strict=True):
            parameter.grad = gradient.clone()
        for optimizer in optimizers:
            optimizer.step()
    assert (stack - start).abs().max() > 0.01
    assert torch.allclose(stack, torch.stack(list(alone)), atol=1e-4)


def test_a_checkpoint_of_before_goes_on():
    """Its bases had other names, and stacks of matrices had none."""
    stack = torch.nn.Parameter(torch.zeros(2, 4, 5))
    optimizer = Soap([stack], lr=0.01)
    optimizer.state[stack] = {"step": 7, "mean": torch.ones(2, 4, 5), "square": torch.ones(2, 4, 5)}
    for _ in range(3):
        stack.grad = torch.ones(2, 4, 5)
        optimizer.step()
    assert optimizer.state[stack]["step"] == 2 and stack.abs().max() > 0.0
