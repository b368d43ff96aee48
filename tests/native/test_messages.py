"""What the C library says of numbers and names that it refuses."""

from __future__ import annotations

import ctypes
from ctypes import byref, c_char_p, c_double, c_int64, c_size_t, c_void_p

import numpy as np
import pytest

from facetalk.library import StreamOptions, StyleOptions, library
from facetalk.native import NativeModel

INVALID, BAD_FILE = 1, 2


def said() -> str:
    return str(library().facetalk_last_error().decode())


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (-0.1, "-0.1"), (60.5, "60.5"), (60.000000001, "60.000000001"), (1e-7 - 1.0, "-0.9999999"),
        (1e6, "1e+06"), (61, "61"), (-1e-300, "-1e-300"), (float("nan"), "nan"), (-float("nan"), "nan"),
        (-float("inf"), "-inf"),
    ],
)  # fmt: skip
def test_a_number_is_told_as_people_write_it(model: NativeModel, number: float, told: str) -> None:
    lib, options, stream, frames = library(), StreamOptions(), c_void_p(), c_int64(0)
    lib.facetalk_stream_options_default(byref(options))
    options.look_ahead_s = number
    assert lib.facetalk_stream_create(model._handle, byref(options), byref(stream)) == INVALID
    assert said() == f"look_ahead_s: expected 0 to 60 seconds, or infinity, got {told}"
    samples = np.zeros(4, np.float32)
    call = model._handle, samples.ctypes.data, c_size_t(4), c_double(number), None, byref(frames)
    assert lib.facetalk_model_features(*call) == INVALID and said().endswith(f"got {told}")


def test_those_of_a_float_have_no_more_digits_than_it_has(model: NativeModel) -> None:
    lib, stream, mesh = library(), c_void_p(), c_void_p()
    assert lib.facetalk_stream_create(model._handle, None, byref(stream)) == 0
    style = StyleOptions(ctypes.sizeof(StyleOptions), 2.1, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0)
    assert lib.facetalk_stream_set_style(stream, byref(style)) == INVALID
    assert said() == "intensity: expected 0 to 2, got 2.1"
    lib.facetalk_stream_free(stream)
    rig = c_void_p()
    code = np.array([1000.1], np.float32)
    assert lib.facetalk_rig_create(model._handle, code.ctypes.data, 1, byref(rig)) == INVALID
    assert said() == "identity: expected values up to 1000, got 1000.1"
    assert not rig and not mesh


def test_a_long_name_is_cut_between_letters() -> None:
    lib, handle = library(), c_void_p()
    load = ctypes.CDLL(lib._name).facetalk_model_load
    load.argtypes = [c_char_p, c_void_p]
    for shift in range(3):
        folder = b"x" * shift + "/\u0434\u043b\u0438\u043d\u043d\u043e\u0435".encode() * 200
        assert load(folder, byref(handle)) == BAD_FILE
        message = lib.facetalk_last_error()
        assert 2_000 < len(message) < 2_048
        assert folder.decode().startswith(message.decode()), "whole letters"
