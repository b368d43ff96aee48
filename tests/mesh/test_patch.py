"""A box of marching cubes replaced by a finer lattice: closed, one surface, nothing moved outside."""

import numpy as np
import pytest

from facetalk.mesh.patch import open_edges, patched
from facetalk.ops.marching_cubes import marching_cubes

CELLS, LOW, HIGH = 20, np.array([-1.0, -1.1, -1.2]), np.array([1.0, 1.1, 1.2])


def lattice(shape, low, high, cells):
    axes = [np.linspace(a, b, n + 1) for a, b, n in zip(low, high, cells, strict=True)]
    values = shape(np.stack(np.meshgrid(*axes, indexing="ij"), -1)).astype(np.float32)
    vertices, faces = marching_cubes(values, bounds=(low.tolist(), high.tolist()))[:2]
    return np.asarray(vertices), np.asarray(faces).astype(np.int64)


def both(shape, first, last, times=3):
    """A mesh, the box of cells first to last, and the finer mesh inside."""
    spacing = (HIGH - LOW) / CELLS
    box = np.stack([LOW + spacing * first, LOW + spacing * last])
    cells = times * (np.array(last) - first)
    return *lattice(shape, LOW, HIGH, [CELLS] * 3), box, lattice(shape, *box, cells)


def volume(vertices, faces):
    a, b, c = np.asarray(vertices, np.float64)[faces].transpose(1, 0, 2)
    return float(np.einsum("nx,nx->n", a, np.cross(b, c)).sum() / 6.0)


def sphere(x):
    return np.linalg.norm(x, axis=-1) - 0.8


def bumps(x):
    return np.linalg.norm(x, axis=-1) - 0.75 - 0.06 * np.sin(9 * x[..., 0]) * np.sin(8 * x[..., 1] + 1)


@pytest.mark.parametrize("shape", [sphere, bumps])
@pytest.mark.parametrize(
    ("first", "last"), [((6, 6, 14), (14, 14, 19)), ((1, 8, 8), (7, 13, 18)), ((8, 2, 1), (13, 18, 19))]
)
@pytest.mark.parametrize("times", [2, 3])
def test_it_is_closed_and_nearer_to_the_shape(shape, first, last, times):
    vertices, faces, box, fine = both(shape, first, last, times)
    found = patched(vertices, faces, box, fine)
    assert found is not None and not len(found.walls)
    assert not len(open_edges(found.faces))
    # One surface: every vertex on one fan, as of a sphere (Euler characteristic 2).
    edges = 3 * len(found.faces) // 2
    assert len(np.unique(found.faces)) == len(found.vertices)
    assert len(found.vertices) - edges + len(found.faces) == 2
    assert volume(found.vertices, found.faces) == pytest.approx(volume(vertices, faces), rel=0.02)
    within = ((found.vertices > box[0] + 1e-3) & (found.vertices < box[1] - 1e-3)).all(1)
    coarse = ((vertices > box[0] + 1e-3) & (vertices < box[1] - 1e-3)).all(1)
    off, was = (np.abs(shape(x)).mean() for x in (found.vertices[within], vertices[coarse]))
    assert within.sum() > 2 * coarse.sum() and off < 0.5 * was
    kept = found.number >= 0
    np.testing.assert_array_equal(found.vertices[found.number[kept]], vertices[kept])
    assert kept[~((vertices >= box[0] - 1e-4) & (vertices <= box[1] + 1e-4)).all(1)].all()


def cave(x):
    """A ball with a slit that only the finer lattice sees to its end."""
    slit = np.maximum(np.abs(x[..., 1] - 0.055) - 0.04, np.abs(x[..., 0]) - 0.4)
    slit = np.maximum(slit, -x[..., 2] - 0.2)
    return np.maximum(sphere(x), -slit)


def test_what_only_one_lattice_has_is_closed_by_a_wall():
    vertices, faces, box, fine = both(cave, (4, 4, 12), (16, 16, 19), 4)
    found = patched(vertices, faces, box, fine)
    assert found is not None and len(found.walls)
    assert not len(open_edges(found.faces))


def test_a_box_whose_rims_differ_is_left_alone():
    vertices, faces, box, _ = both(sphere, (6, 6, 14), (14, 14, 19))
    other = lattice(lambda x: np.linalg.norm(x, axis=-1) - 1.0, *box, (24, 24, 15))
    assert patched(vertices, faces, box, other) is None
    assert patched(vertices, faces, box, (np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int64))) is None
