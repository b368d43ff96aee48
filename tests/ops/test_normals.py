import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facetalk import ops
from facetalk.ops import reference


def random_mesh(vertices, faces, seed, frames=None):
    rng = np.random.default_rng(seed)
    shape = (vertices, 3) if frames is None else (frames, vertices, 3)
    corners = np.argsort(rng.random((faces, vertices)), axis=1)[:, :3]  # three different ones
    return rng.standard_normal(shape).astype(np.float32), corners.astype(np.int32)


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 12), st.integers(0, 30), st.none() | st.integers(0, 3), st.integers(0, 1000))
def test_matches_the_reference(vertices, faces, frames, seed):
    points, triangles = random_mesh(vertices, faces, seed, frames)
    got = ops.vertex_normals(points, triangles)
    want = reference.vertex_normals(torch.from_numpy(points), torch.from_numpy(triangles)).numpy()
    assert got.shape == points.shape and got.dtype == np.float32
    lengths = np.linalg.norm(got, axis=-1)
    assert np.all((np.abs(lengths - 1) < 1e-5) | (lengths == 0))
    # Two faces of opposite turn cancel to rounding, whose direction means nothing; all others are kept.
    keys = {tuple(sorted(face)) for face in triangles.tolist()}
    if len(keys) == faces:
        np.testing.assert_allclose(got, want, atol=1e-5)


def test_cube_corners_and_weights():
    # One large and one small face at vertex 0: the normal leans to the large one by the ratio of the areas.
    points = np.array([[0, 0, 0], [2, 0, 0], [0, 2, 0], [0, 0, 1], [5, 5, 5]], np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    normals = ops.vertex_normals(points, faces)
    np.testing.assert_allclose(normals[0], np.array([2, 0, 4]) / np.sqrt(20), atol=1e-6)
    np.testing.assert_allclose(normals[1], [0, 0, 1], atol=1e-6)
    assert np.array_equal(normals[4], [0, 0, 0])
    flat = ops.vertex_normals(points * np.float32([1, 0, 0]), faces)
    assert np.array_equal(flat, np.zeros_like(points))


def test_sphere_normals_point_outward():
    axes = np.linspace(-1, 1, 40)
    x, y, z = np.meshgrid(axes, axes, axes, indexing="ij")
    volume = (np.sqrt(x**2 + y**2 + z**2) - 0.8).astype(np.float32)
    vertices, faces = ops.marching_cubes(volume, bounds=((-1,) * 3, (1,) * 3))
    normals = ops.vertex_normals(vertices, faces)
    assert (normals * vertices).sum(axis=1).min() > 0.99 * 0.8


def test_frames_and_threads_do_not_change_the_result():
    points, faces = random_mesh(500, 900, 0, frames=5)
    before = ops.threads()
    try:
        results = []
        for threads in (1, 2, 7):
            ops.set_threads(threads)
            results.append(ops.vertex_normals(points, faces))
    finally:
        ops.set_threads(before)
    assert all(np.array_equal(results[0], other) for other in results[1:])
    for frame in range(5):
        assert np.array_equal(results[0][frame], ops.vertex_normals(points[frame], faces))


def test_kinds_of_arrays():
    points, faces = random_mesh(20, 30, 0)
    want = ops.vertex_normals(points, faces)
    tensor = ops.vertex_normals(torch.from_numpy(points), torch.from_numpy(faces))
    assert isinstance(tensor, torch.Tensor) and np.array_equal(tensor.numpy(), want)
    assert np.array_equal(ops.vertex_normals(points.astype(np.float64), faces.astype(np.int64)), want)
    torch.library.opcheck(
        torch.ops.facetalk.vertex_normals.default, (torch.from_numpy(points), torch.from_numpy(faces))
    )


@pytest.mark.parametrize(
    ("vertices", "faces", "error", "says"),
    [
        (
            np.zeros((4, 3), np.float32),
            np.array([[0, 1, 4]], np.int32),
            ValueError,
            "faces.*0 to 3.*4 in face 0",
        ),
        (
            np.zeros((4, 3), np.float32),
            np.array([[0, 1, 2], [0, -1, 2]], np.int32),
            ValueError,
            "-1 in face 1",
        ),
        (np.zeros((4, 2), np.float32), np.zeros((1, 3), np.int32), ValueError, "vertices: expected shape"),
        (np.zeros((4, 3), np.float32), np.zeros((1, 4), np.int32), ValueError, "faces: expected shape"),
        (np.zeros((4, 3), np.int32), np.zeros((1, 3), np.int32), TypeError, "vertices: expected float32"),
        (np.zeros((4, 3), np.float32), np.zeros((1, 3), np.float32), TypeError, "faces: expected int32"),
        ("mesh", np.zeros((1, 3), np.int32), TypeError, "vertices: .*str"),
    ],
)
def test_wrong_input_is_named(vertices, faces, error, says):
    with pytest.raises(error, match=says):
        ops.vertex_normals(vertices, faces)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("frames", [None, 0, 3])
def test_cuda_gives_the_bits_of_the_cpu(frames):
    points, faces = (torch.from_numpy(a) for a in random_mesh(5000, 9000, 0, frames))
    want = ops.vertex_normals(points, faces)
    got = ops.vertex_normals(points.cuda(), faces.cuda())
    assert got.is_cuda and torch.equal(got.cpu(), want)
    torch.library.opcheck(torch.ops.facetalk.vertex_normals.default, (points.cuda(), faces.cuda()))
