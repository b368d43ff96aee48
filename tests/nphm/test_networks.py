"""The torch networks as training uses them: batches, routing, gradients, noise, and sizes that cannot be."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from facetalk.nphm import networks
from facetalk.nphm.networks import DeformationConfig, DeformationNetwork, IdentityConfig, IdentityNetwork
from facetalk.ops._extension import load


@pytest.fixture(params=["nphm", "mononphm"])
def identity(request, make_model) -> IdentityNetwork:
    return make_model(5, family=request.param, anchors=9, pairs=3).identity.requires_grad_(True)


def batch(network: IdentityNetwork, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(3, 40, 3, generator=generator) - 0.5
    return points, torch.randn(3, network.config.code_dim, generator=generator) * 0.3


def test_a_batch_is_its_heads_one_by_one(identity) -> None:
    points, codes = batch(identity)
    together = identity(points, codes)
    assert together.shape == (3, 40)
    for i in range(3):
        assert (together[i] - identity(points[i : i + 1], codes[i : i + 1])[0]).abs().max() < 1e-6


def test_routing_changes_neither_values_nor_gradients(identity) -> None:
    points, codes = batch(identity)
    results = []
    for cull in (0.0, 1e-9):
        x, z = points.clone().requires_grad_(), codes.clone().requires_grad_()
        value = identity(x, z, cull=cull)
        gradients = torch.autograd.grad((value**2).sum(), [x, z, *identity.parameters()])
        results.append([value, *gradients])
    for a, b in zip(*results, strict=True):
        assert (a - b).abs().max() <= 1e-5 * (1 + a.abs().max())


def test_culling_leaves_out_no_more_than_it_says(identity) -> None:
    points, codes = batch(identity)
    anchors = identity.anchors(codes)
    weights = identity.blend(points, anchors)
    members = identity.member_values(
        torch.nn.functional.pad(points, (0, identity.config.hyper_dim)), identity.fold(codes), anchors
    ).permute(1, 2, 0)
    kept = torch.where(weights > 0.05, weights, torch.zeros_like(weights))
    assert (kept > 0).sum() < (weights > 0).sum()  # something is left out
    assert (identity(points, codes, cull=0.05) - (kept * members).sum(-1)).abs().max() < 1e-5


def test_nothing_near_any_anchor(identity) -> None:
    points, codes = batch(identity)
    far = points + 100.0
    values = identity(far, codes, cull=1e-4)
    assert torch.isfinite(values).all()


def test_second_derivatives_exist(identity) -> None:
    points, codes = batch(identity)
    x = points.requires_grad_()
    (slope,) = torch.autograd.grad(identity(x, codes).sum(), x, create_graph=True)
    ((slope.norm(dim=-1) - 1) ** 2).mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in identity.parameters())


def test_weights_sum_below_one(identity) -> None:
    points, codes = batch(identity)
    total = identity.blend(points, identity.anchors(codes)).sum(-1)
    assert (total <= 1.0 + 1e-6).all() and (total > 0.002).all()
    if identity.config.family == "mononphm":
        count = (identity.blend(points, identity.anchors(codes)) > 0).sum(-1)
        assert (count <= identity.config.neighbours + 1).all()


def test_mirrored_members_see_a_mirrored_head() -> None:
    """With symmetric anchors and equal codes, the field is symmetric: pairs share weights, mirrored."""
    config = IdentityConfig(
        anchors=4, pairs=2, global_dim=3, local_dim=2, hidden=12, layers=2, anchor_hidden=5
    )
    mean = torch.tensor([[0.2, 0.1, 0.0], [-0.2, 0.1, 0.0], [0.1, -0.2, 0.3], [-0.1, -0.2, 0.3]])
    network = IdentityNetwork(config, mean)
    with torch.no_grad():
        for parameter in network.mlp_pos[4].parameters():  # type: ignore[union-attr]
            parameter.zero_()  # the anchors stay where they are
    points = torch.rand(1, 50, 3) - 0.5
    # The member without anchor is not symmetric; this far in it does not count.
    points = points * 0.3
    flip = torch.tensor([-1.0, 1.0, 1.0])
    code = torch.zeros(1, config.code_dim)
    assert (network(points, code) - network(points * flip, code)).abs().max() < 1e-5


def test_code_noise_is_for_training_only() -> None:
    config = DeformationConfig(
        code_dim=10, anchors=2, expression_dim=3, hidden=20, layers=2, compressed_dim=4, code_noise=0.1
    )
    network = DeformationNetwork(config)
    code, anchors = torch.randn(1, 10), torch.randn(1, 2, 3)
    network.train()
    assert not torch.equal(network.compress(code, anchors), network.compress(code, anchors))
    network.eval()
    assert torch.equal(network.compress(code, anchors), network.compress(code, anchors))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"anchors": 3, "pairs": 2}, "pairs must be"),
        ({"layers": 1}, "layers >= 2"),
        ({"hidden": 99}, "hidden > 99"),
    ],
)
def test_impossible_identities(sizes, message) -> None:
    with pytest.raises(ValueError, match=message):
        IdentityConfig(**sizes)


def test_impossible_deformations_and_anchors() -> None:
    with pytest.raises(ValueError, match="hidden must exceed 235"):
        DeformationConfig(code_dim=1344, hidden=235)
    with pytest.raises(ValueError, match="layers >= 2"):
        DeformationConfig(code_dim=1344, layers=1)
    with pytest.raises(ValueError, match=r"anchors_mean must have shape \(39, 3\)"):
        IdentityNetwork(IdentityConfig(), torch.zeros(38, 3))


def test_blending_constants_are_the_kernels() -> None:
    """The kernels have them in float32; see csrc/core/blending.h."""
    core = load().blending_constants()
    ours = {name: getattr(networks, name.upper()) for name in core}
    assert len(core) == 7 and {k: np.float32(v) for k, v in core.items()} == {
        k: np.float32(v) for k, v in ours.items()
    }
