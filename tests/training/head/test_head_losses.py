"""What the stages of a head are told to learn: each loss on errors that are known."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from facetalk.data.heads.ict import MorphableHead
from facetalk.data.heads.samples import (
    DistancePool,
    SurfacePoints,
    SurfaceSampler,
    random_identities,
    speech_expressions,
)
from facetalk.nphm.head.parts import Part
from facetalk.training.head import backward, forward, pairs
from facetalk.training.head.backward import NEAR, Budget, train_backward, train_identity
from facetalk.training.head.forward import train_blendshapes, train_parts, train_template
from facetalk.units import HEAD_UNIT_MM

CLOSE = 0.7
"""Closeness of every point to lips and lids."""


class Loop:
    """In place of the training loop: keeps what it is told, and hands back the step."""

    told: Any

    def __init__(self, name: str, out: Any, modules: Any, optimizer: Any, options: Any) -> None:
        Loop.told = options

    def run(self, step: Any, on_save: Any = None) -> Any:
        return step


@pytest.fixture(autouse=True)
def no_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (backward, forward):
        monkeypatch.setattr(module, "TrainingLoop", Loop)


@pytest.fixture
def head(synthetic_data: Path) -> MorphableHead:
    return MorphableHead.load(synthetic_data)


@pytest.fixture
def sampler(head: MorphableHead) -> SurfaceSampler:
    found = SurfaceSampler(head)
    found.__dict__["lips"] = np.full(len(head.neutral), CLOSE, np.float32)
    found.__dict__["lids"] = np.full(len(head.neutral), 0.1, np.float32)
    return found


@pytest.fixture
def pool(head: MorphableHead, sampler: SurfaceSampler) -> SurfacePoints:
    return sampler.draw(500, np.random.default_rng(0))


class Answers(nn.Module):
    """A network that gives what a function of its first argument says."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.zeros(()))
        self.answer, self.asked = answer, []  # type: ignore[var-annotated]

    def forward(self, x: Tensor, *more: Tensor) -> Tensor:
        self.asked.append((x, *more))
        found: Tensor = self.answer(x)
        return found


def values(found: dict[str, Tensor]) -> dict[str, float]:
    return {name: value.item() for name, value in found.items()}


@pytest.mark.parametrize(
    ("name", "weight"), [("jawOpen", 5.0), ("eyeBlink_R", 3.0), ("mouthPucker", 2.0), ("eyeLookOut_L", 1.0)]
)
def test_blendshapes_count_by_what_speech_shows_and_most_at_lips_and_lids(
    head: MorphableHead, sampler: SurfaceSampler, pool: SurfacePoints, monkeypatch: pytest.MonkeyPatch,
    name: str, weight: float,
) -> None:  # fmt: skip
    head.expression_basis[:] = 0.0
    shape = head.expression_names.index(name)

    def wrong(x: Tensor) -> Tensor:
        out = torch.zeros(len(x), head.expression_dim, 3)
        out[:, shape, 0] = 0.03
        return out

    codes = np.zeros((24, head.expression_dim), np.float32)
    codes[:, shape] = 0.5
    monkeypatch.setattr(forward, "speech_expressions", lambda *_: codes + head.canonical_expression)
    field = Answers(wrong)
    step = train_blendshapes(field, head, sampler, pool, Path(), Budget(5), batch=64)  # type: ignore[arg-type]
    found = values(step(0))
    single, posed = 0.03 * weight / (3 * head.expression_dim), 0.5 * 0.03 / 3
    assert found["loss"] == pytest.approx(100 * (single + 2 * posed) * (1 + 5 * CLOSE**2), rel=1e-3)
    assert found["posed_mm"] == found["posed_lips_lids_mm"] == pytest.approx(0.015 * HEAD_UNIT_MM, rel=1e-3)
    assert Loop.told.clip_norm == 1.0 and Loop.told.warmup == 100
    assert not (field.asked[0][1] == Part.EYEBALLS).any()


