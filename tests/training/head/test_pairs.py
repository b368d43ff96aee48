"""Pairs that the backward field learns from, and the seam units that it begins with."""

import numpy as np
import pytest
import torch

from facetalk.data.heads.ict import BUILT_IN, MorphableHead
from facetalk.data.heads.samples import SurfaceSampler, random_identities
from facetalk.errors import InputError
from facetalk.nphm.head.parts import Part
from facetalk.nphm.networks import DeformationConfig, DeformationNetwork
from facetalk.training.head import pairs
from facetalk.training.head.backward import initialise_backward
from facetalk.training.head.pairs import PairSource, closing_expressions, strays
from facetalk.training.head.seam_units import Seams, plant
from facetalk.training.head.validation import BackwardValidation
from facetalk.training.head.widen import widen
from facetalk.training.soap import Soap
from facetalk.units import HEAD_UNIT_MM


@pytest.fixture(scope="module")
def head(synthetic_data):
    return MorphableHead.load(synthetic_data)


def drawn(head, rows, **more):
    """A source, and coefficients and weights of some heads, the first of them the mean."""
    source = PairSource(head, SurfaceSampler(head, focus=4.0), pool=2000, seed=1, **more)
    coefficients = random_identities(head, rows, 1)
    coefficients[0] = 0.0
    weights = closing_expressions(head, rows, np.random.default_rng(3))
    return source, torch.from_numpy(coefficients), torch.from_numpy(weights)


