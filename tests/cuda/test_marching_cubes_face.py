"""The torch face of marching cubes: its CUDA path over emulated kernels, its operator, a device."""

import ctypes
import itertools

import numpy as np
import pytest
import torch

from facetalk import ops
from facetalk.ops import _device
from facetalk.ops.cuda import marching_cubes as face
from facetalk.ops.marching_cubes import marching_cubes_frames
from facetalk.ops.torch_ops.marching_cubes import _operator

IDENTITY = ([0.0] * 3, [1.0] * 3)


class EmulatedCore:
    """The functions of csrc/python/marching_cubes_cuda.cpp over tensors in the CPU's memory."""

    def __init__(self, kernels):
        self.kernels = kernels
        self.emitted = 0

    def marching_cubes_cases(self):
        cases = np.zeros(self.kernels.value("test_cases_bytes"), np.uint8)
        self.kernels.call("test_write_cases", cases)
        return cases

    def marching_cubes_workspace(self, shape):
        return self.kernels.value("test_workspace_bytes", np.array(shape, np.int64))

    def _problem(self, samples, table, shape, cases, level, origin, step, workspace, header, stream):
        assert stream == 7
        assert samples.is_contiguous() and header.shape == (4 + 2 * shape[0],)
        arrays = [None if a is None else a.numpy() for a in (samples, table, cases)]
        frame = np.array([*origin, *step], np.float64)
        return (*arrays, np.array(shape, np.int64), level, frame, workspace.numpy())

    def marching_cubes_count(self, *args):
        self.kernels.call("test_count", *self._problem(*args), args[8].numpy())

    def marching_cubes_emit(self, *args):
        *problem, vertices, normals, faces = args
        self.emitted += 1
        outputs = [None if a is None else a.numpy() for a in (vertices, normals, faces)]
        rooms = [ctypes.c_int64(len(a)) for a in (vertices, faces)]
        self.kernels.call("test_emit", *self._problem(*problem), *outputs, *rooms)


@pytest.fixture
def core(emulated, monkeypatch):
    monkeypatch.setattr(face, "current_stream", lambda device: 7)
    return EmulatedCore(emulated("marching_cubes"))


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("normals", [False, True])
def test_frames_lie_one_after_the_other(core, normals):
    volumes = noise(3, 4, 5, 66)
    vertices, faces, directions, starts = face.run(
        core, volumes, None, (3, 4, 5, 66), 0.1, *IDENTITY, normals
    )
    assert len(starts) == 4 and starts[0] == (0, 0) and starts[-1] == (len(vertices), len(faces))
    for t, ((v0, f0), (v1, f1)) in enumerate(itertools.pairwise(starts)):
        expected = ops.marching_cubes(volumes[t], 0.1, normals=True)
        assert torch.equal(vertices[v0:v1], expected[0]) and torch.equal(faces[f0:f1], expected[1])
        if normals:
            torch.testing.assert_close(directions[v0:v1], expected[2], rtol=0, atol=3e-7)
    assert normals == (directions is not None)


def test_empty_surfaces_are_not_emitted(core):
    vertices, faces, _, starts = face.run(
        core, torch.ones(2, 3, 3, 3), None, (2, 3, 3, 3), 0.0, *IDENTITY, False
    )
    assert vertices.shape == (0, 3) and faces.shape == (0, 3) and faces.dtype == torch.int32
    assert starts == [(0, 0)] * 3 and core.emitted == 0


def test_samples_that_are_not_finite(core):
    volumes = noise(2, 3, 4, 5)
    volumes[1, 2, 3, 4] = torch.nan
    with pytest.raises(
        ValueError, match=r"finite samples, got 1 that is NaN.* the first at index \(1, 2, 3, 4\)"
    ):
        face.run(core, volumes, None, (2, 3, 4, 5), 0.0, *IDENTITY, False)
    with pytest.raises(ValueError, match=r"index \(2, 3, 4\)"):
        face.run(core, volumes[1:], None, (1, 3, 4, 5), 0.0, *IDENTITY, False)
    with pytest.raises(ValueError) as cpu:
        ops.marching_cubes(volumes[1])
    with pytest.raises(ValueError) as device:
        face.run(core, volumes[1:], None, (1, 3, 4, 5), 0.0, *IDENTITY, False)
    assert str(device.value) == str(cpu.value)


