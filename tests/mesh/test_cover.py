"""What lies close behind other faces."""

from __future__ import annotations

import numpy as np
import pytest

import facetalk
from facetalk.cli._identity import read_identity
from facetalk.mesh import Mesh
from facetalk.mesh.cover import covered
from facetalk.nphm.head.parts import Part
from facetalk.posing import _hidden


def slow(start: np.ndarray, way: np.ndarray, corners: np.ndarray) -> bool:
    """Whether a segment meets a triangle, by solving for the point where it does."""
    a, b, c = corners.astype(np.float64)
    try:
        u, v, along = np.linalg.solve(np.stack([b - a, c - a, -way], axis=1), start - a)
    except np.linalg.LinAlgError:
        return False
    return bool(u >= 0 and v >= 0 and u + v <= 1 and 0 < along < 1)


@pytest.mark.parametrize("seed", range(3))
def test_rays_meet_what_equations_say(seed: int) -> None:
    rng = np.random.default_rng(seed)
    vertices = rng.uniform(-1, 1, (180, 3)).astype(np.float32)
    faces = np.arange(180, dtype=np.int32).reshape(-1, 3)
    normals = rng.normal(size=(180, 3)).astype(np.float32)
    mesh = Mesh(vertices, faces, normals)
    below = np.arange(60) < 40
    found = covered(mesh, below, ~below, 0.7)
    for number in range(40):
        way = mesh.normals[faces[number]].mean(axis=0).astype(np.float64)
        way *= 0.7 / np.linalg.norm(way)
        start = vertices[faces[number]].mean(axis=0).astype(np.float64)
        assert found[number] == any(slow(start, way, vertices[face]) for face in faces[40:])
    assert 3 < found.sum() < 37 and not found[40:].any()


def test_nothing_covers_where_there_is_nothing() -> None:
    mesh = Mesh(np.eye(3, dtype=np.float32), np.array([[0, 1, 2]], np.int32), np.ones((3, 3), np.float32))
    for below, above in ((True, False), (False, True)):
        assert not covered(mesh, np.array([below]), np.array([above]), 1.0).any()


def test_lids_cover_the_iris_when_they_are_closed() -> None:
    face = facetalk.FaceTalk.from_pretrained("default", device="cpu")
    blink = [known.startswith("eyeBlink") for known in face.head.expression_names]
    weights = np.outer([0.0, 1.0], blink).astype(np.float32)
    worn = face.head.tables.mesh
    for name in (None, "random:1"):
        identity = np.zeros(0, np.float32) if name is None else read_identity(name, face.head)
        shares = []
        for posed in face.decode(facetalk.Motion(weights, 25.0, identity)):
            middles, normals = (a[posed.faces].mean(axis=1) for a in (posed.vertices, posed.normals))
            ball = (posed.part[posed.faces] == Part.EYEBALLS).all(axis=1) & (normals[:, 2] > 0.5)
            centre = posed.vertices[worn.landmarks[42:48]].mean(axis=0)
            iris = ball & (np.linalg.norm((middles - centre)[:, :2], axis=1) < 0.003)
            shares.append(_hidden(posed, worn)[iris].mean())
        assert iris.sum() > 30 and shares[0] < 0.3 and shares[1] == 1.0
