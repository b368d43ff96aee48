"""`facetalk::field_query`: queries of a bound field under compilers and fake tensors."""

from __future__ import annotations

import gc

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from facetalk.nphm.field_operator import field_query

OUTPUTS = {"sdf": "query", "gradient": "gradient", "offsets": "offsets", "jacobian": "jacobian"}


@pytest.fixture(scope="module")
def field(tiny):
    return tiny.model.bind(tiny.lat_id)


@pytest.mark.parametrize("output", OUTPUTS)
def test_opcheck(tiny, field, output: str) -> None:
    points, codes = tiny.points[:5].float().contiguous(), tiny.lat_expr[:2]
    torch.library.opcheck(field_query, (points, codes, field._name, output))
    torch.library.opcheck(field_query, (points, codes[0], field._name, output))
    if output in ("sdf", "gradient"):
        torch.library.opcheck(field_query, (points, None, field._name, output))


@pytest.mark.parametrize("output", OUTPUTS)
def test_fake_tensors_have_the_shapes_of_real_ones(tiny, field, output: str) -> None:
    points, codes = tiny.points[:5].float(), tiny.lat_expr
    ask = getattr(field, OUTPUTS[output])
    for given in (codes, codes[0], None) if output in ("sdf", "gradient") else (codes, codes[0]):
        real = ask(points, given)
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            fake = ask(mode.from_tensor(points), None if given is None else mode.from_tensor(given))
        assert fake.shape == real.shape and fake.dtype == real.dtype == torch.float32
    assert torch.equal(field_query(points, codes, field._name, output), ask(points, codes))


def test_compiles_in_one_graph(tiny, field) -> None:
    points, codes = tiny.points[:6].float(), tiny.lat_expr[:2]

    def inside(points: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        return (field.query(points * 0.5, codes) < 0.0).float().mean(dim=1)

    compiled = torch.compile(inside, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(points, codes), inside(points, codes))
    assert torch.equal(compiled(points[:3], codes), inside(points[:3], codes))


def test_a_field_that_is_gone_is_said_to_be(tiny) -> None:
    field = tiny.model.bind(tiny.lat_id)
    name = field._name
    del field
    gc.collect()
    with pytest.raises(RuntimeError, match=f"{name} is gone; keep the bound field alive"):
        field_query(tiny.points[:2].float(), None, name, "sdf")
