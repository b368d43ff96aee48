"""Weights in the layouts of the field's kernels: the C library's C++ packs them as Python does."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from field_host import random_layers
from host_kernels import Emulated

from facetalk.ops.cuda.field_pack import Precision, pack_biases, pack_network

PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "bfloat16")


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    ("hidden", "skip", "coords", "staged"),
    [((24, 24), 1, 3, False), ((40, 19, 70), None, 5, False), ((33, 300, 280), 2, 3, False),
     ((40, 72, 40), 2, 3, True), ((128, 300, 520, 64), None, 3, True)],
)  # fmt: skip
def test_both_packers_make_the_same(
    emulated: Callable[[str], Emulated],
    precision: Precision,
    hidden: tuple[int, ...],
    skip: int | None,
    coords: int,
    staged: bool,
) -> None:
    """The table of layers and every weight at its place, to rounding; of all kinds of layouts."""
    rng, sets = np.random.default_rng(len(hidden)), 3
    layers, outputs = random_layers(rng, sets, coords, list(hidden), 1, skip)
    biases = [torch.from_numpy(rng.normal(size=(sets, n)).astype(np.float32)) for n in outputs]
    library = emulated("pack")
    core = SimpleNamespace(
        chunk_tiles=library.value("pack_chunk_tiles"),
        wgmma_columns=lambda n: library.value("pack_wgmma_columns", n),
        Mlp=lambda **settings: SimpleNamespace(**settings),
    )
    staged = staged and precision != "float32"
    kept = 1 if staged else sets
    told = [tuple(None if part is None else part[:kept] for part in pair) for pair in layers]
    python = pack_network(core, told, precision, torch.device("cpu"), staged=staged)  # type: ignore[arg-type]
    rows = pack_biases(biases, torch.device("cpu")).numpy()

    numbers = np.zeros(4 + 5 * len(layers), np.int64)
    coord_weights, packed = (
        np.zeros(python.coord_weights.shape, np.float32),
        np.zeros(python.weights.numel(), np.uint16),
    )
    if precision == "float32":
        packed = packed.astype(np.uint32)
    cpp_rows = np.zeros_like(rows)
    parts = [part for pair, bias in zip(layers, biases, strict=True) for part in (*pair, bias)]
    values = np.concatenate([part.numpy().ravel() for part in parts if part is not None])
    reads = np.array([pair[1] is not None for pair in layers], np.int64)
    library.call(
        "pack_layers", len(layers), sets, coords, np.array(outputs, np.int64), reads, values, 16,
        PRECISIONS.index(precision), staged, numbers, coord_weights, coord_weights.size,
        packed, packed.nbytes, cpp_rows, cpp_rows.size,
    )  # fmt: skip

    mlp = python.mlp
    assert numbers[:4].tolist() == [mlp.chunks, mlp.bias_count, mlp.coord_count, mlp.weight_count]
    assert [tuple(row) for row in numbers[4:].reshape(-1, 5).tolist()] == mlp.layers
    np.testing.assert_allclose(coord_weights, python.coord_weights, rtol=1e-6)
    np.testing.assert_allclose(cpp_rows, rows, rtol=1e-6)
    found = torch.from_numpy(packed).view(getattr(torch, precision)).reshape(python.weights.shape)
    assert found.abs().max() > 0.1
    rtol = {"float32": 1e-6, "float16": 2e-3, "bfloat16": 1e-2}[
        precision
    ]  # the last layer's is rounded twice
    torch.testing.assert_close(found, python.weights, rtol=rtol, atol=1e-6)
