import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from meshes import assert_closed_manifold, edges, smooth_noise, volume_and_area
from scipy.spatial import cKDTree
from skimage import measure

from facetalk import ops
from facetalk.ops import reference
from facetalk.ops._extension import load

LEVELS = ["baseline", "avx2", "avx512"]


def padded_noise(shape: tuple[int, int, int], seed: int) -> np.ndarray:
    """White noise, so that every case of the table and every ambiguity occurs; outside at the border."""
    noise = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return np.pad(noise, 1, constant_values=1.0)


# --- Against the reference


def loop_edges(loops, ids):
    return {(ids[a], ids[b]) for loop in loops for a, b in zip(loop, loop[1:] + loop[:1], strict=True)}


@pytest.mark.parametrize("seed", range(6))
def test_vertices_and_loops_are_those_of_the_reference(seed):
    volume = padded_noise((4, 5, 6), seed)
    vertices, faces = ops.marching_cubes(volume, 0.1)
    points, loops = reference.surface_loops(volume, 0.1)
    # Same points; the reference's edges are then known by the number of their vertex.
    distance, number = cKDTree(vertices).query(np.array(list(points.values())))
    assert distance.max() < 1e-5
    ids = dict(zip(points, number.tolist(), strict=True))
    assert len(set(ids.values())) == len(points)
    # Vertices inside cells come on top, one per loop that needs one.
    assert len(vertices) >= len(points)
    # Every segment of every loop is an edge of a face, in the same direction.
    directed = set(edges(faces, len(vertices)).tolist())
    segments = loop_edges(loops, ids)
    assert {a * len(vertices) + b for a, b in segments} <= directed
    # Each loop is a disk: n - 2 triangles, or n with a vertex of its own; nothing else is there.
    extra = len(vertices) - len(points)
    assert len(faces) == sum(len(loop) - 2 for loop in loops) + 2 * extra


def test_every_case_of_a_cell_against_the_reference():
    """All 256 signs of one cell with values that decide its faces both ways."""
    rng = np.random.default_rng(0)
    for signs in range(256):
        for _ in range(4):
            size = rng.choice([0.1, 1.0, 3.0], size=8) * rng.uniform(0.5, 1.0, 8)
            cell = (
                np.where([signs >> c & 1 for c in range(8)], -size, size).astype(np.float32).reshape(2, 2, 2)
            )
            volume = np.pad(cell, 1, constant_values=2.0)
            vertices, faces = ops.marching_cubes(volume)
            assert_closed_manifold(vertices, faces)
            points, loops = reference.surface_loops(volume)
            extra = len(vertices) - len(points)
            assert len(faces) == sum(len(loop) - 2 for loop in loops) + 2 * extra


# --- Against scikit-image


def distance_to_triangles(points, vertices, faces, nearest=24):
    """Exact distance to the nearest of the triangles whose centres are close."""
    corners = vertices[faces].astype(np.float64)
    _, candidates = cKDTree(corners.mean(axis=1)).query(points, k=min(nearest, len(faces)))
    best = np.full(len(points), np.inf)
    for which in candidates.reshape(len(points), -1).T:
        a, b, c = (corners[which, i] for i in range(3))
        for p, q in ((a, b), (b, c), (c, a)):
            along = q - p
            t = np.einsum("ij,ij->i", points - p, along) / np.maximum(
                np.einsum("ij,ij->i", along, along), 1e-30
            )
            best = np.minimum(best, np.linalg.norm(points - p - np.clip(t, 0, 1)[:, None] * along, axis=1))
        normal = np.cross(b - a, c - a)
        size = np.maximum(np.einsum("ij,ij->i", normal, normal), 1e-30)
        weights = [
            np.einsum("ij,ij->i", np.cross(q - p, points - p), normal) for p, q in ((a, b), (b, c), (c, a))
        ]
        within = np.minimum.reduce(weights) >= 0
        height = np.abs(np.einsum("ij,ij->i", points - a, normal)) / np.sqrt(size)
        best = np.where(within, np.minimum(best, height), best)
    return best


def single_way_cells(volume):
    """Cells that can be triangulated in one way only: at most three cut edges, or none."""
    inside = volume < 0
    corners = np.stack([inside[i : i - 1 or None, j : j - 1 or None, k : k - 1 or None]
                        for i, j, k in itertools.product((0, 1), repeat=3)])  # fmt: skip
    count = corners.sum(axis=0)
    return (count == 1) | (count == 7)


