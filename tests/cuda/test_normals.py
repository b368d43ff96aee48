"""Vertex normals of the GPU, run on the host through the torch face: the CPU's bits."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from facetalk import ops
from facetalk.ops.cuda import normals as cuda_normals


class EmulatedCore:
    def __init__(self, library):
        self.library = library

    def vertex_normals_cuda(self, vertices, faces, corners, start, normals, stream):
        assert stream == 77
        frames, count, _ = vertices.shape
        arrays = [array.numpy() for array in (vertices, faces, corners, start, normals)]
        self.library.call("normals_gather", *arrays, frames, count)


@pytest.fixture(scope="module")
def core(emulated):
    return EmulatedCore(emulated("normals"))


@pytest.fixture(autouse=True)
def stream(monkeypatch):
    monkeypatch.setattr(cuda_normals, "current_stream", lambda device: 77)


def mesh(vertices, faces, frames, seed):
    random = np.random.default_rng(seed)
    points = random.standard_normal((frames, vertices, 3)).astype(np.float32)
    corners = np.argsort(random.random((faces, vertices)), axis=1)[:, :3].astype(np.int32)
    return torch.from_numpy(points), torch.from_numpy(corners)


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 60), st.integers(0, 200), st.integers(0, 3), st.integers(0, 1000))
def test_same_bits_as_the_cpu(core, vertices, faces, frames, seed):
    points, triangles = mesh(vertices, faces, frames, seed)
    core.library.seed(seed)
    got = cuda_normals.run(core, points, triangles)
    assert torch.equal(got, ops.vertex_normals(points, triangles))


def test_flat_and_lonely_vertices_have_no_normal(core):
    points = torch.tensor([[[0, 0, 0], [1, 0, 0], [2, 0, 0], [0, 1, 0], [9, 9, 9]]], dtype=torch.float32)
    flat = cuda_normals.run(core, points, torch.tensor([[0, 1, 2]], dtype=torch.int32))
    assert torch.equal(flat, torch.zeros_like(points))
    up = cuda_normals.run(core, points, torch.tensor([[0, 1, 3]], dtype=torch.int32))
    assert torch.equal(up[0, :, 2], torch.tensor([1.0, 1, 0, 1, 0]))


def test_faces_that_name_missing_vertices_add_nothing(core):
    points, triangles = mesh(20, 40, 2, 0)
    wrong = torch.tensor([[0, 1, 20], [-1, 2, 3], [2**31 - 1, 4, 5]], dtype=torch.int32)
    got = cuda_normals.run(core, points, torch.cat([wrong[:2], triangles, wrong[2:]]))
    assert torch.equal(got, ops.vertex_normals(points, triangles))


def test_fake_tensors_trace_on_a_cuda_device():
    with FakeTensorMode():
        points, faces = (
            torch.empty(2, 9, 3, device="cuda"),
            torch.empty(4, 3, dtype=torch.int32, device="cuda"),
        )
        normals = ops.vertex_normals(points, faces)
        assert normals.shape == (2, 9, 3) and normals.device.type == "cuda" and normals.dtype == torch.float32


def test_devices_must_agree():
    with (
        FakeTensorMode(),
        pytest.raises(TypeError, match="faces: expected the device of the vertices, cuda:0"),
    ):
        ops.vertex_normals(torch.empty(9, 3, device="cuda"), torch.empty(4, 3, dtype=torch.int32))
