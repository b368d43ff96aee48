"""Paint lent by a mesh in the same place: of the closest point that faces the same way, where it changes."""

import numpy as np
import pytest

import facetalk
from facetalk.mesh import Mesh
from facetalk.mesh.borrow import Paint, _closest, _edges, _split, painted
from facetalk.nphm.head.parts import Part
from facetalk.ops.marching_cubes import marching_cubes
from facetalk.units import HEAD_UNIT_METRES


def sheet(height=0.0, *, up=1.0, color=(0, 0, 0), part=0, count=6):
    """A square of side 5 with its normals up or down."""
    x = np.stack(np.meshgrid(*[np.linspace(0.0, 5.0, count)] * 2), -1).reshape(-1, 2)
    a = (np.arange(count - 1)[:, None] * count + np.arange(count - 1)).ravel()
    faces = np.concatenate([np.c_[a, a + 1, a + count], np.c_[a + 1, a + count + 1, a + count]])
    return Mesh(
        np.c_[x, np.full(len(x), height)], faces, np.tile([0.0, 0.0, up], (len(x), 1)),
        np.tile(np.uint8(color), (len(x), 1)), np.full(len(x), part, np.uint8),
    )  # fmt: skip


def together(*meshes):
    shift = np.cumsum([0, *(len(mesh) for mesh in meshes)])
    fields = [
        np.concatenate([getattr(m, name) for m in meshes])
        for name in ("vertices", "normals", "colors", "part")
    ]
    faces = np.concatenate([mesh.faces + first for mesh, first in zip(meshes, shift, strict=False)])
    return Mesh(fields[0], faces, *fields[1:])


UP = np.float32([[0, 0, 1]])


def test_the_side_that_faces_away_lends_nothing():
    near = sheet(0.05, up=-1.0, color=(255, 0, 0), part=2)  # nearer to the points, but it looks the other way
    paint = Paint(together(near, sheet(color=(0, 255, 0), part=1)))
    points = np.float32([[2.3, 2.4, 0.06], [4.1, 1.2, 0.06]])
    colors, part = paint.at(points, np.repeat(UP, 2, axis=0))
    assert (part == 1).all() and (colors == [0, 255, 0]).all()
    colors, part = paint.at(points, np.repeat(-UP, 2, axis=0))
    assert (part == 2).all() and (colors == [255, 0, 0]).all()
    # Where nothing faces the same way, something is better than nothing.
    colors, part = Paint(near).at(points[:1], UP)
    assert (part == 2).all() and (colors == [255, 0, 0]).all()


def test_colours_are_those_of_the_point_and_not_of_the_nearest_vertex():
    lender = sheet(count=2)  # one square of side 5
    lender.colors[:] = np.where(lender.vertices[:, :1] > 2.5, 200, 100)
    x = np.linspace(0.0, 5.0, 11)
    points = np.float32(np.c_[x, np.full(11, 2.2), np.full(11, 0.1)])
    colors = Paint(lender).at(points, np.repeat(UP, 11, axis=0))[0][:, 0].astype(int)
    assert colors[0] == 100 and colors[-1] == 200 and (np.diff(colors) > 3).all()


def test_what_is_not_shown_lends_nothing_and_nobody_is_painted():
    lender = together(sheet(0.05, color=(9, 9, 9), part=3), sheet(color=(1, 2, 3), part=1))
    colors, part = Paint(lender, lender.part == 1).at(np.float32([[1.0, 1.0, 0.05]]), UP)
    assert (colors == [1, 2, 3]).all() and part[0] == 1
    nothing = np.zeros((0, 3), np.float32)
    assert [len(values) for values in Paint(lender).at(nothing, nothing)] == [0, 0]
    empty = painted(Mesh(nothing, np.zeros((0, 3), np.int32)), Paint(lender))
    assert len(empty) == len(empty.colors) == len(empty.part) == 0


def test_the_closest_point_is_the_closest():
    rng = np.random.default_rng(0)
    triangles = rng.standard_normal((200, 3, 3))
    triangles[150:, 2] = triangles[150:, 0] + 1e-9 * rng.standard_normal((50, 3))  # slivers
    points = 2.0 * rng.standard_normal((200, 3))
    weights = _closest(points, triangles)
    assert weights.min() > -1e-9 and weights.sum(1) == pytest.approx(np.ones(200))
    got = np.linalg.norm((weights[:, :, None] * triangles).sum(1) - points, axis=1)
    grid = np.array([(i, j, 40 - i - j) for i in range(41) for j in range(41 - i)]) / 40.0
    best = np.linalg.norm(grid @ triangles - points[:, None], axis=2).min(1)
    assert (got <= best + 1e-6).all() and (got >= best - 0.2).all()


