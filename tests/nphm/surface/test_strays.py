"""What is no part of a head goes: specks, pockets, slivers between open lips. What is one stays."""

import numpy as np
import pytest

from facetalk.mesh import Mesh
from facetalk.mesh.patch import open_edges
from facetalk.nphm.surface.strays import without_strays
from facetalk.ops.marching_cubes import marching_cubes

LIPS = np.float32([[-0.025, 0.0, 0.08], [0.025, 0.0, 0.08], [0.0, 0.02, 0.095], [0.0, -0.02, 0.095]])


def ball(middle, radius):
    return lambda x: np.linalg.norm(x - np.array(middle), axis=-1) - radius


def both(*shapes):
    return lambda x: np.min([shape(x) for shape in shapes], axis=0)


def surface(shape, cells=80):
    axis = np.linspace(-0.12, 0.12, cells + 1)
    values = shape(np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)).astype(np.float32)
    return Mesh(*marching_cubes(values, bounds=((-0.12,) * 3, (0.12,) * 3))[:2])


HEAD, TOOTH = ball([0, 0, 0], 0.07), ball([0.0, 0.006, 0.08], 0.004)


@pytest.fixture(scope="module")
def rig():
    """A head, and a tooth that stands alone in front of it."""
    head, tooth = surface(HEAD), surface(TOOTH)
    mesh = Mesh(
        np.concatenate([head.vertices, tooth.vertices]), np.concatenate([head.faces, tooth.faces + len(head)])
    )
    return mesh, np.arange(len(mesh)) >= len(head)


def heights(mesh, middle, reach):
    return np.linalg.norm(mesh.vertices - np.float32(middle), axis=1) < reach


@pytest.mark.parametrize("lips", [None, LIPS])
def test_specks_and_pockets_go_and_teeth_stay(rig, lips):
    speck = ball([0.05, 0.06, 0.05], 0.004)
    pocket = ball([0.02, 0.0, 0.02], 0.02)
    small = ball([-0.03, 0.0, 0.0], 0.004)
    shape = both(lambda x: np.maximum(HEAD(x), -np.minimum(pocket(x), small(x))), TOOTH, speck)
    mesh = surface(shape)
    done, number = without_strays(mesh, *rig, lips)
    assert not heights(done, [0.05, 0.06, 0.05], 0.006).any()
    assert not heights(done, [-0.03, 0.0, 0.0], 0.006).any()
    assert (
        heights(done, [0.0, 0.006, 0.08], 0.005).sum() == heights(mesh, [0.0, 0.006, 0.08], 0.005).sum() > 0
    )
    assert heights(done, [0.02, 0.0, 0.02], 0.022).any()  # 5000 mm2: not small
    assert not len(open_edges(done.faces.astype(np.int64)))
    np.testing.assert_array_equal(done.vertices[number[number >= 0]], mesh.vertices[number >= 0])


def test_a_large_piece_stays_and_a_tooth_elsewhere_goes(rig):
    large, elsewhere = ball([0.085, 0.06, 0.05], 0.008), ball([0.0, 0.006, 0.1], 0.004)
    mesh = surface(both(HEAD, TOOTH, large, elsewhere))
    done, _ = without_strays(mesh, *rig, None)
    assert heights(done, [0.085, 0.06, 0.05], 0.01).any()  # 800 mm2
    assert not heights(done, [0.0, 0.006, 0.1], 0.005).any()


def test_a_sliver_across_open_lips_goes_and_the_mesh_stays_closed(rig):
    def sliver(x):
        return np.maximum(np.hypot(x[..., 1], x[..., 2] - 0.085) - 0.004, np.abs(x[..., 0]) - 0.05)

    def corner(side):
        return ball([side * 0.05, 0.0, 0.06], 0.028)

    shape = both(HEAD, corner(1), corner(-1), sliver)
    mesh = surface(shape)
    standing = surface(both(HEAD, corner(1), corner(-1)))
    alone = np.zeros(len(standing), bool)
    done, _ = without_strays(mesh, standing, alone, LIPS)
    assert not len(open_edges(done.faces.astype(np.int64)))
    middle = np.abs(done.vertices[:, 0]) < 0.015
    assert not (middle & (done.vertices[:, 2] > 0.08)).any()
    # Lips that are shut have nothing between them, and what is behind their corners is not looked at.
    np.testing.assert_array_equal(without_strays(mesh, standing, alone, None)[0].faces, mesh.faces)
    behind = LIPS + np.float32([0.0, 0.0, 0.02])
    np.testing.assert_array_equal(without_strays(mesh, standing, alone, behind)[0].faces, mesh.faces)


def test_nothing_is_taken_from_nothing(rig):
    empty = Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    done, number = without_strays(empty, *rig, LIPS)
    assert done is empty and not len(number)