@pytest.mark.parametrize(
    ("shape", "seed"),
    [((32, 32, 32), 0), ((32, 48, 20), 1), ((21, 70, 130), 2), ((64, 64, 64), 3), ((128, 128, 128), 4)],
)
def test_same_surface_as_scikit_image(shape, seed):
    volume = smooth_noise(shape, seed)
    vertices, faces = ops.marching_cubes(volume)
    assert_closed_manifold(vertices, faces)
    theirs, their_faces, _, _ = measure.marching_cubes(volume, 0.0, method="lewiner")
    # Every vertex lies on the same point of the same edge; a handful sit inside ambiguous cells.
    for a, b in ((vertices, theirs), (theirs, vertices)):
        some = np.random.default_rng(seed).permutation(len(a))[:20000]
        far = cKDTree(b).query(a[some])[0] > 1e-4
        assert far.mean() < 2e-3
    # Volume enclosed and area agree up to the way in which quadrilaterals are split.
    ours = volume_and_area(vertices, faces)
    other = volume_and_area(theirs, their_faces[:, ::-1])
    np.testing.assert_allclose(ours, np.abs(other), rtol=5e-3)
    # In cells that can be cut in one way only, points of the faces lie on the other surface too, both ways
    # round.
    single = single_way_cells(volume)
    for (v, f), (w, g) in itertools.permutations([(vertices, faces), (theirs, their_faces)], 2):
        centres = v[f].mean(axis=1)
        here = np.minimum(np.floor(centres).astype(int), np.array(single.shape) - 1)
        chosen = np.flatnonzero(single[tuple(here.T)])
        chosen = np.random.default_rng(seed).permutation(chosen)[:2000]
        assert len(chosen) > 100
        assert distance_to_triangles(centres[chosen], w, g).max() < 1e-4


# --- What must hold for every input


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=7),
        elements=st.floats(-2, 2, width=32, allow_subnormal=False) | st.sampled_from([-1.0, 0.0, 1.0]),
    )
)
def test_closed_and_manifold_for_any_samples(samples):
    volume = np.pad(samples, 1, constant_values=1.0)
    assert_closed_manifold(*ops.marching_cubes(volume))


@pytest.mark.parametrize("shape", [(14, 15, 16), (3, 4, 190), (2, 2, 63), (2, 3, 62), (1, 1, 61), (5, 40, 3)])
@pytest.mark.parametrize("level", LEVELS)
def test_closed_and_manifold_for_noise_at_word_borders(shape, level, simd):
    simd(level)
    for seed in range(3):
        assert_closed_manifold(*ops.marching_cubes(padded_noise(shape, seed)))


def test_orientation_and_position():
    volume = np.ones((3, 3, 3), np.float32)
    volume[1, 1, 1] = -3.0
    vertices, faces = ops.marching_cubes(volume)
    assert_closed_manifold(vertices, faces)
    assert sorted(map(tuple, vertices.tolist())) == [
        (0.25, 1, 1), (1, 0.25, 1), (1, 1, 0.25), (1, 1, 1.75), (1, 1.75, 1), (1.75, 1, 1)
    ]  # fmt: skip
    assert volume_and_area(vertices, faces)[0] == pytest.approx(4 / 3 * 0.75**3)


def sphere(shape, radius=0.7):
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    return (np.sqrt(x**2 + y**2 + z**2) - radius).astype(np.float32)


@pytest.mark.parametrize("shape", [(64, 64, 64), (40, 65, 129)])
def test_sphere(shape):
    vertices, faces, normals = ops.marching_cubes(
        sphere(shape), bounds=((-1, -1, -1), (1, 1, 1)), normals=True
    )
    assert_closed_manifold(vertices, faces)
    volume, area = volume_and_area(vertices, faces)
    cell = 2 / (min(shape) - 1) / 0.7  # relative to the radius: errors grow with its square
    assert volume == pytest.approx(4 / 3 * np.pi * 0.7**3, rel=cell**2)
    assert area == pytest.approx(4 * np.pi * 0.7**2, rel=cell**2)
    assert np.abs(np.linalg.norm(vertices, axis=1) - 0.7).max() < cell**2
    assert np.abs(normals - vertices / 0.7).max() < 2 * cell**2
    assert np.abs(np.linalg.norm(normals, axis=1) - 1).max() < 1e-6