def test_points_of_blendshapes_lie_a_little_off_the_surface(
    head: MorphableHead, sampler: SurfaceSampler, pool: SurfacePoints
) -> None:
    field = Answers(lambda x: torch.zeros(len(x), head.expression_dim, 3))
    one = SurfacePoints(pool.corners[:1], pool.weights[:1], np.zeros(1, np.uint8))
    train_blendshapes(field, head, sampler, one, Path(), Budget(5), batch=4000)(0)  # type: ignore
    off = field.asked[0][0].numpy() - one.of(head.canonical())
    np.testing.assert_allclose(off.std(0) * HEAD_UNIT_MM, 0.3, rtol=0.06)
    np.testing.assert_allclose(off.mean(0) * HEAD_UNIT_MM, 0.0, atol=0.03)


def codes_of(head: MorphableHead) -> Any:
    return SimpleNamespace(encoder=np.eye(4, head.identity_dim, dtype=np.float32))


class Anchors(nn.Module):
    """An identity network of which only anchors are asked."""

    anchors_mean = torch.zeros(1, 3)

    def anchors(self, code: Tensor) -> Tensor:
        return code


def test_the_template_counts_most_at_lips_and_lids(
    head: MorphableHead, sampler: SurfaceSampler, pool: SurfacePoints
) -> None:
    head.identity_basis[:] = 0.0
    template = Answers(lambda x: x + torch.tensor([0.0, 0.02, 0.0]))
    step = train_template(
        template,
        Anchors(),
        head,
        sampler,
        pool,
        codes_of(head),
        Path(),
        Budget(5),
        batch=(3, 50),  # type: ignore
    )
    found = values(step(0))
    assert found["loss"] == pytest.approx(100 * 0.02 * (1 + 3 * CLOSE), rel=1e-3)
    assert found["template_mm"] == found["lips_lids_mm"] == pytest.approx(0.02 * HEAD_UNIT_MM, rel=1e-3)
    codes = template.asked[0][2]
    assert codes.shape == (3, 4) and codes.std() > 0.3 and Loop.told.clip_norm == 1.0


def test_the_template_maps_other_heads_to_the_mean(
    head: MorphableHead, sampler: SurfaceSampler, pool: SurfacePoints
) -> None:
    one = SurfacePoints(pool.corners[:1], pool.weights[:1], pool.part[:1])
    template = Answers(lambda x: x)
    args = (template, Anchors(), head, sampler, one, codes_of(head), Path(), Budget(5))
    found = values(train_template(*args, batch=(3, 200))(0))  # type: ignore[arg-type]
    x, _, code, *_ = template.asked[0]
    basis = one.of(np.ascontiguousarray(head.identity_basis.transpose(1, 0, 2)))[0]
    drawn = random_identities(head, 3, int(forward.step_generator(0, 0).integers(2**31)))
    moved = drawn @ basis
    np.testing.assert_allclose(code.numpy(), drawn[:, :4], atol=1e-6)
    np.testing.assert_allclose(x.mean(1).numpy(), one.of(head.canonical()) + moved, atol=0.3 / HEAD_UNIT_MM)
    assert found["template_mm"] == pytest.approx(
        np.linalg.norm(moved, axis=1).mean() * HEAD_UNIT_MM, rel=0.02
    )


def test_parts_are_told_by_cross_entropy(head: MorphableHead, pool: SurfacePoints) -> None:
    parts = Answers(lambda x: torch.tensor([2.0, 0.0, 0.0]).expand(len(x), 3))
    classes = np.zeros(500, np.int64)
    classes[:125] = 1
    found = values(train_parts(parts, head, pool, classes, Path(), Budget(5), batch=4000)(0))  # type: ignore
    total = np.log(np.exp(2.0) + 2.0)
    assert found["wrong"] == pytest.approx(0.25, abs=0.03)
    assert found["loss"] == pytest.approx(total - 2.0 * (1.0 - found["wrong"]), rel=1e-4)
    assert Loop.told.clip_norm is None


