"""Arrays across the border to the compiled core: misaligned, unshareable, of impossible sizes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from random_heads import random_head

from facetalk import ops
from facetalk.ops._extension import load
from facetalk.ops.field.cpu import PackedField
from facetalk.ops.field.surface import CanonicalCache
from facetalk.ops.raster import draw

RNG = np.random.default_rng(0)
VOLUME = RNG.standard_normal((6, 5, 70)).astype(np.float32)
POINTS = RNG.uniform(-0.8, 0.8, (40, 3)).astype(np.float32)
FACES = RNG.integers(0, 40, (30, 3)).astype(np.int32)
SEQUENCE = RNG.standard_normal((2, 3, 20, 8)).astype(np.float32)
SOURCE, BIASES, _ = random_head(0)
FIELD = PackedField(SOURCE)
BIASES_ = [bias.numpy() for bias in BIASES]
TABLE = np.zeros((2, 2, 2), np.int32)
DATA = RNG.standard_normal((1, 7, 7, 7)).astype(np.float32)


def shifted(array: np.ndarray) -> np.ndarray:
    """The same numbers, one byte further on."""
    raw = np.empty(array.nbytes + 1, np.uint8)
    moved = raw[1:].view(array.dtype).reshape(array.shape)
    moved[...] = array
    assert not moved.flags.aligned or not moved.size
    return moved


def cached(wrap: Callable[[Any], Any]) -> Any:
    cache = CanonicalCache(
        origin=(-1, -1, -1), spacing=0.25, table=wrap(TABLE), children=wrap(np.zeros((0, 8), np.int32)),
        data=wrap(DATA), error=wrap(np.zeros(1, np.float32)), far_origin=(-1, -1, -1), far_spacing=1.0,
        far=wrap(np.ones((2, 2, 2), np.float32)),
    )  # fmt: skip
    return cache.look_up(wrap(POINTS))


def packed(wrap: Callable[[Any], Any]) -> Any:
    core = FIELD.core
    return core.query(wrap(POINTS), [wrap(bias) for bias in BIASES_], sdf=True)["sdf"]


def pictured(wrap: Callable[[Any], Any]) -> Any:
    return draw(
        wrap(POINTS), wrap(POINTS), wrap(np.abs(POINTS)), wrap(FACES), np.zeros(30, np.uint8),
        background=np.zeros((20, 20, 3), np.uint8), palette=wrap(np.full((1, 4), 0.5, np.float32)),
        lights=wrap(np.ones((1, 6), np.float32)), ambient=wrap(np.ones((2, 3), np.float32)),
        camera=wrap(np.eye(3, 4, dtype=np.float32) - [0, 0, 0, 3] * np.float32([[0], [0], [1]])), focal=20.0,
    )  # fmt: skip


OPERATIONS: dict[str, Callable[[Callable[[Any], Any]], Any]] = {
    "marching_cubes": lambda wrap: ops.marching_cubes(wrap(VOLUME), normals=True),
    "attention": lambda wrap: ops.masked_cross_attention(
        wrap(SEQUENCE), wrap(SEQUENCE), wrap(SEQUENCE), window=(2, 1)
    ),
    "attention, wide": lambda wrap: ops.masked_cross_attention(
        wrap(SEQUENCE), wrap(SEQUENCE), wrap(SEQUENCE), window=(None, None)
    ),
    "normals": lambda wrap: ops.vertex_normals(wrap(POINTS), wrap(FACES)),
    "query": lambda wrap: FIELD.query(
        wrap(POINTS), BIASES, outputs=("sdf", "gradient", "offsets", "jacobian")
    ).values(),
    "invert": lambda wrap: FIELD.invert(wrap(POINTS), BIASES, starts=wrap(POINTS)),
    "the core's query": packed,
    "cache": cached,
    "raster": pictured,
}


def flat(result: Any) -> list[np.ndarray]:
    if isinstance(result, (tuple, list, type({}.values()))):
        return [array for part in result for array in flat(part)]
    return [np.asarray(np.from_dlpack(result) if not isinstance(result, np.ndarray) else result)]


@pytest.mark.parametrize("name", OPERATIONS)
def test_misaligned_arrays_give_the_same(name: str) -> None:
    operation = OPERATIONS[name]
    for one, other in zip(flat(operation(lambda a: a)), flat(operation(shifted)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_the_core_gets_is_aligned() -> None:
    """Below the Python faces, where nothing else could have copied."""
    core = load()
    expected = core.vertex_normals(POINTS[None], FACES)
    np.testing.assert_array_equal(
        np.from_dlpack(core.vertex_normals(shifted(POINTS[None]), shifted(FACES))), np.from_dlpack(expected)
    )


def test_tensors_that_are_negated_lazily_keep_their_sign() -> None:
    turned = torch.randn(1, 1, 6, 3, dtype=torch.complex64).conj().imag
    lazy = torch._neg_view(turned.resolve_neg().contiguous())
    plain = lazy.resolve_neg()
    assert turned.is_neg() and lazy.is_neg() and lazy.is_contiguous()
    with torch.inference_mode():
        calls: list[Callable[[torch.Tensor], Any]] = [
            lambda tensor: ops.masked_cross_attention(tensor, tensor, tensor, scale=1.0),
            lambda tensor: ops.marching_cubes(tensor[0].expand(2, -1, -1), 0.3)[0],
            lambda tensor: FIELD.query(tensor[0, 0])["sdf"],
        ]
        for call in calls:
            np.testing.assert_array_equal(call(lazy), call(plain))


UNSHAREABLE: dict[str, Callable[[], Any]] = {
    "requires grad": lambda: torch.zeros(1, 4, 3, requires_grad=True),
    "sparse": lambda: torch.zeros(1, 4, 3).to_sparse(),
    "meta": lambda: torch.zeros(1, 4, 3, device="meta"),
    "conjugate": lambda: torch.zeros(1, 4, 3, dtype=torch.complex64).conj(),
    "quantised": lambda: torch.quantize_per_tensor(torch.zeros(1, 4, 3), 1.0, 0, torch.quint8),
    "objects": lambda: np.zeros((1, 4, 3), object),
    "text": lambda: np.zeros((1, 4, 3), "U3"),
    "nothing": lambda: np.zeros((1, 4, 3), "V0"),
    "dates": lambda: np.zeros((1, 4, 3), "M8[s]"),
    "records": lambda: np.zeros((1, 4, 3), [("a", "f4")]),
    "a released view": lambda: _released(),
    "None": lambda: None,
    "nine axes": lambda: np.zeros((1,) * 9, np.float32),
}


def _released() -> memoryview:
    view = memoryview(bytearray(48))
    view.release()
    return view


@pytest.mark.parametrize("name", UNSHAREABLE)
@pytest.mark.parametrize("below", [False, True])
def test_what_cannot_be_shared_is_a_type_or_a_value_error(name: str, below: bool) -> None:
    array = UNSHAREABLE[name]()
    faces = np.zeros((1, 3), np.int32)
    if name == "requires grad" and not below:
        assert ops.vertex_normals(array, torch.from_numpy(faces)).shape == (1, 4, 3)  # values alone matter
        return
    calls: list[Callable[[], Any]] = [
        lambda: ops.vertex_normals(array, faces),
        lambda: ops.marching_cubes(array),
    ]
    calls += [lambda: ops.masked_cross_attention(array, array, array), lambda: FIELD.query(array)]
    if below:
        core = load()
        calls = [
            lambda: core.vertex_normals(array, faces),
            lambda: core.masked_cross_attention(*[array] * 3, 0, 0, 1.0),
        ]
    for call in calls:
        with pytest.raises((TypeError, ValueError)) as caught:
            call()
        assert "\n" not in str(caught.value)


class Exporter:
    """An array of somebody's own, with a shape of somebody's own."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __dlpack__(self, **_: object) -> object:
        raise self.error

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0


