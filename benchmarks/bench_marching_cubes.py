"""Marching cubes beside scikit-image, PyMCubes and VTK on the same volume in the same run.

    python -m pytest benchmarks/bench_marching_cubes.py

Groups are resolutions. Ours and VTK (flying edges and marching cubes, its SMP back end STDThread) use the
same number of threads; scikit-image and PyMCubes have one only. Floors: one read pass over the volume with
the same threads (``read pass``), since every sample has to be looked at once, and a copy of it. Volumes that
fit into the caches are read from there by all of them. ``gb_per_s`` counts the volume's bytes once.

Every extraction is checked to be the same surface before it is timed: area and enclosed volume.
FACETALK_BENCH_SIZES=64,128 chooses other sizes than 64 to 512.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import mcubes
import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from skimage import measure

from facetalk import ops

vtk = pytest.importorskip("vtk", reason="vtk is in the extra 'bench'")
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy  # noqa: E402

SIZES = [int(s) for s in os.environ.get("FACETALK_BENCH_SIZES", "64,128,256,512").split(",")]
Surface = tuple[np.ndarray, np.ndarray]


def head_like(size: int) -> np.ndarray:
    """A sphere with ripples: about as much surface as a head, smooth, signed distance outside the ripples."""
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    x, y, z = axis[:, None, None], axis[None, :, None], axis[None, None, :]
    return (np.sqrt(x**2 + y**2 + z**2) - 0.7 + 0.05 * np.sin(20 * x) * np.cos(17 * z)).astype(np.float32)


def vtk_filter(volume: np.ndarray, kind: str) -> Callable[[], Surface]:
    """A VTK filter without normals, gradients and scalars, executed anew at every call."""
    vtk.vtkSMPTools.SetBackend("STDThread")
    vtk.vtkSMPTools.Initialize(ops.threads())
    image = vtk.vtkImageData()
    image.SetDimensions(*volume.shape[::-1])  # x runs fastest in VTK
    image.GetPointData().SetScalars(numpy_to_vtk(volume.reshape(-1)))
    extract = vtk.vtkFlyingEdges3D() if kind == "flying edges" else vtk.vtkMarchingCubes()
    extract.SetInputData(image)
    extract.SetValue(0, 0.0)
    extract.ComputeNormalsOff()
    extract.ComputeGradientsOff()
    extract.ComputeScalarsOff()

    def run() -> Surface:
        extract.Modified()
        extract.Update()
        mesh = extract.GetOutput()
        points = vtk_to_numpy(mesh.GetPoints().GetData())
        return points, vtk_to_numpy(mesh.GetPolys().GetConnectivityArray()).reshape(-1, 3)

    return run


def single(volume: np.ndarray) -> Surface:
    before = ops.threads()
    ops.set_threads(1)
    try:
        return ops.marching_cubes(volume)
    finally:
        ops.set_threads(before)


EXTRACTORS: dict[str, Callable[[np.ndarray], Callable[[], Surface]]] = {
    "facetalk": lambda volume: lambda: ops.marching_cubes(volume),
    "facetalk, 1 thread": lambda volume: lambda: single(volume),
    "facetalk, with normals": lambda volume: lambda: ops.marching_cubes(volume, normals=True)[:2],
    "scikit-image": lambda volume: lambda: measure.marching_cubes(volume, 0.0)[:2],
    "PyMCubes": lambda volume: lambda: mcubes.marching_cubes(volume, 0.0),
    "VTK flying edges": lambda volume: vtk_filter(volume, "flying edges"),
    "VTK marching cubes": lambda volume: vtk_filter(volume, "marching cubes"),
}
FLOORS = ["read pass", "copy"]


@pytest.fixture(scope="module", params=SIZES)
def volume(request: pytest.FixtureRequest) -> np.ndarray:
    return head_like(request.param)


def area_and_volume(surface: Surface) -> tuple[float, float]:
    vertices, faces = np.asarray(surface[0], np.float64), np.asarray(surface[1], np.int64)
    area = inside = 0.0
    for block in np.array_split(faces, max(1, len(faces) // 200_000)):
        a, b, c = (vertices[block[:, i]] for i in range(3))
        cross = np.cross(b - a, c - a)
        area += 0.5 * float(np.linalg.norm(cross, axis=1).sum())
        inside += float((a * cross).sum()) / 6.0
    return area, abs(inside)


@pytest.mark.parametrize("name", [*EXTRACTORS, *FLOORS])
def test_speed(benchmark: BenchmarkFixture, volume: np.ndarray, name: str) -> None:
    size = volume.shape[0]
    benchmark.group = f"marching cubes {size}^3, {ops.threads()} threads"
    torch.set_num_threads(ops.threads())
    call: Callable[[], object]
    if name == "read pass":
        flat = torch.from_numpy(volume.reshape(-1))
        call = flat.sum
    elif name == "copy":
        source, target = torch.from_numpy(volume), torch.empty(volume.shape)

        def call() -> object:
            return target.copy_(source)

    else:
        run = EXTRACTORS[name](volume)
        surface, ours = run(), ops.marching_cubes(volume)
        expected, found = area_and_volume(ours), area_and_volume(surface)
        # The peers cut ambiguous cells and quads along other diagonals: less than a thousandth of the area.
        assert np.allclose(found, expected, rtol=2e-3)
        benchmark.extra_info["vertices"] = len(surface[0])
        benchmark.extra_info["faces"] = len(surface[1])
        call = run
    slow = size >= 512 and name in ("scikit-image", "PyMCubes", "VTK marching cubes")
    benchmark.pedantic(call, rounds=2 if slow else 7, warmup_rounds=1)
    benchmark.extra_info["gb_per_s"] = round(volume.nbytes / benchmark.stats.stats.min / 1e9, 2)