def test_faces_are_split_where_the_paint_changes_and_the_surface_stays():
    lender = sheet(count=101)
    disc = np.linalg.norm(lender.vertices[:, :2] - 2.6, axis=1) < 0.7
    lender.colors[disc], lender.part[disc] = 250, 1
    coarse = sheet(count=9)
    bare = Mesh(coarse.vertices, coarse.faces, coarse.normals)
    fine = painted(bare, Paint(lender), finest=0.02)
    np.testing.assert_array_equal(fine.vertices[: len(bare)], bare.vertices)
    assert 500 < len(fine) < 3000
    # Flat as before, nothing lost, nothing twice, no crack, all the right way round.
    corners = fine.vertices[fine.faces]
    area = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 2] / 2.0
    assert (area > 0.0).all() and area.sum() == pytest.approx(25.0, rel=1e-4)
    edges = np.sort(np.stack([fine.faces, np.roll(fine.faces, -1, 1)], 2).reshape(-1, 2), 1)
    ends, uses = np.unique(edges, axis=0, return_counts=True)
    middle = fine.vertices[ends].mean(1)[:, :2]
    assert ((uses == 2) | ((middle == 0.0) | (middle == 5.0)).any(1)).all()
    # The disc is told from the rest to a tenth of the coarse edges.
    gap = np.linalg.norm(fine.vertices[:, :2] - 2.6, axis=1) - 0.7
    sure = np.abs(gap) > 0.06
    assert ((fine.part == 1) == (gap < 0.0))[sure].all()
    length = np.linalg.norm(fine.vertices[ends[:, 0]] - fine.vertices[ends[:, 1]], axis=1)
    # Far away nothing is split but for its neighbours.
    assert length[np.abs(middle - 2.6).max(1) > 1.6].min() > 0.3
    # All of a part where that is asked for.
    assert len(painted(bare, Paint(lender), always=0, finest=0.1)) > 2.0 * len(
        painted(bare, Paint(lender), finest=0.1)
    )


def test_faces_that_nobody_sees_are_not_split():
    lender = sheet(count=101)
    disc = np.linalg.norm(lender.vertices[:, :2] - 2.6, axis=1) < 0.7
    lender.colors[disc], lender.part[disc] = 250, 1
    coarse = sheet(count=9)
    bare = Mesh(coarse.vertices, coarse.faces, coarse.normals)
    paint = Paint(lender)
    everything = np.arange(len(bare))
    assert len(painted(bare, paint, finest=0.02, unseen=everything)) == len(bare)
    one = int(np.linalg.norm(bare.vertices[:, :2] - 2.6, axis=1).argmin())
    fine = painted(bare, paint, finest=0.02, unseen=np.array([one]))
    assert len(bare) < len(fine) < len(painted(bare, paint, finest=0.02))
    beside = np.unique(fine.faces[(fine.faces == one).any(1)])
    spokes = np.linalg.norm(fine.vertices[beside] - fine.vertices[one], axis=1)
    assert spokes[beside != one].min() > 0.3  # no vertex was put on its edges


def test_every_way_to_split_a_face_fills_it():
    faces = np.array([[0, 1, 2]])
    corners = np.float64([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0.5, 0, 0], [0.5, 0.5, 0], [0, 0.5, 0]])
    assert _edges(faces)[1].tolist() == [[0, 2, 1]]
    for mask in range(8):
        middles = np.array([[3 + i if mask >> i & 1 else -1 for i in range(3)]])
        made = corners[_split(faces, middles)]
        area = np.cross(made[:, 1] - made[:, 0], made[:, 2] - made[:, 0])[:, 2] / 2.0
        assert (area > 0).all() and area.sum() == pytest.approx(0.5) and len(made) == 1 + mask.bit_count()


