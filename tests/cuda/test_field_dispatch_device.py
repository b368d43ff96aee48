"""`NPHM.bind(device="cuda")` on a GPU: results stay there and agree with the CPU's. Skipped without one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden import GOLDEN
from safetensors.torch import load_file

from facetalk.mesh import Mesh
from facetalk.metrics.surface import two_sided
from facetalk.motion import Motion
from facetalk.nphm import load_checkpoint

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")


POINTS, RESOLUTION, COARSE = 500, 32, 24
FOLDERS = {"nphm": "nphm_tiny", "mononphm": "mononphm_tiny"}


@pytest.fixture(params=FOLDERS)
def golden(request):
    folder = GOLDEN / FOLDERS[request.param]
    return load_checkpoint(folder, family=request.param), load_file(folder / "golden.safetensors")


def apart(a: Mesh, b: Mesh) -> np.ndarray:
    """Distances between two surfaces, metres."""
    return two_sided((a.vertices, a.faces), (b.vertices, b.faces))


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_queries_from_anywhere_run_on_the_device(golden, precision: str) -> None:
    model, arrays = golden
    points = torch.rand(POINTS, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    codes = arrays["lat_expr"]
    field, cpu = (
        model.bind(arrays["lat_id"], device="cuda", precision=precision),
        model.bind(arrays["lat_id"]),
    )
    limit = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 2e-1}[precision]
    for name in ("query", "offsets", "gradient", "jacobian"):
        expected = getattr(cpu, name)(points, codes)
        there = getattr(field, name)(points.cuda(), codes.cuda())
        assert there.device == field.device
        for p, c in ((points, codes), (points.cuda(), codes)):
            torch.testing.assert_close(getattr(field, name)(p, c), there, rtol=1e-5, atol=1e-5)
        array = getattr(field, name)(points.numpy(), codes.numpy())
        assert isinstance(array, np.ndarray)
        torch.testing.assert_close(torch.from_numpy(array), there.cpu(), rtol=1e-5, atol=1e-5)
        scale = expected.abs().max().clamp_min(1.0)
        kept = limit if name in ("query", "offsets") else 2e-3  # derivatives are float32
        assert (there.cpu() - expected).abs().max() <= kept * scale, name


def test_a_query_replays_as_a_graph(golden) -> None:
    model, arrays = golden
    field = model.bind(arrays["lat_id"], device="cuda")
    points, codes = torch.rand(POINTS, 3, device="cuda") - 0.5, arrays["lat_expr"].cuda()
    expected = field.query(points, codes)
    still = codes.clone()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = field.query(points, still)
    still.zero_()
    graph.replay()
    assert torch.equal(result, field.query(points, torch.zeros_like(codes)))
    still.copy_(codes)
    graph.replay()
    assert torch.equal(result, expected)


@pytest.mark.parametrize("exact", [False, True])
def test_meshes_and_tracks(golden, exact: bool) -> None:
    model, arrays = golden
    field = model.bind(arrays["lat_id"], device="cuda", precision="fp32")
    cpu, codes = model.bind(arrays["lat_id"]), arrays["lat_expr"]
    meshes = field.extract(codes.cuda(), RESOLUTION, exact=exact)
    dense = cpu.extract(codes, RESOLUTION, exact=True)
    for mesh, wanted in zip(meshes, dense, strict=True):
        assert isinstance(mesh, Mesh) and len(mesh) > 0
        assert apart(mesh, wanted).max() < 1e-4
    for surface in field.surfaces(codes, RESOLUTION):
        assert surface.vertices.is_cuda and surface.faces.is_cuda
    info = field.tracked(codes.cuda(), resolution=COARSE, tolerance=1e-5)
    moved, faces = info.vertices, info.faces
    assert moved.is_cuda and faces.is_cuda and info.residual.is_cuda
    (canonical,) = (surface.vertices.cpu().numpy() for surface in field.knowledge.surfaces.values())
    known = cpu.tracked(codes, vertices=canonical, faces=faces.cpu())
    expected = known.vertices
    both = info.converged.cpu().numpy() & known.converged
    assert both.mean() > 0.95 and np.median(np.abs(moved.cpu().numpy() - expected)[both]) < 1e-5


def test_the_pipeline_decodes_on_the_device_it_was_loaded_for() -> None:
    facetalk = pytest.importorskip(
        "facetalk.pipeline", exc_type=ImportError
    )  # it reads audio, by more packages
    models = [facetalk.FaceTalk.from_pretrained("default", device=device) for device in ("cuda", "cpu")]
    codes = np.zeros((3, models[0].head.expression_dim), np.float32)
    codes[1:, models[0].head.expression_names.index("jawOpen")] = 0.4
    motion = Motion(codes, 25.0)
    there, here = (
        list(m.decode(motion, topology="marching-cubes", resolution=RESOLUTION + 16)) for m in models
    )
    for mesh, wanted in zip(there, here, strict=True):
        assert mesh.colors is not None and mesh.part is not None
        assert apart(mesh, wanted).mean() < 1e-4