class Members(Answers):
    """An identity network."""

    def __init__(self, answer: Any) -> None:
        super().__init__(answer)
        self.mlp_pos = nn.Linear(1, 1)

    def stacked(self) -> list[tuple[nn.Parameter, nn.Parameter]]:
        return [(nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1)))]

    def forward(self, x: Tensor, codes: Tensor, *, cull: float) -> Tensor:  # type: ignore[override]
        assert cull == 1e-3
        return super().forward(x, codes)


@pytest.mark.parametrize("distance", [0.0, 0.5 * NEAR, -0.5 * NEAR, 20 * NEAR])
def test_distances_count_less_the_farther_away(head: MorphableHead, distance: float) -> None:
    table = np.stack([np.zeros(5), np.ones(5), 2 * np.ones(5)]).astype(np.float32)
    points = [np.full((30, 3), row, np.float32) for row in range(3)]
    pool = DistancePool(table, points, [np.full(30, distance, np.float32)] * 3)
    network = Members(lambda x: torch.full(x.shape[:2], distance + 0.8 * NEAR))
    codes = SimpleNamespace(encoder=np.eye(4, 5, dtype=np.float32))
    step = train_identity(network, pool, codes, Path(), Budget(5), batch=(2, 4, 20))  # type: ignore[arg-type]
    found = values(step(0))
    assert found["loss"] == pytest.approx(100 * 0.8 * NEAR / (1 + abs(distance) / (2.5 * NEAR)), rel=1e-3)
    near = 0.8 if abs(distance) < NEAR else 0.0
    assert found["near_mean_mm"] == found["near_others_mm"] == pytest.approx(near, rel=1e-3)
    assert found["wrong_sign"] == (1.0 if distance < 0 else 0.0)
    rows = [step(index) and network.asked[-1][0][:, 0, 0].tolist() for index in range(30)]
    assert all(row[:2] == [0.0, 0.0] and len(row) == 6 for row in rows)
    assert {value for row in rows for value in row[2:]} == {1.0, 2.0}
    np.testing.assert_array_equal(network.asked[-1][1][:, 0], rows[-1])
    assert not any(p.requires_grad for p in network.mlp_pos.parameters()) and Loop.told.clip_norm == 1.0


def offsets(head: MorphableHead, sampler: SurfaceSampler, network: Answers, **more: Any) -> Any:
    return train_backward(network, Anchors(), head, sampler, codes_of(head), Path(), Budget(5), **more)  # type: ignore


@pytest.mark.parametrize(("error", "inside"), [(0.001, 0.0), (0.05, 0.0), (0.001, 0.5)])
def test_offsets_count_by_their_square_from_four_millimetres_on(
    head: MorphableHead, sampler: SurfaceSampler, monkeypatch: pytest.MonkeyPatch, error: float, inside: float
) -> None:
    head.identity_basis[:] = 0.0
    head.expression_basis[:] = 0.0
    network = Answers(lambda x: torch.tensor([0.0, 0.0, error]).expand_as(x))
    monkeypatch.setattr(pairs, "_SIGMAS", (0.0,) * 5)
    monkeypatch.setattr(pairs, "hidden_places", lambda head: np.full(len(head.neutral), inside, np.float32))
    monkeypatch.setattr(
        pairs, "visible_points", lambda points, *_: torch.ones(points.shape[:2], dtype=torch.bool)
    )
    found = values(offsets(head, sampler, network, batch=(4, 50))(0))
    square_from = 4.0 / HEAD_UNIT_MM
    weight = 1 + 5 * CLOSE + (5 if inside else 0)
    assert found["loss"] == pytest.approx(100 * error * (1 + error / square_from) * weight, rel=1e-2)
    assert found["surface_mm"] == found["lips_mm"] == pytest.approx(error * HEAD_UNIT_MM, rel=1e-2)
    monkeypatch.setattr(
        pairs, "visible_points", lambda points, *_: torch.zeros(points.shape[:2], dtype=torch.bool)
    )
    hidden = values(offsets(head, sampler, network, batch=(4, 50))(0))
    assert hidden["loss"] == hidden["surface_mm"] == 0.0
    assert Loop.told.clip_norm == 1.0


