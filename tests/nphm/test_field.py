"""A bound head: grids, meshes, the band, smoothing, tracking, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from facetalk.errors import InputError
from facetalk.mesh.smoothing import FacialSmoothing
from facetalk.nphm.lattice import DEFAULT_BOUNDS
from facetalk.units import HEAD_UNIT_METRES


@pytest.fixture(scope="module")
def field(tiny):
    return tiny.model.bind(tiny.lat_id)


@pytest.mark.parametrize("resolution", [32, 65, (40, 33, 50)])
def test_the_band_gives_the_dense_mesh(tiny, field, resolution) -> None:
    exact = field.extract(tiny.lat_expr, resolution, exact=True)
    quick = field.extract(tiny.lat_expr, resolution)
    assert len(exact) == len(quick) == 3
    for a, b in zip(exact, quick, strict=True):
        assert len(a.vertices) > 500
        assert np.array_equal(a.vertices, b.vertices) and np.array_equal(a.faces, b.faces)


def test_units_and_orientation(tiny, field) -> None:
    (metres,) = field.extract(tiny.lat_expr[0], 40)
    (head,) = field.extract(tiny.lat_expr[0], 40, units="head")
    assert np.allclose(metres.vertices, head.vertices * HEAD_UNIT_METRES, atol=1e-7)
    assert np.abs(field.query(head.vertices, tiny.lat_expr[0].numpy())).max() < 0.02
    slope = field.gradient(head.vertices, tiny.lat_expr[0].numpy())[0]
    outward = (slope * head.normals).sum(1) > 0
    assert outward.mean() > 0.95
    with pytest.raises(InputError, match="units"):
        field.extract(None, 8, units="feet")


def test_no_surface_gives_empty_meshes(tiny, field) -> None:
    far = ((3.0, 3.0, 3.0), (4.0, 4.0, 4.0))
    for exact in (True, False):
        (mesh,) = field.extract(tiny.lat_expr[0], 9, far, exact=exact)
        assert mesh.vertices.shape == (0, 3) and mesh.faces.shape == (0, 3)


def test_kinds_of_arrays(tiny, field) -> None:
    points, codes = tiny.points[:50], tiny.lat_expr
    tensor = field.query(points, codes)
    array = field.query(points.numpy().astype(np.float64), codes.numpy().astype(np.float64))
    assert isinstance(tensor, torch.Tensor) and isinstance(array, np.ndarray)
    assert array.dtype == np.float32 and np.array_equal(array, tensor.numpy())
    assert np.array_equal(field.query(points[::2], codes).numpy(), array[:, ::2])  # strided input
    assert isinstance(field.grid(codes.numpy(), 3), np.ndarray) and isinstance(
        field.grid(codes, 3), torch.Tensor
    )
    assert field.grid(None, (2, 3, 4)).shape == (1, 2, 3, 4)
    assert field.query(points).shape == (1, 50)
    assert field.query(points, codes[0]).shape == (1, 50)
    assert field.query(points, codes[:0]).shape == (0, 50)


def test_the_grid_has_its_ends_and_its_order(tiny, field) -> None:
    low, high = DEFAULT_BOUNDS
    volume = field.grid(tiny.lat_expr[:1], (3, 4, 5))[0]
    corner = field.query(torch.tensor([low, high, (low[0], low[1], high[2])]), tiny.lat_expr[:1])[0]
    assert torch.equal(volume[[0, -1, 0], [0, -1, 0], [0, -1, -1]], corner)


def test_facial_smoothing(tiny) -> None:
    smoothing = FacialSmoothing((0.0, -0.2, 0.3), (0.2, 0.3, 0.4), DEFAULT_BOUNDS)
    plain, smooth = tiny.model.bind(tiny.lat_id), tiny.model.bind(tiny.lat_id, facial_smoothing=smoothing)
    points = tiny.points[:400]
    weight = torch.from_numpy(smoothing.weight(points.numpy()))
    expected = plain.offsets(points, tiny.lat_expr)
    moved = smooth.offsets(points, tiny.lat_expr)
    assert weight.min() < 0.05 and weight.max() > 0.5
    assert (moved[..., :3] - expected[..., :3] * weight[:, None]).abs().max() < 1e-6
    assert torch.equal(moved[..., 3:], expected[..., 3:])  # hyper-coordinates are no offset
    posed = torch.cat([points + moved[0, :, :3], moved[0, :, 3:]], dim=-1)
    assert (smooth.query(points, tiny.lat_expr[:1])[0] - plain.query(posed)[0]).abs().max() < 5e-6
    assert torch.equal(smooth.query(points), plain.query(points))  # the canonical head does not move


def test_track_carries_the_canonical_mesh(tiny, field) -> None:
    info = field.tracked(tiny.lat_expr, resolution=40)
    vertices, faces = info.vertices, info.faces
    assert vertices.shape == (3, *info.residual.shape[1:], 3) and faces.dtype == np.int32
    assert info.converged.all() and info.failed == 0
    canonical = field.extract(None, 40, units="head")[0]
    assert np.array_equal(faces, canonical.faces)
    moved = field.offsets(vertices.reshape(-1, 3), tiny.lat_expr.numpy())[..., :3]
    for t in range(3):
        back = vertices[t] + moved[t].reshape(vertices.shape)[t]
        assert np.linalg.norm(back - canonical.vertices, axis=1).max() < 1e-5
    again = field.track(tiny.lat_expr, resolution=40)
    assert len(again) == 2 and np.array_equal(again[0], vertices)


def test_vertices_that_do_not_converge_are_filled_and_reported(tiny, field, monkeypatch) -> None:
    good, _ = field.track(tiny.lat_expr, resolution=40)
    lost = np.arange(100, 160)
    invert = field.bound.packed.invert

    def partly(*args, **kwargs):
        positions, residuals = invert(*args, **kwargs)
        where = (1, lost) if len(positions) == 3 else slice(None)  # the first search, or another try
        positions[where], residuals[where] = 77.0, 0.5
        return positions, residuals

    monkeypatch.setattr(field.bound.packed, "invert", partly)
    info = field.tracked(tiny.lat_expr, resolution=40)
    moved = info.vertices
    assert (
        info.failed == len(lost)
        and not info.converged[1, lost].any()
        and (info.residual[1, lost] == 0.5).all()
    )
    assert np.array_equal(moved[[0, 2]], good[[0, 2]])
    others = np.setdiff1d(np.arange(good.shape[1]), lost)
    assert np.array_equal(moved[1, others], good[1, others])
    # Offsets vary smoothly here, so what is filled in is close to what was lost.
    assert np.abs(moved[1, lost] - good[1, lost]).max() < 0.01
    assert np.abs(moved[1, lost] - good[1, lost]).max() > 0


def test_a_deformation_that_folds_is_inverted_or_reported(make_model) -> None:
    """x - 3 (s(x + 0.1) - s(x - 0.1)) folds over within |x| < 0.1: some targets have three roots."""
    model = make_model(0)
    network = model.deformation
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        for unit, shift in ((0, 0.1), (1, -0.1)):
            network.defDeepSDF.lin0.weight[unit, 0] = 1.0
            network.defDeepSDF.lin0.bias[unit] = shift
            network.defDeepSDF.lin1.weight[unit, unit] = 2.0**0.5  # undoes the skip's scale
        network.defDeepSDF.lin2.weight[0, :2] = torch.tensor([-3.0, 3.0])
    field = model.bind(torch.zeros(model.identity_dim))
    line = np.linspace(-0.6, 0.6, 121, dtype=np.float32)
    vertices = np.stack([line, 0 * line, 0 * line], axis=1)
    faces = np.stack([np.arange(119), np.arange(1, 120), np.arange(2, 121)], axis=1).astype(np.int32)
    info = field.tracked(np.zeros((2, 4)), vertices=vertices, faces=faces)
    posed = info.vertices
    moved = field.offsets(posed[0], np.zeros((1, 4), np.float32))[0]
    error = np.linalg.norm(posed[0] + moved - vertices, axis=1)
    assert np.isfinite(posed).all() and info.converged.mean() > 0.9
    assert (error[info.converged[0]] < 2e-5).all()


def test_refusals(tiny, field) -> None:
    points, codes = tiny.points[:4], tiny.lat_expr
    with pytest.raises(ValueError, match=r"points\[2\]"):
        field.query(torch.tensor([[0.0, 0, 0], [0, 0, 0], [0, np.inf, 0]]), codes)
    with pytest.raises(ValueError, match=r"expressions: expected shape \(T, 16\)"):
        field.query(points, codes[:, :-1])
    with pytest.raises(ValueError, match="expressions: expected finite numbers, got nan"):
        field.query(points, codes * torch.nan)
    with pytest.raises(TypeError, match="expressions: expected floating-point"):
        field.query(points, torch.zeros(1, 16, dtype=torch.int64))
    with pytest.raises(TypeError, match="expressions: expected an array"):
        field.query(points, "smile")
    with pytest.raises(TypeError, match="expressions: expected a tensor on the CPU"):
        field.query(points, codes.to("meta"))
    for resolution in (2.5, (2, 3), True, "many", None):
        with pytest.raises(InputError, match="whole number"):
            field.grid(codes, resolution)
    for resolution, message in [(0, "at least 1"), (-3, "at least 1"), (20000, "needs .* GiB")]:
        with pytest.raises(InputError, match=message):
            field.grid(codes, resolution)
    with pytest.raises(InputError, match="at least 2"):
        field.extract(codes, 1)
    for bounds in [((0, 0, 0), (1, 1, 0)), ((0, 0), (1, 1)), ((0, 0, 0), (1, 1, np.nan)), "box"]:
        with pytest.raises(InputError, match="bounds"):
            field.extract(codes, 8, bounds)
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match=r"cannot be bound on cuda: .+; use device='cpu'"):
            tiny.model.bind(tiny.lat_id, device="cuda")
    with pytest.raises(InputError, match="cannot be bound on meta: there are kernels for"):
        tiny.model.bind(tiny.lat_id, device="meta")
    with pytest.raises(InputError, match="the CPU computes in fp32 alone, got 'fp16'"):
        tiny.model.bind(tiny.lat_id, precision="fp16")
    with pytest.raises(InputError, match="precision: expected fp32, fp16 or bf16, got 'half'"):
        tiny.model.bind(tiny.lat_id, precision="half")
    with pytest.raises(InputError, match="tracking needs"):
        field.track(None)
    with pytest.raises(InputError, match="both or neither"):
        field.track(codes, vertices=points)
    with pytest.raises(InputError, match="expected vertices 0 to 3"):
        field.track(codes, vertices=points, faces=np.array([[0, 1, 4]]))
