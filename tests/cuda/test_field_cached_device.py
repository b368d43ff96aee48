"""Surfaces by the cached identity on a GPU. Skipped where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_field_cached import QUICK, TOLERANCE_MM, apart_mm, bound, found, smooth_head

from facetalk.ops.cuda import field as cuda_field
from facetalk.ops.cuda.field import CudaField
from facetalk.ops.field.cpu import PackedField

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")

ROUNDING_MM = {"float32": 0.05, "float16": 1.0}
"""What rounding of the networks does at these heads, whose fields are far from distances."""


@pytest.fixture(scope="module", params=ROUNDING_MM)
def heads(request: pytest.FixtureRequest) -> Iterator[SimpleNamespace]:
    with pytest.MonkeyPatch.context() as patch:
        for (module, name), value in QUICK.items():
            patch.setattr(module, name, value)
        source, biases = smooth_head()
        packed = PackedField(source)
        there = CudaField(source, precision=request.param)
        yield SimpleNamespace(
            cuda=bound(there, packed),
            cpu=bound(packed, packed),
            biases=biases,
            moved=[b.to(there.device) for b in biases],
            rounding=ROUNDING_MM[request.param],
        )


@pytest.mark.parametrize("tolerance", [0.0, TOLERANCE_MM])
def test_frames_keep_to_the_tolerance(heads: SimpleNamespace, tolerance: float) -> None:
    options = {"tolerance_mm": tolerance, "cache": True}
    ours = found(heads.cuda, heads.moved, **options)
    dense = found(heads.cuda, heads.moved, exact=True)
    theirs = found(heads.cpu, heads.biases, **options)
    for surface, whole, wanted in zip(ours, dense, theirs, strict=True):
        assert surface.vertices.is_cuda and surface.faces.is_cuda
        assert surface.info.method == "cache" and surface.info.tolerance_mm == tolerance
        assert surface.info.cache_error_mm == pytest.approx(wanted.info.cache_error_mm, rel=0.05)
        if tolerance == 0.0 and surface.info.uncertified == 0 and heads.rounding == ROUNDING_MM["float32"]:
            assert torch.equal(surface.vertices, whole.vertices)
            assert torch.equal(surface.faces, whole.faces)
        assert np.quantile(apart_mm(surface, whole), 0.99) <= tolerance + heads.rounding
        assert np.quantile(apart_mm(surface, wanted), 0.99) <= heads.rounding


def test_chunks_change_no_frame(heads: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"tolerance_mm": TOLERANCE_MM, "cache": True}
    whole = found(heads.cuda, heads.moved, **options)
    monkeypatch.setattr(cuda_field, "CHUNK_FRAMES", 2)
    for part, one in zip(found(heads.cuda, heads.moved, **options), whole, strict=True):
        assert torch.equal(part.vertices, one.vertices) and torch.equal(part.faces, one.faces)
        assert part.info == one.info
