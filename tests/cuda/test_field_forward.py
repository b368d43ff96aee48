"""Forward models bound on a CUDA device, over kernels on the host: the CPU's values, on the device."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_field_dispatch import GOLDEN, SMOOTHING, Recorded
from test_marching_cubes_face import EmulatedCore

from facetalk.nphm import RootWarning, binding, load_checkpoint
from facetalk.nphm.posed import posed_roots, posed_values
from facetalk.nphm.surface.options import ExtractionOptions
from facetalk.ops.cuda import marching_cubes as cuda_marching_cubes

RESOLUTION = (7, 6, 8)


@pytest.fixture(scope="module")
def arrays() -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / "golden.safetensors")


@pytest.fixture
def both(arrays, emulated, monkeypatch):
    """The head on a device whose kernels run here, and on the CPU."""
    model = load_checkpoint(GOLDEN, direction="forward")
    core = EmulatedCore(emulated("marching_cubes"))
    monkeypatch.setattr(cuda_marching_cubes, "cuda_core", lambda name, where: core)
    monkeypatch.setattr(cuda_marching_cubes, "current_stream", lambda device: 7)

    def bind(**options):
        cpu = model.bind(arrays["lat_id"], **options)
        with monkeypatch.context() as patch:
            patch.setattr(binding, "CudaField", Recorded)
            patch.setattr(binding, "why_not", lambda device: None)
            there = model.bind(arrays["lat_id"], device="cuda:3", precision="fp32", **options)
        assert there.direction == "forward" and isinstance(there.bound.kernels, Recorded)
        return there, cpu

    return bind


@pytest.mark.parametrize("smoothing", [None, SMOOTHING])
def test_values(arrays, both, smoothing) -> None:
    field, cpu = both(facial_smoothing=smoothing)
    points, codes = arrays["broyden_obs"][:10], arrays["lat_expr"][:2]
    roots, expected = field.roots(points, codes), cpu.roots(points, codes)
    assert isinstance(roots.points, torch.Tensor) and roots.failed == expected.failed == 0
    assert (roots.points - expected.points).abs().max() < 5e-6 and roots.residual.max() <= 2e-6
    if smoothing is None:
        assert (roots.points[0] - arrays["broyden_xc_f64"][:10]).abs().max() < 3e-6
    torch.testing.assert_close(field.query(points, codes), cpu.query(points, codes), rtol=0, atol=2e-5)
    assert isinstance(field.query(points.numpy(), codes.numpy()), np.ndarray)
    slopes, known = field.gradient(points, codes), cpu.gradient(points, codes)
    assert (slopes - known).abs().max() <= 2e-4 * known.abs().max()
    volume = field.grid(codes[:1], (2, 3, 2))
    torch.testing.assert_close(volume, cpu.grid(codes[:1], (2, 3, 2)), rtol=0, atol=2e-5)


def test_surfaces_and_tracks(arrays, both) -> None:
    field, cpu = both()
    codes = arrays["lat_expr"][:1]
    for options in ({}, {"posed": True}):
        chosen = ExtractionOptions(**options)
        surfaces = list(field.surfaces(codes, RESOLUTION, options=chosen))
        known = list(cpu.surfaces(codes, RESOLUTION, options=chosen))
        for surface, other in zip(surfaces, known, strict=True):
            assert isinstance(surface.vertices, torch.Tensor) and isinstance(surface.faces, torch.Tensor)
            assert surface.info.method == other.info.method
            assert np.array_equal(surface.faces.numpy(), other.faces) and len(other.faces) > 20
            assert np.abs(surface.vertices.numpy() - other.vertices).max() < 1e-4
    info = field.tracked(codes, resolution=RESOLUTION, normals=True)
    other = cpu.tracked(codes, resolution=RESOLUTION, normals=True)
    for value in (info.vertices, info.faces, info.residual, info.converged, info.normals):
        assert isinstance(value, torch.Tensor)
    assert bool(info.converged.all()) and not info.residual.any()
    assert np.abs(info.vertices.numpy() - other.vertices).max() < 1e-4
    assert np.quantile(np.abs(info.normals.numpy() - other.normals), 0.99) < 1e-2


def test_a_point_that_is_no_number_has_no_root(arrays, both) -> None:
    """Points on a device are not looked at; their values are no numbers either."""
    field, _ = both()
    kernels, biases = field.bound.kernels, field.bound.biases(arrays["lat_expr"][:1])
    points = arrays["broyden_obs"][:3].clone()
    points[1, 2] = torch.nan
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("facetalk.nphm.posed._refuse", lambda points: None)  # the device here is the CPU
        roots = posed_roots(kernels, points, biases)
        assert roots.converged[0].tolist() == [True, False, True]
        with pytest.warns(RootWarning, match="1 of 3"):
            values = posed_values(kernels, points, biases, None, "sdf")
    assert torch.isnan(values[0, 1]) and torch.isfinite(values[0, [0, 2]]).all()
