"""Files of arrays: the same bytes for the same content, whatever the arrays' memory is like."""

from __future__ import annotations

import json

import numpy as np
from safetensors.numpy import load

from facetalk.tensors import tensor_bytes


def test_arrays_are_written_as_they_are_read() -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "turned": rng.normal(size=(4, 3)).astype(np.float32).T,
        "thinned": np.arange(20, dtype=np.uint16)[::3],
        "number": np.array(7, np.int32),
        "none": np.zeros((0, 2), np.float16),
    }
    found = load(tensor_bytes(arrays, {"a": "b"}))
    assert set(found) == set(arrays)
    for name, value in arrays.items():
        assert found[name].dtype == value.dtype and found[name].shape == value.shape
        np.testing.assert_array_equal(found[name], value)


def test_equal_content_has_equal_bytes() -> None:
    told = {str(number): "x" * number for number in range(20)}
    arrays = {"a": np.ones(3, np.float32), "b": np.ones(2, np.uint16)}
    first = tensor_bytes(arrays, told)
    turned = tensor_bytes(dict(reversed(arrays.items())), dict(reversed(told.items())))
    assert first == turned and int.from_bytes(first[:8], "little") % 8 == 0
    bare = tensor_bytes(arrays, {})
    assert "__metadata__" not in json.loads(bare[8 : 8 + int.from_bytes(bare[:8], "little")])