def test_a_third_of_the_rows_shows_the_mean_head_and_weights_reach_the_network(
    head: MorphableHead, sampler: SurfaceSampler
) -> None:
    network = Answers(torch.zeros_like)
    offsets(head, sampler, network, batch=(8, 20))(0)
    _, code, weights, _ = network.asked[0]
    assert not code[::3].any() and (code[1::3].abs().sum(1) > 0).all() and (code[2::3].abs().sum(1) > 0).all()
    assert weights.shape == (8, head.expression_dim) and weights.std() > 0.05


def test_points_lie_off_the_surface_near_mostly_and_far_only_outside(
    head: MorphableHead, sampler: SurfaceSampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deviations of 0.2, 1 and 3 mm, 20 mm outward and 12 mm inward."""
    head.identity_basis[:] = 0.0
    head.expression_basis[:] = 0.0
    shape = head.canonical()
    corner = np.array([[0, 1, 2]])
    shape[:3] = [[0, 0, 0], [1, 0, 0], [0, 1, 0]]  # its normal is +z
    monkeypatch.setattr(head, "canonical", lambda *_: shape)
    one = SurfacePoints(
        corner.repeat(3000, 0), np.tile([1 / 3] * 3, (3000, 1)).astype(np.float32), np.zeros(3000, np.uint8)
    )
    monkeypatch.setattr(sampler, "draw", lambda *_: one)
    network = Answers(torch.zeros_like)
    offsets(head, sampler, network, batch=(2, 3000))(0)
    off = network.asked[0][0].numpy().reshape(-1, 3)[:, 2]
    np.testing.assert_allclose(network.asked[0][0].numpy().reshape(-1, 3)[:, :2], 1 / 3, atol=1e-5)
    assert (off > 0.07).mean() == pytest.approx(0.13 * 0.38, abs=0.015)
    assert (off < -0.05).mean() == pytest.approx(0.15 * 0.317, abs=0.015)
    for within, odds in (
        (0.0008, (0.683, 0.159, 0.053, 0.008, 0.013)),
        (0.012, (1.0, 0.997, 0.683, 0.119, 0.19)),
    ):
        expected = float(np.dot(odds, (0.35, 0.22, 0.15, 0.13, 0.15)))
        assert (np.abs(off) < within).mean() == pytest.approx(expected, abs=0.025)


def test_speech_as_heads_are_trained_on_it(head: MorphableHead) -> None:
    drawn = speech_expressions(head, 6000, np.random.default_rng(0))
    column = {name: drawn[:, i] for i, name in enumerate(head.expression_names)}
    assert drawn.min() >= 0.0 and drawn.max() <= 1.08
    blinks = column["eyeBlink_L"]
    # Both lids shut together in 40 % of the rows, half of them fully; a few more by "everything else".
    assert (blinks == 1.0).mean() == pytest.approx(0.2, abs=0.05)
    assert (blinks == column["eyeBlink_R"]).mean() > 0.6
    closed = column["mouthClose"] > 0
    assert closed.mean() == pytest.approx(0.25, abs=0.02)
    full = np.isclose(column["mouthClose"], 0.02 + 0.8 * column["jawOpen"]) & closed
    assert full.mean() == pytest.approx(0.125, abs=0.02)
    assert (column["mouthClose"] <= 0.02 + 0.8 * column["jawOpen"] + 1e-6).all()
    assert (column["jawOpen"] == 0.0).mean() > 0.3 and column["jawOpen"].max() > 0.45
    assert 0.75 < column["mouthPucker"].max() <= 1.08
    assert (column["eyeLookOut_L"] > 0).mean() == pytest.approx(0.5 * (1 - (5 / 6) ** 3), abs=0.03)


def test_identities_are_normal_without_tails(head: MorphableHead) -> None:
    drawn = random_identities(head, 4000, 0)
    assert np.abs(drawn).max() == pytest.approx(1.6) and drawn.std() == pytest.approx(0.8 * 0.963, abs=0.01)
    np.testing.assert_allclose(
        random_identities(head, 9, 1, scale=0.4) * 2, random_identities(head, 9, 1), rtol=1e-6
    )
