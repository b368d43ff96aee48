"""The bound on what routing leaves out: never broken, not absurdly wide, on fields made after it too."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from golden import GOLDEN, Golden

from facetalk.nphm.field import Field
from facetalk.nphm.lattice import DEFAULT_BOUNDS
from facetalk.nphm.routing_bound import (
    _SHELLS,
    MemberRanges,
    _member,
    box_bound,
    field_routing_bound,
    left_out,
    member_ranges,
    routing_bound,
)
from facetalk.ops.field.cpu import PackedField
from facetalk.ops.field.source import FieldSource
from facetalk.ops.reference.field import _blending
from facetalk.ops.reference.field import field as reference

CULLS = [0.1, 1e-2, 1e-3, 1e-5]


def canonical_points(rng: np.random.Generator, source: FieldSource, count: int = 1500) -> np.ndarray:
    """Half strewn over the box, half near the anchors, where many members meet; float32 numbers."""
    low, high = np.asarray(DEFAULT_BOUNDS)
    anchors = source.anchors.numpy()
    near = anchors[rng.integers(0, len(anchors), count // 2)] + rng.normal(0, 0.05, (count // 2, 3))
    return np.concatenate([rng.uniform(low, high, (count - len(near), 3)), near.clip(low, high)]).astype(
        np.float32
    )


def doubled(source: FieldSource) -> FieldSource:
    return dataclasses.replace(source, anchors=source.anchors.double(), mirror=source.mirror.double())


def culled_error(source: FieldSource, points: np.ndarray, cull: float) -> tuple[np.ndarray, np.ndarray]:
    """|field without the members under the limit - exact field| and the former, in float64."""
    exact = doubled(source)
    x = torch.from_numpy(points).double()
    weight = _blending(exact, x[:, :3])
    kept = weight >= cull * weight[:, : len(source.anchors)].amax(1, keepdim=True)
    left = torch.where(kept, weight, 0.0)
    # The denominator's constant, relative to the denominator, is what the weights lack to 1.
    left = left / (left.sum(1, keepdim=True) + 1.0 - weight.sum(1, keepdim=True))
    rows = [torch.from_numpy(_member(source, k, points.astype(np.float64)))
            for k in range(len(source.member_set))]  # fmt: skip
    members = torch.stack(rows, dim=1)
    culled, whole = (left * members).sum(1), (weight * members).sum(1)
    return (culled - whole).abs().numpy(), culled.numpy()


@pytest.fixture(scope="module", params=["nphm_tiny", "mononphm_tiny", "nphm 1", "nphm 2", "mononphm 3"])
def head(request: pytest.FixtureRequest, make_model) -> tuple[Field, np.ndarray]:
    """The golden heads and random ones that nothing here was tuned on; and codes of two frames."""
    name = request.param
    if name.endswith("_tiny"):
        golden = Golden(GOLDEN / name)
        return golden.model.bind(golden.lat_id), golden.lat_expr[:2].numpy()
    family, seed = name.split()
    more = {"neighbours": 12} if family == "mononphm" else {}
    model = make_model(int(seed), family=family, anchors=23, pairs=8, hidden=24, **more)
    rng = np.random.default_rng(int(seed))
    code = torch.from_numpy(rng.normal(0, 0.3, model.identity_dim).astype(np.float32))
    return model.bind(code), rng.normal(0, 0.5, (2, model.expression_dim)).astype(np.float32)


@pytest.fixture(scope="module", params=["measured", "proven"])
def ranges(head, request: pytest.FixtureRequest) -> MemberRanges:
    return member_ranges(head[0].source, proven=request.param == "proven")


def test_members_stay_in_their_ranges(head, ranges) -> None:
    source = head[0].source
    points = canonical_points(np.random.default_rng(1), source, 4000).astype(np.float64)
    for k in range(len(source.member_set)):
        value = _member(source, k, points)
        anchors = source.anchors.numpy()
        distance = np.linalg.norm(points[:, None] - anchors, axis=2)
        shell = np.digitize(distance[:, k] if k < len(anchors) else distance.min(1), _SHELLS)
        assert (ranges.low[k, shell] <= value).all() and (value <= ranges.high[k, shell]).all()
        if not ranges.proven:  # not much wider than what there is
            inner = shell < 5
            width = np.ptp(value[inner])
            assert ranges.high[k, :5].max() - ranges.low[k, :5].min() < 3 * width + 0.2
        step = np.linalg.norm(points[1:] - points[:-1], axis=1)
        assert (np.abs(np.diff(value)) <= ranges.steepness[k] * step + 1e-5).all()


def test_the_helper_is_the_reference(head) -> None:
    """What the bound is held against here is the dense formula itself."""
    source = head[0].source
    points = canonical_points(np.random.default_rng(2), source, 300)
    whole = culled_error(source, points, 1e-30)[1]
    assert np.abs(whole - reference(source, torch.from_numpy(points))[0].numpy()).max() < 5e-6


@pytest.mark.parametrize("cull", CULLS)
def test_never_broken_and_not_absurd(head, ranges, cull: float) -> None:
    source = head[0].source
    points = canonical_points(np.random.default_rng(3), source)
    error, culled = culled_error(source, points, cull)
    bound = routing_bound(source, points, cull, ranges=ranges)
    tighter = routing_bound(source, points, cull, ranges=ranges, values=culled)
    noise = 1e-9 + 1e-6 * bound  # members are evaluated in float32 in both
    assert (error <= bound + noise).all() and (error <= tighter + noise).all()
    assert (tighter <= bound + 1e-12).all()
    assert bound.max() <= box_bound(source, cull, ranges=ranges)
    # Members that disagree by half their spread are the rule, so the bound is within a small factor at worst.
    some = error > 1e-3 * cull
    if some.sum() > 50 and not ranges.proven:
        assert np.median(tighter[some] / error[some]) < 30
        assert bound.max() < 30 * error.max()
    compiled = [PackedField(source, cull=c).query(points)["sdf"][0].numpy() for c in (cull, 0.0)]
    assert (np.abs(compiled[0] - compiled[1]) <= bound + 2e-6).all()


def test_posed_points(head, ranges) -> None:
    field, codes = head
    rng = np.random.default_rng(4)
    points = canonical_points(rng, field.source, 600)
    biases = [b.detach() for b in field.bound.biases(codes)]
    bound = field_routing_bound(field, points, codes, ranges=ranges, cull=1e-2)
    fields = [PackedField(field.source, cull=c).query(points, biases)["sdf"].numpy() for c in (1e-2, 0.0)]
    error = np.abs(fields[0] - fields[1])
    assert bound.shape == error.shape == (2, 600)
    assert (error <= bound + 2e-6).all() and error.max() > 1e-4
    assert field_routing_bound(field, points, None, ranges=ranges, cull=1e-2).shape == (1, 600)


def test_weights_left_out(head) -> None:
    source = head[0].source
    points = canonical_points(np.random.default_rng(5), source, 400)
    weight = _blending(doubled(source), torch.from_numpy(points).double()).numpy()
    before = np.zeros(len(points))
    for cull in sorted(CULLS):
        share = left_out(source, points, cull)
        out = share > 0
        assert np.allclose(share[out], weight[out], rtol=1e-9, atol=1e-300)
        nearest = weight[:, :-1].max(1, keepdims=True)
        assert out[(weight < 0.99 * cull * nearest) & (weight > 0)].all()
        assert not out[weight > 1.05 * cull * nearest].any()
        assert (share.sum(1) >= before).all()  # the more is left out, the more is missing
        before = share.sum(1)
    assert not left_out(source, points, 0.0).any()
    assert not routing_bound(source, points, 0.0, ranges=member_ranges(source, samples=4)).any()


def test_refusals(head, ranges) -> None:
    source = head[0].source
    with pytest.raises(ValueError, match="cull"):
        box_bound(source, 1.0, ranges=ranges)
    with pytest.raises(ValueError, match="points"):
        routing_bound(source, np.zeros((4, 2)), 0.1, ranges=ranges)
    with pytest.raises(ValueError, match="points"):
        routing_bound(source, np.full((4, 3), np.nan), 0.1, ranges=ranges)
    with pytest.raises(ValueError, match="bounds"):
        member_ranges(source, ((0, 0, 0), (1, 1, 0)))