def test_level_and_bounds_only_move_the_mesh():
    volume = smooth_noise((20, 24, 28), 5)
    vertices, faces = ops.marching_cubes(volume, 0.25)
    shifted = ops.marching_cubes(volume - np.float32(0.25))
    assert np.array_equal(faces, shifted[1])
    np.testing.assert_allclose(vertices, shifted[0], atol=1e-4)
    low, high = np.array([-3.0, 1.0, 10.0]), np.array([-1.0, 2.0, 40.0])
    placed, same = ops.marching_cubes(volume, 0.25, bounds=(low, high))
    assert np.array_equal(faces, same)
    np.testing.assert_allclose(
        placed, low + vertices / (np.array(volume.shape) - 1) * (high - low), atol=1e-4
    )


def test_samples_exactly_at_the_level():
    rng = np.random.default_rng(0)
    volume = np.pad(rng.integers(-1, 2, (12, 12, 12)), 1, constant_values=1).astype(np.float32)
    vertices, faces, normals = ops.marching_cubes(volume, normals=True)
    assert_closed_manifold(vertices, faces)
    corners = vertices[faces].astype(np.float64)
    sides = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2)
    assert sides.min() > 1e-6, "two corners of a face on one spot"
    assert np.isfinite(normals).all()
    # A plane through samples stays where it is.
    plane = np.broadcast_to(np.arange(5, dtype=np.float32)[:, None, None] - 2, (5, 4, 4))
    assert np.array_equal(np.unique(ops.marching_cubes(plane)[0][:, 0]), [2.0])


