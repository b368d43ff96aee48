"""Every array of the golden data, by the torch networks and by the compiled field.

Tolerances are the ones that the golden data asks of a float32 implementation: about ten times the largest
difference between the official code in float32 and in float64.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from facetalk.nphm import NPHM, load_checkpoint
from facetalk.nphm.field import Field
from facetalk.nphm.lattice import lattice_axes

SDF, OFFSETS, HYPER, BACKWARD, GRADIENT, JACOBIAN, ROOT = 5e-6, 3e-6, 5e-6, 1e-5, 1e-4, 1e-5, 3e-6
DOUBLE = 1e-13


@pytest.fixture(scope="module")
def field(golden) -> Field:
    return golden.model.bind(golden.lat_id)


@pytest.fixture(scope="module")
def double(golden) -> NPHM:
    return load_checkpoint(golden.folder, family=golden.family).to(torch.float64)


def worst(result: torch.Tensor, expected: torch.Tensor) -> float:
    assert result.shape == expected.shape
    return (torch.as_tensor(result).double() - expected.double()).abs().max().item()


def outliers(golden, result: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    """MonoNPHM jumps where its last neighbour changes: a few points may land on the other side."""
    assert result.shape == expected.shape
    error = (result.double() - expected.double()).abs()
    beyond = error > tolerance
    assert beyond.sum() <= (3 if golden.mono else 0), f"largest error {error.max():.2e}"
    assert error.max() <= 1e-2


class TestNetworks:
    """The torch networks; in float64 they must agree to rounding."""

    def test_float64(self, golden, double) -> None:
        n = 300  # enough for rounding, and quick at official size
        code = golden.lat_id
        points = golden.points[:n]
        assert worst(double.anchors(code), golden.anchors_pred_f64) < DOUBLE
        assert worst(double.sdf(golden.canonical_points[:n], code), golden.sdf_can_f64[:n]) < DOUBLE
        assert worst(double.offsets(points, code, golden.lat_expr), golden.offsets_f64[:, :n]) < DOUBLE
        assert worst(double.sdf(points, code, golden.lat_expr), golden.sdf_bwd_f64[:, :n]) < DOUBLE
        if golden.mono:
            moved = double.offsets(points, code, golden.lat_expr, hyper=True)
            assert worst(moved[..., 3:], golden.hyper_f64[:, :n]) < DOUBLE
        else:
            compressed = double.deformation.compress(
                code[None].double(), double.identity.anchors(code[None].double())
            )
            assert worst(compressed[0], golden.compressed_f64) < DOUBLE

    def test_float32(self, golden) -> None:
        n = 500
        assert worst(golden.model.anchors(golden.lat_id), golden.anchors_pred_f64) < 1e-6
        assert worst(golden.model.anchors(golden.lat_id_b), golden.anchors_pred_b_f64) < 1e-6
        sdf = golden.model.sdf(golden.canonical_points[-n:], golden.lat_id)
        outliers(golden, sdf, golden.sdf_can_f64[-n:], SDF)
        offsets = golden.model.offsets(golden.points[-n:], golden.lat_id, golden.lat_expr)
        assert worst(offsets, golden.offsets_f64[:, -n:]) < OFFSETS
        backward = golden.model.sdf(golden.points[-n:], golden.lat_id, golden.lat_expr)
        outliers(golden, backward, golden.sdf_bwd_f64[:, -n:], BACKWARD)

    def test_members_and_weights(self, golden, double) -> None:
        points = golden.canonical_points[golden.debug_idx.long()][None].double()
        code = golden.lat_id[None].double()
        anchors = double.identity.anchors(code)
        weights = double.identity.blend(points, anchors)[0]
        values = double.identity.member_values(points, double.identity.fold(code), anchors)[:, 0].T
        if golden.mono:
            order = golden.debug_neighbours.long()
            weights, values = weights.gather(1, order), values.gather(1, order)
        assert worst(weights, golden.debug_weights_f64) < DOUBLE
        assert worst(values, golden.debug_member_sdf_f64) < DOUBLE

    def test_variants_of_the_official_evaluation_mode(self, golden, double) -> None:
        if golden.mono:
            pytest.skip("NPHM only")
        # The raw official output is the formula but for the last point of the call, which it overwrites.
        assert worst(golden.sdf_can_evalraw_f32[:-1], golden.sdf_can_f64[:-1]) < SDF
        points = golden.points[None, -400:].double()
        code = golden.lat_id[None].double()
        anchors = double.identity.anchors(code)
        weights = double.identity.blend(points, anchors)[0]
        values = double.identity.member_values(points, double.identity.fold(code), anchors)[:, 0].T.clone()
        values[:, -1] = 1.0
        assert worst((weights * values).sum(1), golden.sdf_can_bg1_f64[-400:]) < DOUBLE

    def test_gradient_by_autograd(self, golden, double) -> None:
        index = golden.grad_idx.long()[:60]
        x = golden.canonical_points[index].double().requires_grad_()
        (gradient,) = torch.autograd.grad(double.sdf(x, golden.lat_id).sum(), x)
        assert worst(gradient, golden.grad_can_f64[:60]) < 1e-11
        x = golden.points[index].double().requires_grad_()
        (gradient,) = torch.autograd.grad(double.sdf(x, golden.lat_id, golden.lat_expr[0]).sum(), x)
        assert worst(gradient, golden.grad_bwd_f64[:60]) < 1e-11


class TestField:
    """The compiled field, with its default routing."""

    def test_canonical(self, golden, field) -> None:
        assert worst(field.anchors, golden.anchors_pred_f64) < 1e-6
        points = golden.canonical_points
        outliers(golden, field.query(points)[0], golden.sdf_can_f64, SDF)
        outliers(golden, golden.model.bind(golden.lat_id_b).query(points)[0], golden.sdf_can_b_f64, SDF)

    def test_exact_routing(self, golden) -> None:
        exact = golden.model.bind(golden.lat_id, cull=0.0)
        outliers(golden, exact.query(golden.canonical_points)[0], golden.sdf_can_f64, SDF)

    def test_deformation(self, golden, field) -> None:
        moved = field.offsets(golden.points, golden.lat_expr)
        assert worst(moved[..., :3], golden.offsets_f64) < OFFSETS
        if golden.mono:
            assert worst(moved[..., 3:], golden.hyper_f64) < HYPER

    def test_backward(self, golden, field) -> None:
        outliers(golden, field.query(golden.points, golden.lat_expr), golden.sdf_bwd_f64, BACKWARD)

    def test_gradients(self, golden, field) -> None:
        index = golden.grad_idx.long()
        assert worst(field.gradient(golden.canonical_points[index])[0], golden.grad_can_f64) < GRADIENT
        gradient = field.gradient(golden.points[index], golden.lat_expr[:1])[0]
        assert worst(gradient, golden.grad_bwd_f64) < GRADIENT

    def test_grid(self, golden, field) -> None:
        frames = 3 if golden.folder.name.endswith("tiny") else 1
        volume = field.grid(golden.lat_expr[:frames], 32, golden.grid_bbox.numpy())
        outliers(golden, volume, golden.grid_bwd_f32[:frames], BACKWARD)
        outliers(golden, volume[0], golden.grid_bwd_f64_e0, BACKWARD)
        if not golden.mono:
            canonical = field.grid(None, 32, golden.grid_bbox.numpy())[0]
            assert worst(canonical, golden.grid_can_f32) < BACKWARD

    def test_mesh(self, golden, field) -> None:
        if golden.mono:
            pytest.skip("no mesh in this set")
        (mesh,) = field.extract(golden.lat_expr[:1], 32, golden.grid_bbox.numpy(), units="head")
        expected = golden.mc_vertices_e0.numpy()
        # Every official vertex lies on an edge of the grid, where our mesh has the same one.
        axes = lattice_axes(32, golden.grid_bbox.numpy())
        cell = min(float(a[1] - a[0]) for a in axes)
        assert cKDTree(mesh.vertices).query(expected)[0].max() < 1e-3 * cell
        assert abs(len(mesh.vertices) - len(expected)) <= 0.01 * len(expected)

    def test_jacobian_and_forward_mesh(self, golden, field) -> None:
        if golden.mono:
            pytest.skip("NPHM only")
        jacobian = field.jacobian(golden.points[golden.grad_idx.long()], golden.lat_expr[:1])[0]
        assert worst(jacobian + torch.eye(3), golden.jac_posed_f64) < JACOBIAN
        moved = golden.deform_mesh_in + field.offsets(golden.deform_mesh_in, golden.lat_expr[0])[0]
        assert worst(moved, golden.deform_mesh_out_e0_f32) < OFFSETS

    def test_roots(self, golden, field) -> None:
        if golden.mono:
            pytest.skip("NPHM only")
        valid = golden.broyden_valid_f64.bool()
        info = field.tracked(
            golden.lat_expr[:1], vertices=golden.broyden_obs, faces=np.zeros((0, 3), np.int32)
        )
        positions, faces = info.vertices, info.faces
        assert valid.all() and info.converged.all() and faces.shape == (0, 3)
        assert info.residual.max() <= 2e-6
        assert worst(torch.from_numpy(positions[0]), golden.broyden_xc_f64) < ROOT
        # The residual that it reports is the residual.
        moved = golden.model.offsets(torch.from_numpy(positions[0]), golden.lat_id, golden.lat_expr[0])
        again = torch.linalg.vector_norm(torch.from_numpy(positions[0]) + moved - golden.broyden_obs, dim=-1)
        assert again.max() <= 2.5e-6
