"""The marching-cubes kernels, run on the host, give the mesh of the CPU backend to the bit."""

import itertools

import numpy as np
import pytest

from facetalk import ops

SHAPES = [(2, 2, 2), (3, 5, 70), (2, 9, 64), (5, 2, 65), (4, 3, 129), (9, 8, 7), (3, 3, 33), (17, 2, 2)]


@pytest.fixture(scope="module")
def kernels(emulated):
    return emulated("marching_cubes")


@pytest.fixture(scope="module")
def cases(kernels):
    memory = np.zeros(kernels.value("test_cases_bytes"), np.uint8)
    kernels.call("test_write_cases", memory)
    return memory


class Meshes:
    """Runs count and emit on volumes (T, nx, ny, nz), with a row behind each output that nobody may touch."""

    def __init__(
        self, kernels, cases, volumes, level=0.0, bounds=None, normals=False, bricks=None, shape=None
    ):
        self.shape = np.array(shape if shape is not None else volumes.shape, np.int64)
        sizes = self.shape[1:]
        ends = np.array(bounds if bounds is not None else [(0, 0, 0), sizes - 1], np.float64)
        frame = np.concatenate([ends[0], (ends[1] - ends[0]) / (sizes - 1)])
        self.samples = np.ascontiguousarray(volumes)
        problem = (self.samples, bricks, cases, self.shape, level, frame)
        size = kernels.value("test_workspace_bytes", self.shape)
        # Of 8-byte words, so that it is aligned; what stands in it before must not matter.
        self.workspace = np.random.default_rng(0).integers(0, 2**62, -(-size // 8) + 1)
        last = self.workspace[-1]
        self.header = np.full(2 + 2 * (self.shape[0] + 1) + 1, -5, np.int64)
        kernels.call("test_count", *problem, self.workspace, self.header)
        assert self.header[-1] == -5
        assert size % 8 == 0 and self.workspace[-1] == last
        self.bad, self.first_bad = int(self.header[0]), 2**63 - 1 - int(self.header[1])
        self.starts = self.header[2:-1].reshape(-1, 2)
        if self.bad:
            return
        self.problem = problem
        vertex_count, face_count = self.starts[-1]
        self.vertices = np.full((vertex_count + 1, 3), np.nan, np.float32)
        self.normals = np.full((vertex_count + 1, 3), np.nan, np.float32) if normals else None
        self.faces = np.full((face_count + 1, 3), -9, np.int32)
        self.emit(kernels, vertex_count, face_count)
        assert np.isnan(self.vertices[-1]).all() and (self.faces[-1] == -9).all()

    def emit(self, kernels, vertex_room, face_room):
        kernels.call(
            "test_emit", *self.problem, self.workspace, self.vertices, self.normals, self.faces,
            vertex_room, face_room,
        )  # fmt: skip

    def frame(self, t):
        (v0, f0), (v1, f1) = self.starts[t : t + 2]
        return self.vertices[v0:v1], self.faces[f0:f1]


def noise(shape, seed):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def sphere(shape, radius=0.7):
    axes = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape), indexing="ij")
    return (np.sqrt(sum(axis**2 for axis in axes)) - radius).astype(np.float32)


def assert_same(got, expected):
    np.testing.assert_array_equal(got[0].view(np.int32), expected[0].view(np.int32))
    np.testing.assert_array_equal(got[1], expected[1])


@pytest.mark.parametrize("shape", SHAPES)
def test_noise(kernels, cases, shape):
    """Every case of the table, ambiguous faces and centre vertices among them."""
    volumes = noise((1, *shape), sum(shape))
    for seed in (1, 2):
        kernels.seed(seed)
        assert_same(Meshes(kernels, cases, volumes).frame(0), ops.marching_cubes(volumes[0]))


