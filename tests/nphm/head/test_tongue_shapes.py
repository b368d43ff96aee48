"""The tongue's shapes in the mouths of several identities: where it gets to, and what it stays out of."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from facetalk.arrays import AnyFloat, Float64, Int32, Int64
from facetalk.data.expressions import INDEX
from facetalk.data.phones import table
from facetalk.mesh.mesh import vertex_normals
from facetalk.models import find_model
from facetalk.nphm.head.head import HeadModel
from facetalk.nphm.head.regions import Region
from facetalk.units import HEAD_UNIT_METRES

MM = 1000.0 * HEAD_UNIT_METRES


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return HeadModel.open(find_model("default").folder / "head")


def spoken(viseme: str, *, jaw: float | None = None) -> AnyFloat:
    code = np.zeros(53, np.float32)
    for name, weight in table()["visemes"][viseme]["targets"].items():
        code[INDEX[name]] = weight
    if jaw is not None:
        code[INDEX["jawOpen"]] = jaw
    return code


def posed(head: HeadModel, seed: int | None, code: AnyFloat, tongue: AnyFloat) -> Float64:
    """(V, 3) millimetres of an identity."""
    identity = None
    if seed is not None:
        identity = head.encode_identity(
            0.8 * np.random.default_rng(seed).standard_normal(head.coefficient_dim)
        )
    person = head.bind(identity)
    mesh, basis = person.rig()
    shapes = person.tongue()
    assert shapes is not None
    moved = np.tensordot(code - head.rest_expression, basis, 1) + np.tensordot(tongue, shapes, 1)
    return (mesh.vertices + moved).astype(np.float64) * MM


def faces_of(head: HeadModel, *regions: Region) -> Int32:
    mesh = head.tables.mesh
    assert mesh is not None
    faces = mesh.faces()
    return faces[np.isin(mesh.region[faces], regions).all(axis=1)]


def height(points: Float64, vertices: Float64, faces: Int32, lowest: bool) -> Float64:
    """(N,) height of the lowest or highest of faces straight above or below points; infinite without one."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    u, v, q = (b - a)[:, [0, 2]], (c - a)[:, [0, 2]], points[:, None, [0, 2]] - a[:, [0, 2]]
    area = u[:, 0] * v[:, 1] - v[:, 0] * u[:, 1]
    area = np.where(np.abs(area) < 1e-9, np.inf, area)
    s = (q[..., 0] * v[:, 1] - v[:, 0] * q[..., 1]) / area
    t = (u[:, 0] * q[..., 1] - q[..., 0] * u[:, 1]) / area
    y = a[:, 1] + s * (b - a)[:, 1] + t * (c - a)[:, 1]
    hit = (s >= 0.0) & (t >= 0.0) & (s + t <= 1.0) & np.isfinite(area)
    return np.where(hit, y, np.inf).min(axis=1) if lowest else np.where(hit, y, -np.inf).max(axis=1)


def inside(head: HeadModel, points: Float64) -> tuple[float, float]:
    """How deep the tongue is above the underside of upper gum and teeth, and below the lower teeth's top."""
    mouth = head.tables.mouth
    assert mouth is not None
    body = points[mouth.body]
    roof = height(body, points, faces_of(head, Region.UPPER_GUM, Region.UPPER_TEETH), lowest=True)
    teeth = height(body, points, faces_of(head, Region.LOWER_TEETH), lowest=False)
    return float((body[:, 1] - roof).max()), float((teeth - body[:, 1]).max())


def away(points: Float64, rows: Int64, vertex: int) -> float:
    return float(np.linalg.norm(points[rows] - points[vertex], axis=1).min())


@pytest.mark.parametrize("seed", [None, 0, 3, 4])
@pytest.mark.parametrize(("viseme", "jaw"), [("TDN", None), ("L", None), ("S", 0.02), ("L", 0.2)])
def test_the_tip_gets_up_to_the_ridge_and_no_further(
    head: HeadModel, seed: int | None, viseme: str, jaw: float | None
) -> None:
    code, mouth, reach = spoken(viseme, jaw=jaw), head.tables.mouth, head.tables.reach
    assert mouth is not None and reach is not None
    weights = reach.weights(np.array([[1.0, 0.0]]), code[None])[0]
    assert 0.4 < weights[0] <= 1.0 and not weights[1:].any()
    points = posed(head, seed, code, weights)
    still = posed(head, seed, code, np.zeros(3))
    assert away(still, mouth.body, mouth.ridge) > 9.0 and away(points, mouth.body, mouth.ridge) < 2.6
    roof, teeth = inside(head, points)
    assert -1.5 < roof < 1.2 and teeth < 0.6