@pytest.mark.parametrize(
    "error", [BufferError("no\nway"), RuntimeError("no"), AttributeError("x"), OSError(5, "x")]
)
def test_errors_of_exporters_name_the_argument(error: Exception) -> None:
    with pytest.raises(TypeError, match="vertices: expected an array that can be shared"):
        load().vertex_normals(Exporter(error), np.zeros((1, 3), np.int32))


def test_control_c_of_an_exporter_is_its_own() -> None:
    with pytest.raises(KeyboardInterrupt):
        load().vertex_normals(Exporter(KeyboardInterrupt()), np.zeros((1, 3), np.int32))


def test_results_larger_than_any_memory() -> None:
    """The sizes of empty arrays can be anything, and their products wrap around to nothing."""
    core = load()
    side = 2**22
    query, value = np.zeros((side, side, 0), np.float32), np.zeros((side, 0, side), np.float32)
    with pytest.raises(MemoryError):
        core.masked_cross_attention(query, np.zeros((side, 0, 0), np.float32), value, -1, -1, 1.0)
    with pytest.raises(MemoryError):
        core.masked_cross_attention(
            query[: 2**10],
            np.zeros((2**10, 0, 0), np.float32),
            np.zeros((2**10, 0, 2**31), np.float32),
            -1,
            -1,
            1.0,
        )


@pytest.mark.parametrize("neighbours", [-3, -1, 2**31 - 1, -(2**31)])
def test_neighbours_do_not_eat_the_scratch_memory(neighbours: int) -> None:
    with pytest.raises(ValueError, match="neighbours"):
        PackedField(dataclasses.replace(SOURCE, neighbours=neighbours))
