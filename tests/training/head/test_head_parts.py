"""Anchors, what can be seen between lids and lips, points of the distance pool, and the figures of a head."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from facetalk.data.heads import samples
from facetalk.data.heads.ict import BUILT_IN, MorphableHead
from facetalk.data.heads.samples import SurfaceSampler, sample_distances
from facetalk.nphm.head.parts import Part
from facetalk.training.head import figures
from facetalk.training.head.identity_codes import anchor_vertices
from facetalk.training.head.pairs import hidden_places, visible_points
from facetalk.units import HEAD_UNIT_MM


@pytest.fixture
def head(synthetic_data: Path) -> MorphableHead:
    return MorphableHead.load(synthetic_data)


@pytest.fixture(scope="module")
def ict() -> MorphableHead:
    return MorphableHead.load(BUILT_IN)


def test_anchors_come_in_mirrored_pairs_and_lie_where_they_say(ict: MorphableHead) -> None:
    sets, pairs = anchor_vertices(ict)
    shape, mark = ict.canonical(), ict.canonical()[ict.landmark_ids]
    means = np.stack([shape[ids].mean(0) for ids in sets])
    assert (len(sets), pairs) == (2 * (16 + 8) + 7 + 3, 24)
    right, left = means[0 : 2 * pairs : 2], means[1 : 2 * pairs : 2]
    assert (right[16:, 0] < 0).all() and (left[16:, 0] > 0).all()
    np.testing.assert_allclose(right * [-1, 1, 1], left, atol=6.0 / HEAD_UNIT_MM)
    ours = left[16:]
    expected = [ict.eyeballs(shape)[0][0] if ict.eyeballs(shape)[0][0][0] > 0 else ict.eyeballs(shape)[0][1]]
    expected += [mark[list(ids)].mean(0) for ids in ((43, 44), (46, 47), (52, 63), (56, 65))]
    assert np.linalg.norm(ours[0] - expected[0]) * HEAD_UNIT_MM < 8.0
    np.testing.assert_allclose(ours[1:5], expected[1:], atol=1e-6)
    others = [mark[list(ids)].mean(0) for ids in ((37, 38), (40, 41), (50, 61), (58, 67))]
    np.testing.assert_allclose(right[17:21], others, atol=1e-6)
    upper, lower = (shape[ict.vertex_part == part] for part in (Part.UPPER_TEETH, Part.LOWER_TEETH))
    for teeth, side, middle in ((upper, ours[5], means[-3]), (lower, ours[6], means[-2])):
        assert 0.4 * teeth[:, 0].max() < side[0] < teeth[:, 0].max() and abs(middle[0]) < 1.0 / HEAD_UNIT_MM
        assert middle[2] > side[2]  # front teeth are in front
    widest = shape[ict.vertex_part == Part.SKIN]
    widest = widest[(widest[:, 1] > -0.2) & ((widest - ict.neck_point) @ ict.neck_normal > 0)]
    np.testing.assert_allclose(ours[7][0], widest[:, 0].max())
    middles = means[2 * pairs :]
    assert np.abs(middles[:, 0]).max() < 2.0 / HEAD_UNIT_MM


def marks() -> np.ndarray:
    """Landmarks of two open eyes (4 wide, 1 high) and a mouth (4 wide, 2 high) in front."""
    out = np.zeros((68, 3))
    for first, x in ((36, -4.0), (42, 4.0)):
        out[first : first + 6, :2] = [
            (x - 2, 4),
            (x - 1, 4.5),
            (x + 1, 4.5),
            (x + 2, 4),
            (x + 1, 3.5),
            (x - 1, 3.5),
        ]
    out[60:68, :2] = [(-2, -3), (-1, -2), (0, -2), (1, -2), (2, -3), (1, -4), (0, -4), (-1, -4)]
    return out


@pytest.mark.parametrize(("x", "y", "part", "place", "close", "seen"), [
    (9, 9, Part.SKIN, 0.0, 0.0, True),  # the outside always
    (-4, 4, Part.EYEBALLS, 0.0, 0.0, True), (4, 4, Part.EYEBALLS, 0.0, 0.0, True),
    (-4, 4.6, Part.EYEBALLS, 0.0, 0.0, False), (-4, 3.4, Part.EYEBALLS, 0.0, 0.0, False),
    (-1.9, 4.04, Part.EYEBALLS, 0.0, 0.0, False), (-2.01, 4.0, Part.EYEBALLS, 0.0, 0.0, True),
    (0, 4, Part.EYEBALLS, 0.0, 0.0, False), (6.2, 4, Part.EYEBALLS, 0.0, 0.0, False),
    (2.2, 4.04, Part.EYEBALLS, 0.0, 0.0, True), (4, 3.49, Part.EYEBALLS, 0.0, 0.0, False),
    (0, -3, Part.UPPER_TEETH, 0.5, 0.0, True), (0, -1.9, Part.UPPER_TEETH, 0.5, 0.0, False),
    (0, -4.1, Part.LOWER_TEETH, 0.5, 0.0, False), (1.5, -2.4, Part.UPPER_TEETH, 0.5, 0.0, False),
    (1.5, -2.6, Part.UPPER_TEETH, 0.5, 0.0, True), (-1.5, -3.4, Part.LOWER_TEETH, 0.5, 0.0, True),
    (-2.1, -3, Part.LOWER_TEETH, 0.5, 0.0, False), (-1.5, -3.6, Part.LOWER_TEETH, 0.5, 0.0, False),
    (9, 9, Part.SKIN, 0.5, 0.9, True), (9, 9, Part.SKIN, 0.5, 0.7, False),  # the lips' inner edge
    (9, 9, Part.UPPER_TEETH, 0.5, 0.9, False),
    (-4, 4, Part.SKIN, 1.0, 0.0, False),  # an eye socket never
])  # fmt: skip
def test_what_is_seen_between_lids_and_lips(
    x: float, y: float, part: Part, place: float, close: float, seen: bool
) -> None:
    found = visible_points(
        torch.tensor([[[x, y, 0.0]]]).double(), torch.tensor([[part]], dtype=torch.uint8),
        torch.tensor([[place]]), torch.tensor([[close]]), torch.from_numpy(marks()).double()[None],
    )  # fmt: skip
    assert found.tolist() == [[seen]]


def test_nothing_is_seen_behind_what_is_closed() -> None:
    shut = marks()
    shut[36:48, 1] = 4.0
    shut[60:68, 1] = -3.0
    points = torch.tensor([[[-4.0, 4, 0], [4, 4, 0], [0, -3, 0]]]).double()
    part = torch.tensor([[Part.EYEBALLS, Part.EYEBALLS, Part.UPPER_TEETH]], dtype=torch.uint8)
    place, close, lines = (
        torch.tensor([[0, 0, 0.5]]),
        torch.zeros(1, 3),
        torch.from_numpy(shut).double()[None],
    )
    assert not visible_points(points, part, place, close, lines).any()


def test_places_behind_lids_and_lips(head: MorphableHead) -> None:
    place = hidden_places(head)
    assert set(np.unique(place)) == {0.0, 0.5, 1.0}
    assert (place[head.part_vertices("eye_socket_left")] == 1.0).all()
    assert (place[head.part_vertices("teeth")] == 0.5).all() and not place[head.part_vertices("face")].any()


def test_distances_are_measured_near_the_surface_mostly(head: MorphableHead) -> None:
    pytest.importorskip("igl", reason="libigl makes training data")
    identity = np.zeros(head.identity_dim, np.float32)
    points, distance = sample_distances(head, SurfaceSampler(head), identity, 3000, np.random.default_rng(0))
    shape = head.canonical(identity)
    assert points.shape == (3000, 3) and points.dtype == np.float32
    np.testing.assert_allclose(distance, head.signed_distance(points, shape), atol=1e-6)
    assert 0.45 < (np.abs(distance) < 0.004).mean() < 0.85 and (np.abs(distance) > 0.05).mean() > 0.05
    assert np.abs(distance[distance < 0]).max() < 0.5 and (distance < 0).mean() > 0.2
    near = int(0.85 * 3000)
    cut = points[-(3000 - near) :][:10]
    disc = points[(np.abs((points - head.neck_point) @ head.neck_normal) < 0.05)]
    assert len(disc) >= 140 and len(cut)  # a twentieth lies on the cut, within some hundredths
    low, high = shape[head.vertex_part == Part.SKIN].min(0) - 0.1, shape.max(0) + 0.1
    outside = ((points < low - 0.15) | (points > high + 0.15)).any(1)
    assert outside.mean() < 0.06


def test_pools_are_made_in_fair_order() -> None:
    blocks = samples._blocks(3, 100, 45, 20)
    assert sorted(blocks) == [(0, 0, 20), (0, 1, 20), (0, 2, 20), (0, 3, 20), (0, 4, 20)] + [
        (head, number, count) for head in (1, 2, 3) for number, count in ((0, 20), (1, 20), (2, 5))
    ]
    order = [(head, number) for head, number, _ in blocks]
    assert order[0] == (0, 0) and [h for h, n in order if n == 0 and h] == [1, 2, 3]
    # The first blocks of all come before any second one, and the mean head's are spread over the whole.
    assert order.index((3, 0)) < order.index((1, 1)) < order.index((3, 1)) < order.index((1, 2))
    assert 0.5 < order.index((0, 4)) / len(order) < 1.0


class Exact:
    """A person whose rig is the data's."""

    def __init__(self, data: MorphableHead, row: np.ndarray, by_mm: float) -> None:
        self.data, self.row, self.identity, self.by = data, row, row, by_mm / HEAD_UNIT_MM

    def distance(self, points: np.ndarray) -> np.ndarray:
        return np.full(len(points), -self.by)

    def forward_basis(self, points: np.ndarray, part: np.ndarray) -> np.ndarray:
        basis = self.data.expression_basis[:, self.data.landmark_ids]
        return basis if len(points) == 68 else np.zeros((len(basis), len(points), 3))

    def landmarks(self) -> np.ndarray:
        return self.data.canonical(self.row)[self.data.landmark_ids]

    def canonical(self) -> Any:
        return SimpleNamespace(
            vertices=np.zeros((5, 3)), faces=np.zeros((7, 3)), part=np.array([0, 0, Part.EYEBALLS, 1, 1])
        )

    def lenders(self) -> np.ndarray:
        return np.ones(5, bool)


