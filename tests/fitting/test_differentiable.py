"""Derivatives of posed distances against autograd through the plain networks."""

import numpy as np
import pytest
import torch
from golden import GOLDEN

from facetalk.errors import InputError
from facetalk.fitting import DifferentiableField
from facetalk.nphm import NPHM, load_checkpoint


def _pair(name: str, direction: str) -> tuple[NPHM, DifferentiableField, torch.Tensor]:
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


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_how_neutral_points_move_with_the_code(direction):
    """Against the tracker, and against differences of it."""
    _, field, code = _pair("nphm_tiny", direction)
    model = load_checkpoint(GOLDEN / "nphm_tiny", direction=direction)
    generator = torch.Generator().manual_seed(4)
    points = 0.25 * torch.randn(40, 3, generator=generator)
    expression = 0.1 * torch.randn(model.expression_dim, generator=generator)
    found, by_code = field.carried(points, expression)
    assert by_code.shape == (40, 3, model.expression_dim)
    turned = torch.eye(model.expression_dim)[:3] * 0.01
    rows = torch.cat([expression[None], expression + turned, expression - turned])
    nothing = np.zeros((0, 3), np.int32)
    tracked = model.bind(code).track(rows, vertices=points, faces=nothing, tolerance=2e-6)[0]
    assert np.abs(found.numpy() - tracked[0]).max() < 1e-5
    slopes = (tracked[1:4] - tracked[4:7]) / 0.02
    assert np.abs(by_code[:, :, :3].permute(2, 0, 1).numpy() - slopes).max() < 2e-3


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_what_codes_do_to_a_face(direction):
    """The metric counts millimetres of skin, landmarks and lips, and the lips' gap is what is tracked."""
    from facetalk.fitting.space import code_space
    from facetalk.models.heads import mean_landmarks
    from facetalk.nphm.plain_head import PlainHead

    head = PlainHead(load_checkpoint(GOLDEN / "nphm_tiny", direction=direction), mean_landmarks())
    person = head.default_identity
    mean = np.full(head.expression_dim, 0.05, np.float32)
    space = code_space(head, [person], mean)
    assert space.names is None and space.head == head.fingerprint
    assert np.allclose(space.metric, space.metric.T) and np.linalg.eigvalsh(space.metric).min() > -1e-6
    field = head.field(person)
    marks = head.neutral_landmarks(field)
    assert np.abs(np.asarray(field.query(marks)[0])).max() < 0.05
    steep = np.linalg.norm(space.gap_per_unit_mm)
    change = (0.05 * space.gap_per_unit_mm / steep).astype(np.float32)
    (posed,) = head.track(field, np.stack([mean, mean + change]), marks)
    gap = 250 * (posed[:, [61, 62, 63], 1] - posed[:, [67, 66, 65], 1]).mean(1)
    assert abs(space.gap_mm + mean @ space.gap_per_unit_mm - gap[0]) < 0.02
    assert abs(gap[1] - gap[0] - 0.05 * steep) < 0.15 * 0.05 * steep