def test_an_eye_by_marching_cubes_at_128_is_an_eye():
    """Between vertices 2 mm apart a whole iris is lost; the paint that is seen has to be the rig's."""
    face = facetalk.FaceTalk.from_pretrained("default", device="cpu")
    person, (low, high) = face.head.bind(), np.array(face.config.bounds)
    canonical, (centres, radii) = person.canonical(), person.eyeballs()
    lender = Mesh(canonical.vertices, canonical.faces, colors=canonical.colors, part=canonical.part)
    step = (high - low) / 127.0
    counts = np.ceil(2.0 * 0.1 / step).astype(int)
    start = centres[0] + np.float32([0.0, 0.0, 0.05]) - 0.1
    axes = [start[i] + step[i] * np.arange(counts[i]) for i in range(3)]
    lattice = np.float32(np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3))
    values = person.distance(lattice).reshape(counts)
    bounds = (tuple(float(a[0]) for a in axes), tuple(float(a[-1]) for a in axes))
    bare = Mesh(*marching_cubes(values, bounds=bounds, normals=True))
    paint = Paint(lender, person.lenders())
    seen = painted(bare, paint, always=Part.EYEBALLS, finest=0.0005 / HEAD_UNIT_METRES)
    old = Mesh(bare.vertices, bare.faces, bare.normals, *paint.at(bare.vertices, bare.normals))

    def off(mesh):
        """Mean difference to the rig's colour over the eye's opening, and where it is plainly another."""
        rng = np.random.default_rng(0)
        corners = mesh.vertices[mesh.faces]
        area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
        near = np.linalg.norm(corners.mean(1)[:, :2] - centres[0, :2], axis=1) < 0.7 * radii[0]
        front = near & (corners.mean(1)[:, 2] > centres[0, 2])
        chosen = rng.choice(len(area), 4000, p=area * front / (area * front).sum())
        weights = rng.dirichlet(np.ones(3), 4000)
        mixed = [np.einsum("nc,ncx->nx", weights, values[mesh.faces[chosen]]) for values in
                 (mesh.vertices, mesh.normals, mesh.colors.astype(float))]  # fmt: skip
        true, _ = paint.at(np.float32(mixed[0]), np.float32(mixed[1]))
        difference = np.abs(mixed[2] - true).mean(1)
        return difference.mean(), (difference > 40.0).mean()

    (worse, wrong_before), (better, wrong) = off(old), off(seen)
    assert better < 7.0 < 14.0 < worse
    assert wrong < 0.04 < 0.09 < wrong_before


def test_faces_that_are_hidden_lend_nothing() -> None:
    low = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32)
    mesh = Mesh(
        np.concatenate([low, low + np.float32([0, 0, 1])]),
        np.array([[0, 1, 2], [3, 4, 5]], np.int32),
        np.tile(np.float32([0, 0, 1]), (6, 1)),
        np.repeat(np.array([[200, 10, 10], [10, 200, 10]], np.uint8), 3, axis=0),
        np.repeat(np.array([1, 0], np.uint8), 3),
    )
    points, normals = np.float32([[0.2, 0.2, 0.1]]), np.float32([[0, 0, 1]])
    assert Paint(mesh).at(points, normals)[1].tolist() == [1]
    assert Paint(mesh, hidden=np.array([True, False])).at(points, normals)[1].tolist() == [0]


def test_values_come_from_the_closest_point_or_from_one_that_faces_as_asked():
    slanted, straight = sheet(0.5), sheet(-0.5)
    slanted.normals[:] = [0.8, 0.0, 0.6]
    both = together(slanted, straight)
    paint, heights = Paint(both), np.c_[both.vertices, both.normals[:, :1]]
    points = np.float32([[2.3, 2.4, 0.2], [4.1, 1.2, 0.2]])  # 0.3 from the slanted one, 0.7 from the other
    up = np.repeat(UP, 2, axis=0)
    near = paint.carried(points, up, heights)
    np.testing.assert_allclose(near, np.c_[points[:, :2], [0.5, 0.5], [0.8, 0.8]], atol=1e-5)
    # Facing 0.4 less has to be worth the 0.4 that the other is farther away.
    np.testing.assert_array_equal(paint.carried(points, up, heights, turn=0.9), near)
    turned = paint.carried(points, up, heights, turn=1.1)
    np.testing.assert_allclose(turned, np.c_[points[:, :2], [-0.5, -0.5], [0.0, 0.0]], atol=1e-5)
