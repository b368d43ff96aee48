"""Lips and lids of an extraction: closed where the rig's are, left alone where they are open."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial import cKDTree

from experiments.face.geometry import regions_in_front
from facetalk import Motion
from facetalk.mesh.borrow import Paint
from facetalk.models import find_model
from facetalk.nphm.head.closing import closed
from facetalk.nphm.head.head import HeadModel
from facetalk.nphm.head.regions import Region
from facetalk.posing import _IN_THE_MOUTH, _hidden, rigged
from facetalk.units import HEAD_UNIT_METRES, HEAD_UNIT_MM

POSES = {
    "rest": {},
    "pressed": {"jawOpen": 0.1, "mouthClose": 0.1, "mouthPress_L": 0.3, "mouthPress_R": 0.3},
    "open": {"jawOpen": 0.4},
    "blink": {"eyeBlink_L": 1.0, "eyeBlink_R": 1.0},
}


@pytest.fixture(scope="module")
def head():
    return HeadModel.open(find_model("default").folder / "head")


@pytest.fixture(scope="module")
def posed(head):
    """By pose, the rig closed and what was added to close it, as extractions are told of them."""
    names = head.expression_names
    codes = np.float32([[values.get(name, 0.0) for name in names] for values in POSES.values()])
    rig = rigged(head, Motion(codes, 25.0, head.default_identity, {}), None)
    lift, more = head.bind().closing()
    moves = lift + np.tensordot(codes - head.rest_expression, more, axes=1)
    return {name: (rig[t], moves[t] * np.float32(HEAD_UNIT_METRES)) for t, name in enumerate(POSES)}


def close(head, mesh, rig, moves):
    worn, shown = head.tables.mesh, head.bind().lenders()
    seams = worn.lips, (worn.lid_left, worn.lid_right)
    hidden = _hidden(rig, worn)
    open_ = dataclasses.replace(rig, vertices=rig.vertices - moves)
    return closed(mesh, rig, moves, Paint(open_, shown, hidden), Paint(rig, shown, hidden), *seams)


def skin(head, near, metres, shape):
    """Rows of skin so near to vertices."""
    rows = np.flatnonzero(head.tables.mesh.region == Region.SKIN)
    away = np.linalg.norm(shape[rows][:, None] - shape[near], axis=2).min(axis=1)
    return rows[away < metres]


def seen_into(head, vertices):
    """How much of the mouth's inside a viewer in front sees between the lips, mm2."""
    worn = head.tables.mesh
    shape, faces = vertices / HEAD_UNIT_METRES, worn.faces()
    marks = shape[worn.landmarks[48:60]]
    low, high = marks[:, :2].min(axis=0), marks[:, :2].max(axis=0)
    deep = np.isin(worn.region, _IN_THE_MOUTH) & (shape[:, 2] < marks[:, 2].max() - 0.05)
    seen = regions_in_front(shape, faces, deep.astype(np.uint8), low, high, step=0.0008)
    return float((seen == 1).sum()) * (0.0008 * HEAD_UNIT_MM) ** 2


def torn(head, shape, metres):
    """Lips pulled apart, softly around their edges."""
    worn, out = head.tables.mesh, shape.copy()
    upper = worn.lips.target < 0
    far, nearest = cKDTree(worn.vertices[worn.lips.vertex]).query(worn.vertices)  # whose lips are apart
    way = np.where(upper[nearest], metres, -metres) * np.exp(-((far * HEAD_UNIT_METRES / 0.003) ** 2))
    out[:, 1] += np.where(np.isin(worn.region, (Region.SKIN, Region.MOUTH)), way, 0.0).astype(np.float32)
    return out


@pytest.mark.parametrize("name", ["rest", "pressed"])
def test_lips_with_a_hole_between_them_meet_as_the_rigs_do(head, posed, name):
    rig, moves = posed[name]
    lips = head.tables.mesh.lips
    found = rig.vertices - moves  # of a field that knows the data alone
    assert lips.gaps(found).mean() > lips.gaps(rig.vertices).mean() + 0.0004
    # And a hole that a backward deformation makes where lips are pressed together.
    open_ = torn(head, found, 0.0005 if name == "rest" else 0.0012)
    shut = close(head, dataclasses.replace(rig, vertices=open_), rig, moves)
    assert seen_into(head, open_) > 10.0 and seen_into(head, shut.vertices) < 1.0
    far = np.linalg.norm(found[:, None] - found[lips.vertex], axis=2).min(axis=1) > 0.03
    far &= head.tables.mesh.region == Region.SKIN
    np.testing.assert_allclose(shut.vertices[far], open_[far], atol=1e-6)
    np.testing.assert_array_equal(shut.faces, rig.faces)


def test_open_lips_are_moved_as_the_rigs_are_and_not_glued(head, posed):
    rig, moves = posed["open"]
    lips = head.tables.mesh.lips
    found = rig.vertices - moves
    off = found.copy()
    rows = skin(head, lips.vertex, 0.006, found)
    off[rows, 2] += np.float32(0.0002)  # a field is not exact
    done = close(head, dataclasses.replace(rig, vertices=off), rig, moves)
    away = skin(head, lips.vertex[np.abs(lips.gaps(rig.vertices)) > 0.003], 0.004, found)
    corners = head.tables.mesh.landmarks[[60, 64]]
    away = away[np.linalg.norm(found[away][:, None] - found[corners], axis=2).min(axis=1) > 0.008]
    assert len(away) > 100
    way = done.vertices[away] - off[away]
    assert np.abs(way - moves[away]).max() < 0.0002 and np.abs(way - moves[away]).mean() < 0.00003
    assert lips.gaps(done.vertices).max() == pytest.approx(lips.gaps(rig.vertices).max(), abs=1e-4)


def test_lids_that_stay_open_meet(head, posed):
    rig, moves = posed["blink"]
    worn = head.tables.mesh
    open_ = rig.vertices - moves
    open_[worn.lid_left.vertex, 1] += np.float32(0.001)
    done = close(head, dataclasses.replace(rig, vertices=open_), rig, moves)
    was, now = (np.maximum(worn.lid_left.gaps(v), 0.0).mean() for v in (open_, done.vertices))
    assert was > 0.0005 and now < 0.2 * was


def test_gaps_are_the_same_from_either_lip(head):
    lips = head.tables.mesh.lips
    shape = head.tables.mesh.vertices.copy()
    gap = lips.gaps(shape)
    upper = lips.target < 0
    shape[lips.vertex[upper], 1] += 0.01
    assert (lips.gaps(shape) > gap + 0.004).mean() > 0.9 and lips.gaps(shape)[upper].min() > gap[upper].min()


def test_a_mesh_without_vertices_is_closed(head, posed):
    rig, moves = posed["rest"]
    nothing = dataclasses.replace(
        rig, vertices=np.zeros((0, 3)), faces=np.zeros((0, 3), np.int32), normals=np.zeros((0, 3)),
        colors=np.zeros((0, 3), np.uint8), part=np.zeros(0, np.uint8), texture=None,
    )  # fmt: skip
    assert not len(close(head, nothing, rig, moves))