def test_bricks(core):
    volume = noise(1, 16, 16, 16)
    table = torch.arange(8, dtype=torch.int32).reshape(1, 2, 2, 2)
    bricks = volume.reshape(2, 8, 2, 8, 2, 8).permute(0, 2, 4, 1, 3, 5).reshape(8, 8, 8, 8).contiguous()
    vertices, faces, _, _ = face.run(core, bricks, table, (1, 16, 16, 16), 0.0, *IDENTITY, False)
    expected = ops.marching_cubes(volume[0])
    assert torch.equal(vertices, expected[0]) and torch.equal(faces, expected[1])


@pytest.mark.parametrize("room", [2000, 3])
def test_rooms_made_beforehand(core, room):
    volumes = noise(2, 4, 5, 6)
    vertices, faces = torch.full((room, 3), 7.0), torch.full((room, 3), 7, dtype=torch.int32)
    header = face.extract_into(
        volumes, None, (2, 4, 5, 6), 0.1, *IDENTITY, vertices, faces, _core=core
    ).tolist()
    expected = [ops.marching_cubes(volume, 0.1) for volume in volumes]
    counts = [len(part) for part in expected[0]], [len(part) for part in expected[1]]
    assert header == [0, 0, 0, 0, *counts[0], counts[0][0] + counts[1][0], counts[0][1] + counts[1][1]]
    if room == 3:
        assert (vertices == 7).all() and (faces == 7).all()
    else:
        assert torch.equal(vertices[header[4] : header[6]], expected[1][0])
        assert torch.equal(faces[header[5] : header[7]], expected[1][1])


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.setattr(_device, "_missing", lambda *_: "no NVIDIA driver on this machine")
    with pytest.raises(
        TypeError, match=r"volume: .* on cuda:0, .*no NVIDIA driver on this machine; pass volume.cpu"
    ):
        _device.cuda_core("volume", torch.device("cuda", 0))


# --- The operator


def test_frames_on_the_cpu():
    volumes = noise(3, 4, 5, 6)
    volumes[1] = 1.0
    frames = marching_cubes_frames(volumes, 0.2, bounds=((0, 0, 0), (1, 1, 1)), normals=True)
    assert len(frames) == 3 and frames[1][0].shape == (0, 3)
    for volume, frame in zip(volumes, frames, strict=True):
        expected = ops.marching_cubes(volume, 0.2, bounds=((0, 0, 0), (1, 1, 1)), normals=True)
        assert all(torch.equal(a, b) for a, b in zip(frame, expected, strict=True))
    assert len(marching_cubes_frames(volumes)[0]) == 2


@pytest.mark.parametrize(
    ("volumes", "error", "says"),
    [
        (np.zeros((1, 2, 2, 2), np.float32), TypeError, "volumes: expected a torch tensor"),
        (torch.zeros(2, 2, 2), ValueError, r"volumes: expected shape \(T, nx, ny, nz\)"),
        (torch.zeros(0, 2, 2, 2), ValueError, r"volumes: expected shape"),
        (torch.zeros(1, 2, 1, 2), ValueError, r"volumes: expected shape"),
        (torch.zeros(1, 2, 2, 2, dtype=torch.int32), TypeError, "volumes: expected float32"),
    ],
)
def test_wrong_frames(volumes, error, says):
    with pytest.raises(error, match=says):
        marching_cubes_frames(volumes)


