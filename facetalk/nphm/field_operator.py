"""``facetalk::field_query``: a bound field as an operator, so that compilers trace through its queries.

An operator takes tensors and plain values, so it names its field by a string; the field must be alive
wherever the operator runs. Like the field's queries it is not differentiable: ask for gradients instead.
"""

from __future__ import annotations

import itertools
import weakref
from typing import Any, Protocol

import torch
from torch import Tensor

_numbers = itertools.count()


class _Queried(Protocol):
    device: torch.device
    coords: int

    def evaluate(self, points: Any, expressions: Any, output: str) -> Tensor: ...


_fields: weakref.WeakValueDictionary[str, _Queried] = weakref.WeakValueDictionary()


def register(field: _Queried) -> str:
    """A name for a field, valid as long as the field lives."""
    name = f"field-{next(_numbers)}"
    _fields[name] = field
    return name


def _find(name: str) -> _Queried:
    field = _fields.get(name)
    if field is None:
        raise RuntimeError(f"facetalk::field_query: {name} is gone; keep the bound field alive")
    return field


def is_traced(*arrays: Any) -> bool:
    """Whether a compiler or a fake tensor asks, rather than somebody who has the numbers."""
    return torch.compiler.is_compiling() or any(
        isinstance(array, Tensor) and type(array) not in (Tensor, torch.nn.Parameter) for array in arrays
    )


@torch.library.custom_op("facetalk::field_query", mutates_args=())
def field_query(points: Tensor, expressions: Tensor | None, field: str, output: str) -> Tensor:
    """One output ("sdf", "gradient", "offsets" or "jacobian") of a field at points; see `Field.query`."""
    return _find(field).evaluate(points, expressions, output)


@field_query.register_fake
def _(points: Tensor, expressions: Tensor | None, field: str, output: str) -> Tensor:
    bound = _find(field)
    frames = 1 if expressions is None or expressions.ndim == 1 else expressions.shape[0]
    tails = {
        "sdf": (),
        "gradient": (points.shape[1],),
        "offsets": (bound.coords,),
        "jacobian": (bound.coords, 3),
    }
    shape = (frames, points.shape[0], *tails[output])
    return points.new_empty(shape, dtype=torch.float32, device=bound.device)