@pytest.mark.parametrize("seed", range(8))
def test_random_shapes(kernels, cases, seed):
    """Smooth and rough fields, several frames, a level that some samples have exactly."""
    rng = np.random.default_rng(seed)
    shape = (rng.integers(1, 4), *rng.integers(2, 12, 2), rng.integers(2, 150))
    volumes = np.round(noise(shape, seed) * rng.choice([0.5, 2.0, 50.0]), rng.integers(0, 3)).astype(
        np.float32
    )
    level = float(rng.choice([0.0, 0.5, -1.0]))
    meshes = Meshes(kernels, cases, volumes, level)
    for t, volume in enumerate(volumes):
        assert_same(meshes.frame(t), ops.marching_cubes(volume, level))


def test_all_signs_of_one_cell_with_values_that_decide_both_ways(kernels, cases):
    rng = np.random.default_rng(3)
    signs = np.array(list(itertools.product([1, -1], repeat=8)), np.float32).repeat(3, axis=0)
    volumes = (signs * rng.choice([0.1, 1.0, 3.0], signs.shape)).astype(np.float32).reshape(-1, 2, 2, 2)
    meshes = Meshes(kernels, cases, volumes)
    assert (np.diff(meshes.starts[:, 0]) > 0).sum() == len(volumes) - 6
    for t, volume in enumerate(volumes):
        assert_same(meshes.frame(t), ops.marching_cubes(volume))


@pytest.mark.parametrize("level", [0.0, 0.25, -0.1])
def test_level_bounds_and_normals(kernels, cases, level):
    volume = sphere((12, 10, 21)) + 0.1 * noise((12, 10, 21), 5)
    bounds = ((-0.3, 0.1, 5.0), (0.4, 0.9, 7.5))
    meshes = Meshes(kernels, cases, volume[None], level, bounds, normals=True)
    vertices, faces, normals = ops.marching_cubes(volume, level, bounds=bounds, normals=True)
    assert_same(meshes.frame(0), (vertices, faces))
    # Those inside cells are sums that the CPU's SIMD levels may fuse; the last bit differs among them too.
    np.testing.assert_allclose(meshes.normals[:-1], normals, rtol=0, atol=3e-7)


def test_flat_field_has_normals_along_its_edges(kernels, cases):
    volume = np.ones((3, 3, 3), np.float32)
    volume[1, 1, 1] = -1.0
    meshes = Meshes(kernels, cases, volume[None], normals=True)
    np.testing.assert_array_equal(meshes.normals[:-1], ops.marching_cubes(volume, normals=True)[2])
    assert np.isfinite(meshes.normals[:-1]).all()


@pytest.mark.parametrize("origin", [0.0, 1e6])
def test_samples_at_the_level(kernels, cases, origin):
    """Vertices of several cut edges would meet there; far from the origin they are kept further apart."""
    volume = np.random.default_rng(6).choice([-1.0, -1e-7, 0.0, 1e-7, 1.0], (5, 6, 40)).astype(np.float32)
    bounds = ((origin, 0, 0), (origin + 4, 5, 39))
    assert_same(
        Meshes(kernels, cases, volume[None], 0.0, bounds).frame(0), ops.marching_cubes(volume, bounds=bounds)
    )


@pytest.mark.parametrize("shape", [(4, 5, 9), (3, 7, 130)])
def test_frames_of_a_batch_are_those_alone(kernels, cases, shape):
    """Rows of two frames share a warp, and one frame has no surface at all."""
    volumes = noise((4, *shape), 7)
    volumes[1] = 1.0
    meshes = Meshes(kernels, cases, volumes)
    for t in range(4):
        assert_same(meshes.frame(t), ops.marching_cubes(volumes[t]))


def test_rows_of_more_words_than_a_warp_has_lanes(kernels, cases):
    volume = noise((3, 2, 2500), 8)
    assert_same(Meshes(kernels, cases, volume[None]).frame(0), ops.marching_cubes(volume))


@pytest.mark.parametrize("value", [1.0, -1.0])
def test_no_surface(kernels, cases, value):
    meshes = Meshes(kernels, cases, np.full((2, 3, 4, 5), value, np.float32))
    assert not meshes.starts.any()