@pytest.mark.parametrize("normals", [False, True])
def test_operator_passes_opcheck(normals):
    volumes = noise(2, 3, 4, 5)
    torch.library.opcheck(_operator, (volumes, 0.0, *IDENTITY, normals))


# torch's own patch: pytest's would delete the setting when it undoes it.
@torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True)
def test_traces_in_one_graph():
    def mean(volume):
        vertices, faces = ops.marching_cubes(volume, 0.1)
        return vertices.mean(0), faces.sum()

    volume = noise(4, 5, 6)
    compiled = torch.compile(mean, backend="aot_eager", fullgraph=True)
    for got, expected in zip(compiled(volume), mean(volume), strict=True):
        torch.testing.assert_close(got, expected)


# --- On a device


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
class TestOnDevice:
    @pytest.mark.parametrize("shape", [(2, 2, 2), (3, 5, 70), (17, 2, 2), (40, 41, 200), (3, 2, 2500)])
    def test_is_the_mesh_of_the_cpu(self, shape):
        volume = noise(*shape)
        got = ops.marching_cubes(volume.cuda(), 0.1, bounds=((-1, 0, 2), (1, 3, 5)), normals=True)
        expected = ops.marching_cubes(volume, 0.1, bounds=((-1, 0, 2), (1, 3, 5)), normals=True)
        assert torch.equal(got[0].cpu(), expected[0]) and torch.equal(got[1].cpu(), expected[1])
        torch.testing.assert_close(got[2].cpu(), expected[2], rtol=0, atol=3e-7)

    def test_frames(self):
        volumes = noise(5, 20, 30, 100)
        for got, volume in zip(marching_cubes_frames(volumes.cuda()), volumes, strict=True):
            expected = ops.marching_cubes(volume)
            assert all(torch.equal(a.cpu(), b) for a, b in zip(got, expected, strict=True))

    def test_runs_on_the_callers_stream(self):
        volume = noise(64, 64, 64)
        expected = ops.marching_cubes(volume)
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            delayed = volume.cuda()
            torch.cuda._sleep(20_000_000)
            scaled = delayed * 2  # comes late: another stream would read it too soon
            got = ops.marching_cubes(scaled)
        stream.synchronize()
        assert torch.equal(got[1].cpu(), expected[1])

    def test_replays_as_a_cuda_graph(self):
        volumes = noise(2, 20, 20, 70).cuda()
        vertices = torch.empty(200_000, 3, device="cuda")
        faces = torch.empty(200_000, 3, dtype=torch.int32, device="cuda")

        def extract():
            return face.extract_into(volumes, None, tuple(volumes.shape), 0.0, *IDENTITY, vertices, faces)

        extract()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            header = extract()
        volumes.copy_(noise(2, 20, 20, 71)[..., :70])
        graph.replay()
        starts = header.tolist()
        expected = ops.marching_cubes(volumes[1].cpu())
        assert torch.equal(vertices[starts[4] : starts[6]].cpu(), expected[0])
        assert torch.equal(faces[starts[5] : starts[7]].cpu(), expected[1])

    def test_cupy(self):
        cupy = pytest.importorskip("cupy")
        volume = noise(9, 8, 70).numpy()
        vertices, faces = ops.marching_cubes(cupy.asarray(volume))
        assert isinstance(vertices, cupy.ndarray)
        expected = ops.marching_cubes(volume)
        assert (vertices.get() == expected[0]).all() and (faces.get() == expected[1]).all()

    def test_errors(self):
        volume = noise(5, 6, 7).cuda()
        with pytest.raises(TypeError, match="volume: expected float32"):
            ops.marching_cubes(volume.half())
        volume[1, 2, 3] = torch.inf
        with pytest.raises(ValueError, match=r"first at index \(1, 2, 3\)"):
            ops.marching_cubes(volume)

    def test_operator_passes_opcheck(self):
        torch.library.opcheck(_operator, (noise(2, 3, 4, 5).cuda(), 0.0, *IDENTITY, True))
