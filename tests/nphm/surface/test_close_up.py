"""Eyes and lips of an extracted mesh: found again on a finer lattice, split faces laid onto the surface."""

import numpy as np
import pytest

from facetalk.mesh import Mesh
from facetalk.mesh.borrow import Paint, painted
from facetalk.mesh.patch import open_edges
from facetalk.nphm.lattice import lattice_axes
from facetalk.nphm.surface.close_up import refine, settle
from facetalk.nphm.surface.options import ExtractionInfo, ExtractionOptions, Surface
from facetalk.nphm.surface.project import project
from facetalk.ops.marching_cubes import marching_cubes
from facetalk.units import HEAD_UNIT_METRES

RADIUS = 0.3


class Sphere:
    """Its distance, in head units, less an expression's first weight."""

    def query(self, points, expressions=None):
        grown = 0.0 if expressions is None else float(expressions[0, 0])
        return (np.linalg.norm(points, axis=1) - RADIUS - grown)[None].astype(np.float32)

    def gradient(self, points, expressions=None):
        return (points / np.linalg.norm(points, axis=1, keepdims=True))[None].astype(np.float32)

    def surfaces(self, expressions, resolution, bounds, *, options, around=None):
        axes = lattice_axes(resolution, bounds)
        points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
        volume = self.query(points, expressions).reshape([len(axis) for axis in axes])
        self.asked = (tuple(resolution) if np.ndim(resolution) else resolution, options, around)
        found = marching_cubes(volume, bounds=np.asarray(bounds).tolist())
        yield Surface(found[0], found[1], ExtractionInfo("dense", volume.size))


def test_points_go_to_the_surface_and_no_further_than_allowed():
    points = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
    points *= np.float32(RADIUS + 0.003) / np.linalg.norm(points, axis=1, keepdims=True)
    found, normals = project(Sphere(), points)
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.full(50, RADIUS), abs=1e-6)
    np.testing.assert_allclose(normals, points / (RADIUS + 0.003), atol=1e-5)
    less, _ = project(Sphere(), points, limit=0.001)
    assert np.linalg.norm(less - points, axis=1).max() < 0.00101
    grown, _ = project(Sphere(), points, np.float32([0.002, 9.0]), steps=1)
    assert np.linalg.norm(grown, axis=1) == pytest.approx(np.full(50, RADIUS + 0.002), abs=1e-6)


def test_split_faces_near_the_marks_get_the_shape_of_the_surface():
    axis = np.linspace(-0.35, 0.35, 16)
    lattice = np.float32(np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3))
    corner = float(axis[-1])
    bounds = ((-corner,) * 3, (corner,) * 3)
    found = marching_cubes(Sphere().query(lattice)[0].reshape(16, 16, 16), bounds=bounds, normals=True)
    bare = Mesh(found[0] * HEAD_UNIT_METRES, *found[1:])
    colors = np.full((len(bare), 3), 100, np.uint8)
    colors[bare.vertices[:, 2] > 0.0] = 200  # so that faces are split along the equator
    lender = Mesh(bare.vertices, bare.faces, bare.normals, colors, np.zeros(len(bare), np.uint8))
    paint = Paint(lender)
    fine = painted(bare, paint, finest=0.002)
    marks = np.float32([[RADIUS * HEAD_UNIT_METRES, 0.0, 0.0]])
    settled = settle(fine, len(bare), Sphere(), np.zeros(3, np.float32), marks, paint)
    near = np.linalg.norm(fine.vertices - marks, axis=1) < 0.0149
    split = np.unique(fine.faces[(fine.faces >= len(bare)).any(1)])
    mine = split[near[split]]

    def off(mesh):
        return np.abs(np.linalg.norm(mesh.vertices[mine], axis=1) / HEAD_UNIT_METRES - RADIUS).mean()

    assert len(mine) > 50 and off(settled) < 0.02 * off(fine)
    moved = np.flatnonzero((settled.vertices != fine.vertices).any(1))
    assert np.isin(moved, split).all()
    assert np.linalg.norm(fine.vertices[moved] - marks, axis=1).max() < 0.0151
    np.testing.assert_array_equal(settled.faces, fine.faces)
    far = settle(fine, len(bare), Sphere(), np.zeros(3, np.float32), marks + np.float32(1.0), paint)
    np.testing.assert_array_equal(far.vertices, fine.vertices)


def test_a_finer_lattice_takes_the_place_of_what_was_found_around_the_marks():
    field, code, options = Sphere(), np.float32([0.002]), ExtractionOptions()
    bounds = ((-0.4, -0.4, -0.4), (0.4, 0.4, 0.4))
    found = next(field.surfaces(code[None], 81, bounds, options=options))  # cells of 2.5 mm
    mesh = Mesh(found.vertices * HEAD_UNIT_METRES, found.faces)
    front, left = np.float32([[0.0, 0.02, 0.3], [0.02, 0.0, 0.3]]), np.float32([[0.3, 0.0, 0.0]])
    marks = [front * HEAD_UNIT_METRES, left * HEAD_UNIT_METRES]
    fine, walls = refine(mesh, field, code, marks, (81, bounds), options)
    assert not len(walls) and not len(open_edges(fine.faces.astype(np.int64)))
    cells, same, around = field.asked
    assert same == options and around == bounds and all((n - 1) % 3 == 0 for n in cells)
    radius = np.linalg.norm(fine.vertices, axis=1) / HEAD_UNIT_METRES
    assert np.abs(radius - RADIUS - 0.002).max() < 5e-4
    for points in marks:
        near = [np.linalg.norm(m.vertices - points[0], axis=1) < 0.005 for m in (mesh, fine)]
        assert near[1].sum() > 6 * near[0].sum()
        off = np.abs(np.linalg.norm(fine.vertices[near[1]], axis=1) / HEAD_UNIT_METRES - RADIUS - 0.002)
        assert off.max() < 2e-5  # a ninth of the coarser lattice's
    again, _ = refine(mesh, field, code, [marks[0], marks[0]], (81, bounds), options)
    once, _ = refine(mesh, field, code, marks[:1], (81, bounds), options)
    np.testing.assert_array_equal(again.vertices, once.vertices)  # boxes that overlap are not cut twice


@pytest.mark.parametrize("resolution", [300, 2])
def test_nothing_is_refined_that_is_fine_or_empty(resolution):
    bounds = ((-0.4, -0.4, -0.4), (0.4, 0.4, 0.4))
    mesh = Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    if resolution == 300:
        mesh = Mesh(np.eye(3, dtype=np.float32), np.int32([[0, 1, 2]]))
    found, walls = refine(mesh, Sphere(), np.zeros(1), [np.zeros((1, 3))], (resolution, bounds), None)
    assert found is mesh and not len(walls)
