"""Derivatives of posed distances against autograd through the plain networks."""

import numpy as np
import pytest
import torch

from facetalk.errors import InputError
from facetalk.fitting import DifferentiableField
from facetalk.nphm import NPHM, load_checkpoint


def _pair(name: str, direction: str) -> tuple[NPHM, DifferentiableField, torch.Tensor]:
    from golden import GOLDEN

    family = "mononphm" if name.startswith("mono") else "nphm"
    model = load_checkpoint(GOLDEN / name, family=family, direction=direction)
    code = 0.2 * torch.randn(model.identity_dim, generator=torch.Generator().manual_seed(1))
    return model, DifferentiableField(model, code), code


@pytest.mark.parametrize(
    ("name", "direction"),
    [("nphm_tiny", "backward"), ("nphm_tiny", "forward"), ("mononphm_tiny", "backward")],
)
@pytest.mark.parametrize("count", [1, 300])
def test_as_autograd_through_the_networks(name, direction, count):
    model, field, code = _pair(name, direction)
    generator = torch.Generator().manual_seed(2)
    expression = 0.1 * torch.randn(model.expression_dim, generator=generator)
    points = 0.3 * torch.randn(count, 3, generator=generator)
    x, e = points.clone().requires_grad_(), expression.clone().requires_grad_()
    wanted = model.sdf(x, code, e)
    slope = torch.randn(count, generator=generator)
    by_point, by_expression = torch.autograd.grad(wanted, (x, e), slope)
    found = field.slopes(points, expression)
    assert (found.value - wanted).abs().max() < 1e-5
    scale = float(by_point.abs().max())
    assert (slope[:, None] * found.by_point - by_point).abs().max() < 1e-4 * scale
    total = slope @ found.by_expression
    assert (total - by_expression).abs().max() < 1e-4 * float(by_expression.abs().max())
    # And the same through autograd's own interface.
    x, e = points.clone().requires_grad_(), expression.clone().requires_grad_()
    again = torch.autograd.grad(field.distance(x, e), (x, e), slope)
    assert torch.allclose(again[0], slope[:, None] * found.by_point)
    assert torch.allclose(again[1], total)


def test_no_points_and_no_deformation(make_model):
    _, field, _ = _pair("nphm_tiny", "backward")
    none = field.slopes(torch.zeros(0, 3), torch.zeros(field.expression_dim))
    assert none.value.shape == (0,) and none.by_expression.shape == (0, field.expression_dim)
    model, _, code = _pair("nphm_tiny", "backward")
    with pytest.raises(InputError, match="no deformation"):
        DifferentiableField(NPHM(model.identity, None), np.asarray(code))