@pytest.mark.parametrize("seed", [None, 0, 3, 4])
def test_the_tip_comes_between_the_teeth(head: HeadModel, seed: int | None) -> None:
    code, mouth, reach = spoken("TH"), head.tables.mouth, head.tables.reach
    assert mouth is not None and reach is not None
    weights = reach.weights(np.array([[0.0, 1.0]]), code[None])[0]
    points = posed(head, seed, code, weights)
    tip, upper, lower = (points[k] for k in (mouth.tip, mouth.upper, mouth.lower))
    assert 1.5 < tip[2] - upper[2] < 6.0 and lower[1] - 0.5 < tip[1] < upper[1] + 0.5
    roof, teeth = inside(head, points)
    assert roof < 1.0 and teeth < 1.5
    lips = points[mouth.lips].mean(axis=1)
    assert lips[1, 1] < tip[1] < lips[0, 1]


def test_nothing_comes_out_between_closed_lips_or_teeth(head: HeadModel) -> None:
    reach, mouth = head.tables.reach, head.tables.mouth
    assert reach is not None and mouth is not None
    codes = np.stack([spoken("sil"), spoken("PB"), spoken("TH", jaw=0.0), spoken("M", jaw=0.12)])
    codes[3, INDEX["mouthClose"]] = 0.12  # lips that an open jaw does not part
    weights = reach.weights(np.tile([[0.0, 1.0]], (4, 1)), codes)
    assert not weights[:, 2].any()
    for code, weight in zip(codes[:3], weights[:3], strict=True):
        points = posed(head, None, code, weight)
        assert points[mouth.tip, 2] < points[mouth.upper, 2] - 2.0
        assert inside(head, points)[0] < 1.0


def test_out_lies_on_the_lower_lip(head: HeadModel) -> None:
    code, mouth = np.zeros(53, np.float32), head.tables.mouth
    assert mouth is not None
    code[INDEX["jawOpen"]] = 0.25
    for seed in (None, 1):
        points = posed(head, seed, code, np.array([0.0, 0.0, 1.0]))
        lips = points[mouth.lips].mean(axis=1)
        assert points[mouth.tip, 2] > lips[1, 2] + 8.0 and lips[1, 1] < points[mouth.tip, 1] < lips[0, 1]
        roof, teeth = inside(head, points)
        assert roof < 0.0 and teeth < 1.0


def test_only_the_tongues_body_moves_and_smoothly(head: HeadModel) -> None:
    mesh, mouth, person = head.tables.mesh, head.tables.mouth, head.bind()
    shapes = person.tongue()
    assert mesh is not None and mouth is not None and shapes is not None
    moves = np.linalg.norm(shapes, axis=2) * MM
    assert np.isin(np.flatnonzero(moves.max(axis=0)), mouth.body).all()
    assert (mesh.region[mouth.body] == Region.TONGUE).all()
    # Neighbours stay neighbours: no edge gets longer than by two and a half and a millimetre, none flips.
    faces = mesh.faces()
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    canonical = person.rig()[0].vertices
    long = np.linalg.norm(canonical[edges[:, 0]] - canonical[edges[:, 1]], axis=1) * MM
    turned = vertex_normals(canonical, faces)
    for shape in shapes:
        bent = canonical + shape
        assert (np.linalg.norm(bent[edges[:, 0]] - bent[edges[:, 1]], axis=1) * MM < 2.5 * long + 1.0).all()
        assert (
            (vertex_normals(bent, faces) * turned).sum(axis=1) > -0.5
        ).all()  # 0 of vertices without a face


def test_coarser_levels_have_the_same_shapes(head: HeadModel) -> None:
    mesh, person = head.tables.mesh, head.bind()
    assert mesh is not None
    fine = person.tongue()
    assert fine is not None
    for level in (1, 2):
        coarse = person.tongue(level)
        assert coarse is not None and coarse.shape == person.rig(level)[1][:3].shape
        np.testing.assert_array_equal(coarse, fine[:, np.unique(mesh.faces(level))])
        assert np.abs(coarse).max(axis=(1, 2)).min() * MM > 8.0


def test_a_mesh_without_a_tongue_has_no_shapes(head: HeadModel) -> None:
    mesh = head.tables.mesh
    assert mesh is not None
    region = np.where(mesh.region == Region.TONGUE, np.uint8(Region.LOWER_GUM), mesh.region)
    bare = HeadModel(tables=dataclasses.replace(head.tables, mesh=dataclasses.replace(mesh, region=region)))
    assert bare.bind().tongue() is None and bare.tables.reach is None
