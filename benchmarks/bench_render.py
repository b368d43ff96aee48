"""Drawing and writing the built-in head, beside VTK off-screen and trimesh, in the same run.

    python -m pytest benchmarks/bench_render.py --benchmark-columns=median,iqr,rounds

VTK draws with the graphics library of the machine (Mesa's llvmpipe where there is no GPU) and is skipped
where it finds none. It does less per pixel (Phong, no shadow, no occlusion); both use four samples a pixel.
trimesh writes every frame as a mesh of its own, because it has no morph targets.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facetalk.mesh import RiggedSequence, gaussian_smooth
from facetalk.mesh.export import export
from facetalk.motion import Motion
from facetalk.pipeline import FaceTalk
from facetalk.render.render import Renderer, render
from facetalk.render.scene import AnimatedScene

FRAMES, SIZE = 250, (720, 720)


@pytest.fixture(scope="module")
def head() -> RiggedSequence:
    """Ten seconds of the default head with every weight in motion."""
    model = FaceTalk.from_pretrained()
    noise = np.random.default_rng(0).standard_normal((FRAMES, model.head.expression_dim))
    weights = np.clip(0.15 + 1.0 * gaussian_smooth(noise, 0.1, 25.0), 0.0, 1.0)
    sequence = model.decode(Motion(weights.astype(np.float32)))
    assert isinstance(sequence, RiggedSequence)
    return sequence


@pytest.fixture(scope="module")
def file(head: RiggedSequence, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("bench") / "talk.glb", head, fps=25)


def test_picture(benchmark: Any, file: Path) -> None:
    """One picture, its work shared by no other thread, as in a video."""
    benchmark.group = "one 720 x 720 picture"
    renderer = Renderer(AnimatedScene(file), SIZE)
    times = iter(np.resize(np.arange(FRAMES) / 25.0, 10_000))
    benchmark.pedantic(lambda: renderer.picture(float(next(times))), rounds=30, warmup_rounds=2)


def test_picture_vtk(benchmark: Any, file: Path) -> None:
    vtk = pytest.importorskip("vtk")
    benchmark.group = "one 720 x 720 picture"
    renderer = Renderer(AnimatedScene(file), SIZE)
    geometry = renderer.scene.geometry(0.0)
    from vtk.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray, vtk_to_numpy

    data, points, cells = vtk.vtkPolyData(), vtk.vtkPoints(), vtk.vtkCellArray()
    points.SetData(numpy_to_vtk(geometry.positions, deep=True))
    corners = numpy_to_vtkIdTypeArray(geometry.faces.astype(np.int64).reshape(-1), deep=True)
    starts = numpy_to_vtkIdTypeArray(np.arange(0, 3 * len(geometry.faces) + 1, 3, dtype=np.int64), deep=True)
    cells.SetData(starts, corners)
    data.SetPoints(points)
    data.SetPolys(cells)
    data.GetPointData().SetNormals(numpy_to_vtk(geometry.normals, deep=True))
    data.GetPointData().SetScalars(numpy_to_vtk((geometry.colors * 255).astype(np.uint8), deep=True))
    mapper, actor, stage, window = (
        vtk.vtkPolyDataMapper(),
        vtk.vtkActor(),
        vtk.vtkRenderer(),
        vtk.vtkRenderWindow(),
    )
    mapper.SetInputData(data)
    actor.SetMapper(mapper)
    stage.AddActor(actor)
    window.SetOffScreenRendering(1)
    window.SetMultiSamples(4)
    window.SetSize(*SIZE)
    window.AddRenderer(stage)
    window.Render()
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(window)
    grab.ReadFrontBufferOff()

    def draw() -> np.ndarray:
        # The positions of a new frame go to the card every time, as in an animation.
        points.GetData().Modified()
        points.Modified()
        window.Render()
        grab.Modified()
        grab.Update()
        return np.array(vtk_to_numpy(grab.GetOutput().GetPointData().GetScalars()))

    if draw().std() == 0:
        pytest.skip("VTK draws nothing here")
    benchmark.pedantic(draw, rounds=30, warmup_rounds=2)


def test_video(benchmark: Any, file: Path) -> None:
    """Ten seconds, all cores, with the encoding."""
    benchmark.group = "250 pictures into an .mp4"
    benchmark.pedantic(lambda: render(file, file.with_suffix(".mp4")), rounds=1)


def test_export(benchmark: Any, head: RiggedSequence, tmp_path: Path) -> None:
    benchmark.group = "250 frames into a .glb"
    benchmark.pedantic(lambda: export(tmp_path / "talk.glb", head, fps=25), rounds=3, warmup_rounds=1)
    benchmark.extra_info["megabytes"] = (tmp_path / "talk.glb").stat().st_size / 1e6


def test_export_trimesh(benchmark: Any, head: RiggedSequence, tmp_path: Path) -> None:
    trimesh = pytest.importorskip("trimesh")
    benchmark.group = "250 frames into a .glb"
    out = tmp_path / "frames.glb"

    def write() -> None:
        scene = trimesh.Scene()
        for number, mesh in enumerate(head):
            shape = trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_normals=mesh.normals, process=False)
            shape.visual.vertex_colors = mesh.colors
            scene.add_geometry(shape, node_name=f"frame_{number}")
        scene.export(out)

    benchmark.pedantic(write, rounds=1)
    benchmark.extra_info["megabytes"] = out.stat().st_size / 1e6
