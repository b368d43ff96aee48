"""Canonical meshes of a chosen size: budget, focus, edges, labels, distance to the surface."""

from __future__ import annotations

import numpy as np
import pytest
from golden import GOLDEN
from safetensors.torch import load_file
from scipy.spatial import cKDTree

from facetalk.errors import InputError
from facetalk.mesh.mesh import CanonicalMesh
from facetalk.nphm import load_checkpoint
from facetalk.nphm.canonical_mesh import _only_manifold, canonical_mesh, check_mesh, crowded_anchors
from facetalk.nphm.field import Field

RESOLUTION = 80
FOCUS = np.array([[0.0, -0.1, 0.35]], np.float32)


@pytest.fixture(scope="module", params=["nphm_tiny", "mononphm_tiny"])
def field(request: pytest.FixtureRequest) -> Field:
    folder = GOLDEN / request.param
    model = load_checkpoint(folder, family="mononphm" if "mono" in request.param else "nphm")
    return model.bind(load_file(folder / "golden.safetensors")["lat_id"])


@pytest.mark.parametrize("triangles", [1500, 6000])
def test_budget_edges_and_surface(field: Field, triangles: int) -> None:
    mesh = canonical_mesh(field, triangles, resolution=RESOLUTION)
    assert 0.85 * triangles < len(mesh.faces) <= triangles
    assert mesh.check == check_mesh(mesh.vertices, mesh.faces) and mesh.check.manifold
    assert mesh.check.pieces == 1
    assert np.array_equal(np.unique(mesh.faces), np.arange(len(mesh.vertices)))
    # On the zero level but for the rim, which stays in the plane that it was cut in.
    inner = np.abs(mesh.vertices[:, 1] + 0.5) > 1e-3
    assert mesh.distance[inner].max() < 1e-3 and np.median(mesh.distance) < 1e-5
    assert np.allclose(np.abs(field.query(mesh.vertices)[0]), mesh.distance)
    # No part of the surface is left out: every point of the fine one has the coarse one near.
    fine = field.extract(None, RESOLUTION, units="head")[0]
    edge = np.linalg.norm(mesh.vertices[mesh.faces[:, 0]] - mesh.vertices[mesh.faces[:, 1]], axis=1)
    assert np.quantile(cKDTree(mesh.vertices).query(fine.vertices)[0], 0.999) < 2 * edge.max()
    assert ((field.gradient(mesh.vertices)[0][:, :3] * _normals(mesh)).sum(1) > 0).mean() > 0.99


def _normals(mesh) -> np.ndarray:
    from facetalk.ops import vertex_normals

    return vertex_normals(mesh.vertices, mesh.faces)


def test_the_focus_is_denser(field: Field) -> None:
    def inside(share: float) -> int:
        mesh = canonical_mesh(field, 4000, focus=FOCUS, radius=0.15, share=share, resolution=RESOLUTION)
        assert np.array_equal(mesh.dense, np.linalg.norm(mesh.vertices - FOCUS[0], axis=1) < 0.15)
        return int(mesh.dense.sum())

    assert inside(0.5) > 2 * inside(0.05) > 0


def test_labels_come_from_the_nearest_vertex(field: Field) -> None:
    fine = field.extract(None, 40, units="head")[0]
    part = (fine.vertices[:, 0] > 0).astype(np.uint8) * 3
    colors = np.repeat(part[:, None], 3, axis=1)
    labels = CanonicalMesh(fine.vertices, fine.faces, part, colors)
    mesh = canonical_mesh(field, 2000, resolution=RESOLUTION, labels=labels)
    clear = np.abs(mesh.vertices[:, 0]) > 0.05
    assert np.array_equal(mesh.part[clear] == 3, mesh.vertices[clear, 0] > 0)
    assert np.array_equal(mesh.colors[:, 1], mesh.part) and mesh.part.dtype == np.uint8
    assert canonical_mesh(field, 600, resolution=RESOLUTION).part is None


def test_crowded_anchors() -> None:
    crowd = np.array([[0, 0, 0], [0.01, 0, 0], [0, 0.01, 0], [0, 0, 0.01]], np.float32)
    lonely = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0]], np.float32)
    assert {tuple(p) for p in crowded_anchors(np.concatenate([lonely, crowd]))} == {tuple(p) for p in crowd}
    assert len(crowded_anchors(crowd[:1])) == 1


def test_what_is_wrong_with_a_mesh_is_seen_and_taken_out() -> None:
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, -0.1, 0]], np.float32)
    whole = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]], np.int32)
    assert check_mesh(points[:4], whole).manifold and check_mesh(points[:4], whole).boundary == 0
    fin = np.concatenate([whole, [[0, 1, 4]]]).astype(np.int32)
    assert check_mesh(points, fin).non_manifold == 1 and not check_mesh(points, fin).manifold
    turned = whole.copy()
    turned[0] = turned[0, ::-1]
    assert check_mesh(points, turned).non_manifold == 3
    assert check_mesh(points, np.concatenate([whole, [[0, 0, 1]]]).astype(np.int32)).degenerate == 1
    vertices, faces = _only_manifold(points, fin)
    assert check_mesh(vertices, faces).manifold and len(faces) == 4


def test_refusals(field: Field) -> None:
    for triangles in (10, 0, 2.5, True, "many"):
        with pytest.raises(InputError, match="triangles"):
            canonical_mesh(field, triangles, resolution=24)
    with pytest.raises(InputError, match="higher resolution"):
        canonical_mesh(field, 10**6, resolution=24)
    with pytest.raises(InputError, match="share"):
        canonical_mesh(field, 400, share=1.5)
    with pytest.raises(InputError, match="radius"):
        canonical_mesh(field, 400, radius=0.0)
    with pytest.raises(InputError, match="focus"):
        canonical_mesh(field, 400, focus=np.zeros((0, 3)))
    with pytest.raises(InputError, match="no surface"):
        canonical_mesh(field, 400, resolution=9, bounds=((3, 3, 3), (4, 4, 4)))
