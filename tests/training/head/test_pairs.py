"""Pairs that the backward field learns from, and the seam units that it begins with."""

import numpy as np
import pytest
import torch

from facetalk.data.heads.ict import MorphableHead
from facetalk.data.heads.samples import SurfaceSampler, random_identities
from facetalk.errors import InputError
from facetalk.nphm.head.parts import Part
from facetalk.nphm.networks import DeformationConfig, DeformationNetwork
from facetalk.training.head import pairs
from facetalk.training.head.backward import initialise_backward
from facetalk.training.head.pairs import PairSource, closing_expressions
from facetalk.training.head.seam_units import Seams, plant
from facetalk.training.head.widen import widen
from facetalk.training.soap import Soap


@pytest.fixture(scope="module")
def head(synthetic_data):
    return MorphableHead.load(synthetic_data)


def test_both_ends_are_the_same_point_of_the_head(head, monkeypatch):
    monkeypatch.setattr(pairs, "_SIGMAS", (0.0,) * 5)
    sampler, rng = SurfaceSampler(head, focus=4.0), np.random.default_rng(3)
    source = PairSource(head, sampler)
    coefficients, weights = random_identities(head, 6, 1), closing_expressions(head, 6, rng)
    coefficients[0] = 0.0
    drawn = []
    monkeypatch.setattr(
        sampler, "draw", lambda n, g, draw=sampler.draw: drawn.append(draw(n, g)) or drawn[-1]
    )
    found = source.draw(coefficients, weights, 40, rng)
    assert found.rest.shape == found.posed.shape == (6, 40, 3) and found.counts.shape == (6, 40)
    corners, share = drawn[0].corners.reshape(2, 40, 3), drawn[0].weights.reshape(2, 40, 3)
    for row in range(6):
        for ends, shape in (
            (found.rest[row], head.canonical(coefficients[row])),
            (found.posed[row], head.vertices(coefficients[row], weights[row])),
        ):
            true = np.einsum("nc,ncx->nx", share[row // 4], shape[corners[row // 4]])
            np.testing.assert_allclose(ends, true, atol=2e-6)
    assert (found.surface == (found.counts > 0)).all()


def test_a_point_off_one_lip_that_lies_in_the_other_is_not_taught(head, monkeypatch):
    source = PairSource(head, SurfaceSampler(head))
    # Two vertices stand for the lips: 10 mm apart at rest, in one place when posed.
    source._sheet = np.array([0, 1])
    rest, posed = np.float32([[0, 0.02, 0], [0, -0.02, 0]]), np.float32([[0, 0, 0], [0, -0.002, 0]])
    answers = iter([rest - source._marked_shape[:2], posed - source._marked_shape[:2]])
    source._marked_shape = source._marked_shape[[0, 1, *range(-68, 0)]]
    monkeypatch.setattr(
        source, "_moved", lambda *_: np.pad(next(answers), ((0, 68), (0, 0)))[None].astype(np.float32)
    )
    monkeypatch.setattr(pairs, "visible_points", lambda points, *_: np.ones(len(points), bool))
    points = np.float32([[0, -0.0018, 0], [0, -0.0018, 0], [0, -0.0002, 0], [0, -0.05, 0]])[None]
    foot = np.float32([[0, 0.02, 0], [0, -0.02, 0], [0, 0.02, 0], [0, 0.02, 0]])[None]
    off = np.float32([[0.0018, 0.0002, 0.0002, 0.0002]])
    ones = np.ones((1, 4), np.float32)
    found = source._counts(points, foot, off, np.full((1, 4), Part.SKIN), 0 * ones, ones, ones, ones)
    assert found[0].tolist() == [0.0, 1.0, 1.0, 1.0]


def test_every_third_expression_closes_something(head):
    drawn = closing_expressions(head, 900, np.random.default_rng(0))
    column = {name: drawn[:, i] for i, name in enumerate(head.expression_names)}
    closing = drawn[::3]
    assert drawn.shape == (900, head.expression_dim) and drawn.min() >= 0.0 and drawn.max() <= 1.08
    assert len(closing) == 300 and (column["mouthClose"][::3] > 0).all()
    ratio = column["mouthClose"][::3] / (0.02 + 0.85 * column["jawOpen"][::3])
    assert 0.59 < ratio.min() < 0.65 and 1.0 < ratio.max() < 1.06
    assert 0.6 < (column["eyeBlink_L"][::3] > 0).mean() < 0.95


def test_edges_are_drawn_more_often(head):
    plain, focused = SurfaceSampler(head), SurfaceSampler(head, focus=8.0)
    edges = np.maximum(plain.lips, plain.lids)[head.faces].mean(1)
    ratio = focused.importance[plain.importance > 0] / plain.importance[plain.importance > 0]
    assert ratio.min() >= 1.0 and ratio[edges[plain.importance > 0].argmax()] > 2.0


def network(**more):
    sizes = {"code_dim": 20, "anchors": 4, "expression_dim": 6, "hidden": 256, "compressed_dim": 48} | more
    torch.manual_seed(0)
    out = DeformationNetwork(DeformationConfig(layers=4, **sizes))
    initialise_backward(out)
    return out


def answer(net, points, code, weights):
    with torch.no_grad():
        return net(points, code, weights, torch.zeros(len(code), 4, 3))


def test_steps_stand_where_lips_and_lids_meet(head):
    encoder = np.random.default_rng(0).standard_normal((20, head.identity_dim)).astype(np.float32)
    seams = Seams.of(head, encoder)
    net = network()
    count = plant(net, seams)
    assert count == len(seams.normals) == 27
    weights = closing_expressions(head, 5, np.random.default_rng(1))
    coefficients = random_identities(head, 5, 2)
    code = torch.from_numpy(coefficients @ encoder.T)
    marks = np.stack(
        [head.vertices(c, w)[head.landmark_ids] for c, w in zip(coefficients, weights, strict=True)]
    )
    folded = net.fold(net.compress(code, torch.zeros(5, 4, 3)), torch.from_numpy(weights))
    middle = 0.5 * (marks[:, 62] + marks[:, 66])  # line 4: the middle of the lips
    for offset, value in ((0.004, 2.0), (-0.004, 0.0), (0.0, 1.0)):
        points = torch.from_numpy((middle + offset * seams.normals[4]).astype(np.float32))[:, None]
        first, second = folded.layers[:2]
        h = torch.nn.functional.softplus(first.bias + points @ first.coords[0].T, beta=100.0)
        h = torch.nn.functional.softplus(second.bias + h @ second.hidden[0].T, beta=100.0)
        np.testing.assert_allclose(h[:, 0, -count + 4].detach(), value, atol=0.15)


def test_seam_units_change_nothing_at_first_and_small_networks_get_few(head):
    encoder = np.eye(20, head.identity_dim, dtype=np.float32)
    seams = Seams.of(head, encoder)
    net = network()
    assert plant(net, seams) == 27 > plant(network(hidden=90), seams) > 0
    assert plant(network(compressed_dim=4), seams) == 0
    second, third = net.defDeepSDF.lin1, net.defDeepSDF.lin2
    assert not third.weight[:, second.out_features - 27 : second.out_features].any()
    assert not second.weight[:-27, -54:].any()


def test_a_wider_network_begins_as_the_narrower_one(head):
    narrow, wide = network(hidden=128, compressed_dim=16), network()
    plant(wide, Seams.of(head, np.eye(20, head.identity_dim)))
    rng = np.random.default_rng(0)
    points, code, weights = (
        torch.from_numpy(rng.standard_normal(shape).astype(np.float32))
        for shape in ((2, 9, 3), (2, 20), (2, 6))
    )
    widen(narrow, wide)
    np.testing.assert_allclose(
        answer(wide, points, code, weights), answer(narrow, points, code, weights), atol=1e-6
    )
    same = network(hidden=128, compressed_dim=16)
    widen(narrow, same)
    assert all(torch.equal(a, b) for a, b in zip(narrow.parameters(), same.parameters(), strict=True))
    for other in (network(hidden=96, compressed_dim=16), network(hidden=128, compressed_dim=48)):
        with pytest.raises(InputError, match="only more units"):
            widen(narrow, other)


def test_soap_is_adam_for_vectors_and_quicker_than_adam_where_inputs_are_unequal():
    gradient = torch.tensor([1.0, -2.0, 0.5])
    ends = []
    for kind in (Soap, torch.optim.Adam):
        x = torch.nn.Parameter(torch.ones(3))
        optimizer = kind([x], lr=0.1, betas=(0.9, 0.99), eps=1e-8)
        for turn in range(5):
            x.grad = gradient * (1.0 + turn)
            optimizer.step()
        ends.append(x.detach())
    torch.testing.assert_close(*ends)
    generator = torch.Generator().manual_seed(0)
    mixed = torch.linalg.qr(torch.randn(12, 12, generator=generator)).Q
    inputs = torch.randn(400, 12, generator=generator) * torch.logspace(0, -2, 12) @ mixed
    targets = inputs @ torch.randn(12, 5, generator=generator) @ torch.diag(torch.logspace(0, 1, 5))
    losses = []
    for kind in (Soap, torch.optim.Adam):
        weight = torch.nn.Parameter(torch.zeros(12, 5))
        optimizer = kind([weight], lr=0.1, betas=(0.95, 0.95))
        for turn in range(200):
            optimizer.param_groups[0]["lr"] = 1.0 * (1.0 - turn / 200)
            optimizer.zero_grad()
            loss = ((inputs @ weight - targets) ** 2).mean()
            loss.backward()
            optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] < 0.5 * losses[1]