def test_samples_that_are_not_finite_are_counted_and_found(kernels, cases):
    volumes = noise((2, 3, 4, 70), 9)
    at = [(1, 0, 2, 66), (1, 2, 3, 69), (1, 1, 0, 0)]
    for place, value in zip(at, (np.nan, np.inf, -np.inf), strict=True):
        volumes[place] = value
    for seed in range(3):
        kernels.seed(seed)
        meshes = Meshes(kernels, cases, volumes)
        assert meshes.bad == 3
        assert np.unravel_index(meshes.first_bad, volumes.shape) == at[0]
    # The greatest finite number is finite.
    volumes = np.full((1, 2, 2, 2), np.finfo(np.float32).max, np.float32)
    assert Meshes(kernels, cases, volumes).bad == 0


def test_nothing_is_written_where_the_room_is_too_small(kernels, cases):
    meshes = Meshes(kernels, cases, noise((1, 4, 4, 9), 10))
    vertex_count, face_count = (int(n) for n in meshes.starts[-1])
    for vertex_room, face_room in ((vertex_count - 1, face_count), (vertex_count, face_count - 1)):
        meshes.vertices[:], meshes.faces[:] = 7.0, 7
        meshes.emit(kernels, vertex_room, face_room)
        assert (meshes.vertices == 7.0).all() and (meshes.faces == 7).all()


def bricks_of(volumes, level):
    """Bricks (B, 8, 8, 8) and the table (T, ...) that keep what the surface of each volume needs."""
    t, *sizes = volumes.shape
    counts = [-(-n // 8) for n in sizes]
    padding = [(0, 0)] + [(0, 8 * c - n) for c, n in zip(counts, sizes, strict=True)]
    full = np.pad(volumes, padding, mode="edge")
    # All eight corners of every cell that is cut.
    inside = full < level
    x, y, z = (n - 1 for n in inside.shape[1:])
    corners = [np.s_[:, a : a + x, b : b + y, c : c + z] for a, b, c in np.ndindex(2, 2, 2)]
    cells = np.stack([inside[corner] for corner in corners])
    cut = cells.any(0) & ~cells.all(0)
    keep = np.zeros_like(inside)
    for corner in corners:
        keep[corner] |= cut

    def blocks(array):
        split = array.reshape(t, counts[0], 8, counts[1], 8, counts[2], 8)
        return split.transpose(0, 1, 3, 5, 2, 4, 6)

    needed = blocks(keep).any((4, 5, 6))
    table = np.where(blocks(inside).all((4, 5, 6)), -2, -1).astype(np.int32)
    table[needed] = np.random.default_rng(0).permutation(int(needed.sum()))
    samples = np.empty((int(needed.sum()), 8, 8, 8), np.float32)
    samples[table[needed]] = blocks(full)[needed]
    return samples, table


@pytest.mark.parametrize("shape", [(40, 33, 40), (25, 30, 140)])
def test_bricks_give_the_mesh_of_the_dense_volume(kernels, cases, shape):
    volumes = np.stack([sphere(shape, 1.2), sphere(shape, 0.3)]) + 0.02 * noise((2, *shape), 11)
    samples, table = bricks_of(volumes, 0.01)
    assert (table == -1).any() and (table == -2).any()
    meshes = Meshes(kernels, cases, samples, 0.01, bricks=table, shape=(2, *shape))
    for t in range(2):
        assert_same(meshes.frame(t), ops.marching_cubes(volumes[t], 0.01))


def test_bricks_report_samples_that_are_not_finite(kernels, cases):
    volumes = sphere((16, 16, 16), 0.5)[None]
    samples, table = bricks_of(volumes, 0.0)
    samples[table[table >= 0][0], 1, 2, 3] = np.nan
    assert Meshes(kernels, cases, samples, 0.0, bricks=table, shape=volumes.shape).bad == 1


def test_sizes_that_cannot_be_numbered_are_refused(kernels):
    for shape in [(1, 1, 4, 4), (0, 2, 2, 2), (1, 4096, 4096, 8192)]:
        assert kernels.value("test_workspace_bytes", np.array(shape, np.int64)) == -1
    assert kernels.value("test_workspace_bytes", np.array((1, 2, 2, 2), np.int64)) > 0