def test_figures_of_a_head_whose_errors_are_known(
    head: MorphableHead, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("igl", reason="libigl makes training data")
    faces = {"neutral": {}, "open": {"jawOpen": 0.5}, "shut": {"jawOpen": 0.5, "mouthClose": 0.5}}
    monkeypatch.setattr(figures, "EXPRESSIONS", faces)
    away, mean_code = np.array([3.0 / HEAD_UNIT_MM, 0, 0]), np.zeros(head.identity_dim, np.float32)

    def bind(row: np.ndarray | None = None) -> Exact:
        return Exact(head, mean_code if row is None else row, 0.25)

    model = SimpleNamespace(
        rest_expression=head.canonical_expression, encode_identity=lambda row: row, bind=bind,
        nphm=SimpleNamespace(offsets=lambda points, code, weights: np.tile(away, (len(points), 1))),
    )  # fmt: skip
    monkeypatch.setattr(
        figures, "speech_expressions", lambda data, n, rng: np.tile(data.canonical_expression, (2, 1))
    )
    told = figures.measure(model, head, held_out=2, points=400)  # type: ignore[arg-type]
    assert (told["mean head"]["heads"], told["held-out heads"]["heads"]) == (1, 2)
    for part in (told["mean head"], told["held-out heads"]):
        for region in ("", " lips", " lids", " teeth and gums"):
            assert part["errors"]["distance" + region] == {"mean": 0.25, "p95": 0.25}
        assert part["errors"]["forward"]["mean"] == 0.0
        assert part["errors"]["backward"] == part["errors"]["cycle"] == {"mean": 3.0, "p95": 3.0}
        assert all(gap["error"] == 0.0 and gap["model"] == gap["data"] for gap in part["lip gap"].values())
        assert part["lid gap error at blink"] == 0.0
    mean, mm = (
        head.vertices(np.zeros(head.identity_dim), head.weights(jawOpen=0.5))[head.landmark_ids],
        HEAD_UNIT_MM,
    )
    gaps = [mean[a, 1] - mean[b, 1] for a, b in ((61, 67), (62, 66), (63, 65))]
    assert told["mean head"]["lip gap"]["open"]["model"] == pytest.approx(np.mean(gaps) * mm, abs=2e-3)
    assert told["mean head"]["lip gap"]["open"]["model"] > told["mean head"]["lip gap"]["shut"]["model"] + 0.3
    mesh = told["canonical mesh"]
    assert (mesh["vertices"], mesh["faces"]) == (5, 7) and mesh["distance from the zero set (median)"] == 0.25
    assert (
        list(mesh["vertices of each part"].values()) == [2, 2, 0, 1]
        or sum(mesh["vertices of each part"].values()) == 5
    )


def test_lids_and_lips_are_paired_as_they_face_each_other() -> None:
    assert figures._LIPS == ((61, 67), (62, 66), (63, 65))
    points = np.zeros((68, 3), np.float32)
    points[[37, 38, 43, 44], 1] = 0.01
    assert figures._gap(points, figures._LIDS) == pytest.approx(0.01 * HEAD_UNIT_MM)
    assert figures._gap(points, figures._LIPS) == 0.0