def test_surface_that_leaves_the_grid_is_open_only_at_the_border():
    volume = sphere((20, 22, 24), 1.2)
    vertices, faces = ops.marching_cubes(volume)
    directed = edges(faces, len(vertices))
    reverse = directed % len(vertices) * len(vertices) + directed // len(vertices)
    rim = directed[~np.isin(directed, reverse)]
    assert len(rim) > 0
    ends = vertices[np.concatenate([rim // len(vertices), rim % len(vertices)])]
    border = np.minimum(ends, np.array(volume.shape) - 1 - ends).min(axis=1)
    assert border.max() == 0


@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
def test_uniform_volumes_are_empty(value):
    vertices, faces, normals = ops.marching_cubes(np.full((3, 4, 70), value, np.float32), normals=True)
    assert (vertices.shape, faces.shape, normals.shape) == ((0, 3), (0, 3), (0, 3))
    assert (vertices.dtype, faces.dtype) == (np.float32, np.int32)


def test_threads_and_simd_levels_give_the_same_mesh(simd, thread_count):
    volume = padded_noise((20, 30, 100), 0)
    results = []
    for threads, level in [(1, "baseline"), (2, "avx2"), (3, "avx512"), (7, "avx512")]:
        thread_count(threads)
        simd(level)
        results.append(ops.marching_cubes(volume, normals=True))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert np.array_equal(a, b)


@pytest.mark.parametrize("shape", [(40, 3, 20_000), (4, 30, 20_000), (90, 80, 90)])
def test_pieces_for_threads_fit_together(shape, thread_count):
    """Large grids are worked on in pieces; a slab of two planes is not cut up where they begin."""
    rng = np.random.default_rng(0)
    volume = rng.uniform(0.1, 1.0, shape).astype(np.float32)
    volume[rng.random(shape) < 0.003] *= -1

    def corners(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
        triangles = vertices[faces].reshape(len(faces), 9)
        return triangles[np.lexsort(triangles.T)]

    results = []
    for threads in (1, 3):
        thread_count(threads)
        results.append(ops.marching_cubes(volume))
    for one, other in zip(*results, strict=True):
        assert np.array_equal(one, other)
    slabs = [ops.marching_cubes(volume[i : i + 2]) for i in range(shape[0] - 1)]
    shifted = [corners(v + np.float32([i, 0, 0]), f) for i, (v, f) in enumerate(slabs)]
    together = np.concatenate(shifted)
    together = together[np.lexsort(together.T)]
    np.testing.assert_allclose(corners(*results[0]), together, atol=2e-5)


# --- Kinds of input


def test_kinds_of_arrays():
    volume = smooth_noise((12, 13, 14), 0)
    want = ops.marching_cubes(volume)
    frozen = volume.copy()
    frozen.flags.writeable = False
    for same in (frozen, volume.astype(np.float64), np.asfortranarray(volume), volume.astype(">f4")):
        got = ops.marching_cubes(same)
        assert isinstance(got[0], np.ndarray)
        assert all(np.array_equal(a, b) for a, b in zip(want, got, strict=True))
    tensor = torch.from_numpy(volume)
    for same in (
        tensor,
        tensor.double(),
        tensor.clone().requires_grad_(),
        tensor.transpose(0, 2).contiguous().transpose(0, 2),
    ):
        got = ops.marching_cubes(same)
        assert isinstance(got[0], torch.Tensor) and got[1].dtype == torch.int32
        assert all(np.array_equal(a, b.numpy()) for a, b in zip(want, got, strict=True))
    got[0][0] = 1.0  # results are ordinary, writable arrays
    want[0][0] = 1.0


def with_sample(value, at=(1, 2, 69)):
    volume = np.ones((3, 4, 70), np.float32)
    volume[at] = value
    return volume


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ((with_sample(np.nan),), ValueError, r"volume.*1 that is NaN or infinite.*\(1, 2, 69\)"),
        ((with_sample(np.inf, (2, 3, 5)),), ValueError, r"\(2, 3, 5\)"),
        ((with_sample(-np.inf, (0, 0, slice(60, 70))),), ValueError, r"10 that are.*\(0, 0, 60\)"),
        ((np.ones((1, 4, 4), np.float32),), ValueError, "2 samples each"),
        ((np.ones((4, 4), np.float32),), ValueError, r"\(nx, ny, nz\).*\(4, 4\)"),
        ((np.ones((0, 4, 4), np.float32),), ValueError, "2 samples each"),
        ((np.ones((4, 4, 4), np.int32),), TypeError, "float32.*int32"),
        (([[[0.0]]],), TypeError, "volume.*list"),
        ((torch.ones(4, 4, 4, device="meta"),), TypeError, "CPU.*meta"),
        ((with_sample(0.0), float("nan")), ValueError, "level.*nan"),
        ((with_sample(0.0), 1e300), ValueError, "level"),
    ],
)
def test_wrong_input_is_named(arguments, error, says):
    with pytest.raises(error, match=says):
        ops.marching_cubes(*arguments)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("at", [0, 15, 16, 63, 64, 69])
@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
def test_non_finite_samples_are_found_wherever_they_are(value, at, level, simd):
    simd(level)
    with pytest.raises(ValueError, match=rf"\(1, 2, {at}\)"):
        ops.marching_cubes(with_sample(value, (1, 2, at)))


@pytest.mark.parametrize(
    "bounds",
    [
        ((0, 0, 0), (1, 1, 0)),
        ((0, 0), (1, 1)),
        ((0, 0, 0), (1, 1, np.inf)),
        3,
        "ab",
        ((-1.7e308,) * 3, (1.7e308,) * 3),
        ((0, 0, 0), (1, 1, 1e39)),
        ((-1e39, 0, 0), (1, 1, 1)),
        ((0, 0, 0), (1, 1, 1e-40)),
        ((0, 0, 0), (1, 1, 10**400)),
        ((0, 0, np.nan), (1, 1, 1)),
    ],
    ids=range(11),
)
def test_wrong_bounds(bounds):
    with pytest.raises(ValueError, match="bounds"):
        ops.marching_cubes(with_sample(-1.0), bounds=bounds)


@pytest.mark.parametrize("size", [1e-37, 1e-20, 1.0, 1e20, 3e38])
@pytest.mark.parametrize("value", [1e-45, 1.0, 3e38])
def test_any_bounds_that_float32_holds_give_numbers(size: float, value: float) -> None:
    volume = np.random.default_rng(0).choice([-value, value], (5, 5, 5)).astype(np.float32)
    for low, high in ((0.0, size), (-size, size)):
        vertices, _, normals = ops.marching_cubes(volume, bounds=((low,) * 3, (high,) * 3), normals=True)
        assert np.isfinite(vertices).all()
        np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1.0, rtol=1e-5)


@pytest.mark.parametrize(
    "frame",
    [([0.0] * 3, [0.0] * 3), ([np.nan] * 3, [1.0] * 3), ([0.0] * 3, [np.inf] * 3), ([1e39] * 3, [1.0] * 3)],
)
def test_the_core_checks_frames_itself(frame) -> None:
    with pytest.raises(ValueError, match="bounds"):
        load().marching_cubes(with_sample(-1.0), 0.0, *frame, True)
    with pytest.raises(ValueError, match="level"):
        load().marching_cubes(with_sample(-1.0), np.nan, [0.0] * 3, [1.0] * 3, True)


@pytest.mark.parametrize("level", [10**400, 1e39, np.nan, np.complex64(1), "0", None])
def test_wrong_levels(level) -> None:
    with pytest.raises(ValueError, match="level"):
        ops.marching_cubes(with_sample(-1.0), level)
