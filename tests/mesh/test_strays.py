"""Pieces of a mesh: found with their sizes, taken out, and what was cut is closed again."""

import numpy as np
import pytest

from facetalk.mesh import Mesh
from facetalk.mesh.patch import open_edges
from facetalk.mesh.strays import cut, kept, pieces
from facetalk.ops.marching_cubes import marching_cubes


def surface(shape, cells=40):
    axis = np.linspace(-1.0, 1.0, cells + 1)
    values = shape(np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)).astype(np.float32)
    return Mesh(*marching_cubes(values, bounds=((-1, -1, -1), (1, 1, 1)))[:2])


def ball(x, middle, radius):
    return np.linalg.norm(x - np.array(middle), axis=-1) - radius


def shell_and_ball(x):
    """A ball with a pocket in it, and a small one beside."""
    hollow = np.maximum(ball(x, [-0.3, 0, 0], 0.6), -ball(x, [-0.3, 0, 0], 0.3))
    return np.minimum(hollow, ball(x, [0.7, 0, 0], 0.2))


def rod(x):
    """Two balls with a rod between them."""
    along = np.maximum(np.hypot(x[..., 1], x[..., 2]) - 0.15, np.abs(x[..., 0]) - 0.6)
    return np.minimum(along, np.minimum(ball(x, [-0.6, 0, 0], 0.3), ball(x, [0.6, 0, 0], 0.3)))


def test_pieces_have_their_area_and_pockets_a_negative_volume():
    mesh = surface(shell_and_ball)
    found = pieces(mesh)
    order = np.argsort(found.area)[::-1]
    radius = np.array([0.6, 0.3, 0.2])
    np.testing.assert_allclose(found.area[order], 4 * np.pi * radius**2, rtol=0.02)
    np.testing.assert_allclose(found.volume[order], 4 / 3 * np.pi * radius**3 * [1, -1, 1], rtol=0.04)
    apart = np.linalg.norm(mesh.vertices - np.float32([0.7, 0, 0]), axis=1) < 0.3
    np.testing.assert_array_equal(found.of_vertex == order[2], apart)
    left, number = kept(mesh, found.of_vertex[mesh.faces[:, 0]] == order[0])
    np.testing.assert_array_equal(number >= 0, found.of_vertex == order[0])
    np.testing.assert_array_equal(left.vertices, mesh.vertices[number >= 0])
    assert pieces(left).area == pytest.approx(found.area[order[:1]])


def test_colours_and_parts_go_along():
    mesh = surface(shell_and_ball)
    mesh.colors, mesh.part = (
        np.arange(3 * len(mesh)).reshape(-1, 3).astype(np.uint8),
        np.arange(len(mesh)).astype(np.uint8),
    )
    left, number = kept(mesh, mesh.vertices[mesh.faces[:, 0], 0] > 0.4)
    rows = np.flatnonzero(number >= 0)
    np.testing.assert_array_equal(left.colors, mesh.colors[rows])
    np.testing.assert_array_equal(left.part, mesh.part[rows])
    np.testing.assert_array_equal(left.normals, mesh.normals[rows])


@pytest.mark.parametrize("jagged", [False, True])
def test_what_is_cut_is_closed_again(jagged):
    mesh = surface(rod)
    rng = np.random.default_rng(0)
    middle = np.abs(mesh.vertices[:, 0]) < (0.1 + 0.12 * rng.random(len(mesh)) if jagged else 0.1)
    left, number = cut(mesh, middle)
    assert not len(open_edges(left.faces.astype(np.int64)))
    assert (number[middle] == -1).all() and np.abs(left.vertices[:, 0]).min() > 0.05
    np.testing.assert_array_equal(left.vertices[number[number >= 0]], mesh.vertices[number >= 0])
    found = pieces(left)
    assert len(found.area) == 2 and (found.volume > 4 / 3 * np.pi * 0.3**3).all()
    # Caps look outwards: two of them, in the middle of the rod's ends.
    caps = left.vertices[int(number.max()) + 1 :]
    assert len(caps) == 2 and np.abs(caps[:, 1:]).max() < 0.05


def test_what_was_open_stays_open():
    mesh = surface(lambda x: ball(x, [0, 0, 0], 0.7))
    half, _ = kept(mesh, mesh.vertices[mesh.faces, 2].min(axis=1) > 0.0)
    open_before = len(open_edges(half.faces.astype(np.int64)))
    left, _ = cut(half, half.vertices[:, 2] > 0.6)
    assert len(open_edges(left.faces.astype(np.int64))) == open_before > 20
    none, number = cut(half, np.zeros(len(half), bool))
    np.testing.assert_array_equal(none.faces, half.faces)
    np.testing.assert_array_equal(number, np.arange(len(half)))


def test_a_mesh_whose_rims_keep_touching_stays_whole(monkeypatch):
    mesh = surface(rod)
    monkeypatch.setattr("facetalk.mesh.strays.loops", lambda edges: None)
    whole, number = cut(mesh, np.abs(mesh.vertices[:, 0]) < 0.1)
    np.testing.assert_array_equal(whole.faces, mesh.faces)
    np.testing.assert_array_equal(number, np.arange(len(mesh)))