def test_both_ends_are_the_same_point_of_the_head(head):
    source, coefficients, weights = drawn(head, 6)  # of which the last two are half a group
    points = SurfaceSampler(head, focus=4.0).draw(2000, np.random.default_rng(1))
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randint(2000, (2, 40), generator=generator)
    off = torch.linspace(-0.05, 0.05, 240).reshape(6, 40)
    found = source.at(chosen, off, coefficients, weights)
    assert found.rest.shape == found.posed.shape == (6, 40, 3) and found.counts.shape == (6, 40)
    for row in range(6):
        for ends, shape in (
            (found.rest[row], head.canonical(coefficients[row].numpy())),
            (found.posed[row], head.vertices(coefficients[row].numpy(), weights[row].numpy())),
        ):
            for n, point in enumerate(chosen[row // 4]):
                a, b, c = shape[points.corners[point]].astype(np.float64)
                normal = np.cross(b - a, c - a)
                true = points.weights[point] @ [a, b, c] + off[row, n].item() * normal / np.linalg.norm(
                    normal
                )
                np.testing.assert_allclose(ends[n], true, atol=4e-6)
    assert (found.surface == ((found.counts > 0) & (off.abs() < 1.0 / HEAD_UNIT_MM))).all()


def obvious_count(head, posed, foot, off, part, place, close, marks, at_work, at_rest):
    """Whether one pair is taught, said once more, point by point."""

    def between(upper, lower, margin):
        top, bottom = (
            np.interp(posed[0], *marks[sorted(ids, key=lambda i: marks[i, 0])].T[:2])
            for ids in (upper, lower)
        )
        x = marks[[*upper, *lower], 0]
        inside = bottom - margin < posed[1] < top + margin
        return x.min() < posed[0] < x.max() and top - bottom > margin and inside

    eyes = between([36, 37, 38, 39], [36, 41, 40, 39], 0.002)
    eyes = eyes or between([42, 43, 44, 45], [42, 47, 46, 45], 0.002)
    seen = place < 0.25
    if part == Part.EYEBALLS:
        seen = eyes
    if 0.25 <= place < 0.75:
        seen = between([60, 61, 62, 63, 64], [60, 67, 66, 65, 64], 0.006) or (
            close > 0.8 and part == Part.SKIN
        )
    if seen and close > 0.55 and off > 0 and part == Part.SKIN:
        gaps = np.linalg.norm(at_work - posed, axis=1)
        apart = np.linalg.norm(at_rest[gaps.argmin()] - foot)
        seen = not (apart > 3.0 / HEAD_UNIT_MM + 2 * off and gaps.min() < 1.5 / HEAD_UNIT_MM + off)
    return seen


def test_pairs_are_taught_as_an_obvious_check_says(monkeypatch):
    """Behind closed lids and lips nothing is taught, nor a point off one lip that lies in the other one."""
    head = MorphableHead.load(BUILT_IN)  # on which lips do touch
    source, coefficients, weights = drawn(head, 8)
    asked = {}

    def spy(own):
        def call(*args, **more):
            asked[own.__name__] = (*args, own(*args, **more))
            return asked[own.__name__][-1]

        monkeypatch.setattr(pairs, own.__name__, call)

    spy(pairs.visible_points)
    spy(pairs.strays)
    found = source.draw(coefficients, weights, 400, torch.Generator().manual_seed(0))
    posed, part, place, close, marks, seen = (v.numpy() for v in asked["visible_points"])
    _, foot, off, _, at_work, at_rest, strayed = (v.numpy() for v in asked["strays"])
    assert (found.posed.numpy() == posed).all() and strayed.sum() > 10 and (~seen).sum() > 100
    wrong = 0
    for r in range(8):
        for n in range(400):
            point = (v[r, n] for v in (posed, foot, off, part, place, close))
            expected = obvious_count(head, *point, marks[r], at_work[r], at_rest[r])
            wrong += expected != (found.counts[r, n] > 0)
    assert wrong <= 1  # a tie of two vertices


def test_strays_are_the_same_however_they_are_looked_for():
    torch.manual_seed(0)
    at_rest, at_work = 0.1 * torch.rand(3, 40, 3), 0.02 * torch.rand(3, 40, 3)
    posed, foot, off = 0.02 * torch.rand(3, 50, 3), 0.1 * torch.rand(3, 50, 3), 0.004 * torch.rand(3, 50)
    asked = torch.rand(3, 50) < 0.4
    few, all_points = (strays(posed, foot, off, asked, at_work, at_rest, everywhere=e) for e in (False, True))
    assert torch.equal(few, all_points) and 10 < few.sum() < asked.sum()
    none = torch.zeros_like(asked)
    assert not strays(posed, foot, off, none, at_work, at_rest).any()


def test_a_point_off_one_lip_that_lies_in_the_other_is_a_stray():
    # Two vertices stand for the lips: 10 mm apart at rest, in one place when posed.
    at_rest = torch.tensor([[[0, 0.02, 0], [0, -0.02, 0]]])
    at_work = torch.tensor([[[0, 0.0, 0], [0, -0.002, 0]]])
    points = torch.tensor([[[0, -0.0018, 0], [0, -0.0018, 0], [0, -0.0002, 0], [0, -0.05, 0]]])
    foot = torch.tensor([[[0, 0.02, 0], [0, -0.02, 0], [0, 0.02, 0], [0, 0.02, 0]]])
    off = torch.tensor([[0.0018, 0.0002, 0.0002, 0.0002]])
    found = strays(points, foot, off, torch.ones(1, 4, dtype=torch.bool), at_work, at_rest)
    assert found.tolist() == [[True, False, False, False]]


def test_validation_knows_a_perfect_field_and_a_shift(head):
    encoder = torch.eye(20, head.identity_dim)

    class Anchors(torch.nn.Module):
        def anchors(self, code):
            return code

    validation = BackwardValidation(head, Anchors(), encoder)
    answer = validation._pairs.rest - validation._pairs.posed
    perfect = validation(lambda *_: answer)
    assert len(perfect) == 8 and set(perfect.values()) == {0.0}
    shift = torch.zeros_like(answer)
    shift[24:, :, 2] = 1.0 / HEAD_UNIT_MM  # other heads only
    found = validation(lambda *_: answer + shift)
    assert found["mean, lips"] == 0.0 and found["others, lips"] == found["others, lids"] == 1.0


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
