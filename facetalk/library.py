"""The C library of the package (``csrc/facetalk.h``) as ctypes has it: where it is, its functions and errors.

:mod:`facetalk.native` has handles over it. Nothing here needs NumPy.
"""

from __future__ import annotations

import ctypes
import functools
from ctypes import POINTER, c_char_p, c_double, c_int32, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import Any

from facetalk.errors import ExtensionError, InputError

__all__ = ["PROGRESS", "FramePointers", "StreamOptions", "check", "get_include", "get_library", "library"]

_PACKAGE = Path(__file__).resolve().parent
_INTERNAL, _NO_MEMORY = 6, 3


def get_include() -> str:
    """Folder with ``facetalk.h``, for a compiler's ``-I``.

    Raises:
        ExtensionError: this installation has none.
    """
    return str(_found("include", "facetalk.h").parent)


def get_library() -> str:
    """Path of ``libfacetalk.so``.

    Raises:
        ExtensionError: this installation has none.
    """
    return str(_found("lib", "libfacetalk.so"))


def _found(folder: str, name: str) -> Path:
    path = _PACKAGE / folder / name
    if path.is_file():
        return path
    # Python started in a checkout finds its package before the installed one, which has the library.
    from importlib.metadata import distributions  # takes as long as NumPy, and is seldom needed

    for distribution in distributions(name="facetalk"):
        for file in distribution.files or ():
            installed = Path(str(file.locate()))
            if file.match(f"facetalk/{folder}/{name}") and installed.is_file():
                return installed
    raise ExtensionError(f"{path} is missing: this installation has no C library; build the package again")


class StreamOptions(ctypes.Structure):
    """``facetalk_stream_options``."""

    _fields_ = (
        ("struct_size", c_size_t),
        ("sample_rate", c_int32),
        ("steps", c_int32),
        ("look_ahead_s", c_double),
        ("guidance", c_double),
        ("seed", c_uint64),
    )


class StyleOptions(ctypes.Structure):
    """``facetalk_style``."""

    _fields_ = (
        ("struct_size", c_size_t),
        ("intensity", c_double),
        ("smile", c_double),
        ("brow_activity", c_double),
        ("blink_rate", c_double),
        ("gaze_steadiness", c_double),
        ("head_motion", c_double),
        ("jaw", c_double),
        ("lips", c_double),
    )


class FramePointers(ctypes.Structure):
    """``facetalk_frames``."""

    _fields_ = (
        ("struct_size", c_size_t),
        ("curves", c_void_p),
        ("tongue", c_void_p),
        ("contacts", c_void_p),
        ("pose", c_void_p),
    )


PROGRESS = ctypes.CFUNCTYPE(c_int32, c_void_p, c_int64, c_int64)
"""``facetalk_progress``."""

_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "last_error": (c_char_p, []),
    "set_threads": (c_int32, [c_int32]),
    "model_load": (c_int32, [c_char_p, POINTER(c_void_p)]),
    "model_use_whisper": (c_int32, [c_void_p, c_char_p]),
    "model_free": (None, [c_void_p]),
    "model_fps": (c_double, [c_void_p]),
    "model_curve_count": (c_int32, [c_void_p]),
    "model_curve_name": (c_char_p, [c_void_p, c_int32]),
    "model_tongue_count": (c_int32, [c_void_p]),
    "model_tongue_name": (c_char_p, [c_void_p, c_int32]),
    "model_tongue_weights": (c_int32, [c_void_p, c_void_p, c_void_p, c_int64, c_void_p]),
    "model_feature_count": (c_int32, [c_void_p]),
    "model_features": (c_int32, [c_void_p, c_void_p, c_size_t, c_double, c_void_p, POINTER(c_int64)]),
    "frame_noise": (c_int32, [c_uint64, c_uint32, c_int64, c_int64, c_int32, c_void_p]),
    "stream_options_default": (None, [POINTER(StreamOptions)]),
    "style_default": (None, [POINTER(StyleOptions), c_size_t]),
    "stream_set_style": (c_int32, [c_void_p, POINTER(StyleOptions)]),
    "stream_create": (c_int32, [c_void_p, POINTER(StreamOptions), POINTER(c_void_p)]),
    "stream_push": (c_int32, [c_void_p, c_void_p, c_size_t]),
    "stream_finish": (c_int32, [c_void_p]),
    "stream_on_progress": (c_int32, [c_void_p, PROGRESS, c_void_p]),
    "stream_steps": (c_int32, [c_void_p]),
    "stream_guidance": (c_double, [c_void_p]),
    "stream_ready": (c_int64, [c_void_p]),
    "stream_pull": (c_int32, [c_void_p, c_void_p, c_int64, POINTER(c_int64)]),
    "stream_pull_frames": (c_int32, [c_void_p, POINTER(FramePointers), c_int64, POINTER(c_int64)]),
    "stream_reset": (c_int32, [c_void_p]),
    "stream_latency_s": (c_double, [c_void_p]),
    "stream_free": (None, [c_void_p]),
    "rig_create": (c_int32, [c_void_p, c_void_p, c_int32, POINTER(c_void_p)]),
    "rig_vertex_count": (c_int64, [c_void_p]),
    "rig_face_count": (c_int64, [c_void_p]),
    "rig_faces": (c_void_p, [c_void_p]),
    "rig_pose": (c_int32, [c_void_p, c_void_p, c_void_p, c_void_p]),
    "rig_tongue_count": (c_int32, [c_void_p]),
    "rig_pose_with_tongue": (c_int32, [c_void_p, c_void_p, c_void_p, c_void_p, c_void_p]),
    "rig_free": (None, [c_void_p]),
}


@functools.cache
def library() -> ctypes.CDLL:
    """The library, with the types of its functions.

    Raises:
        ExtensionError: this installation has none, or it cannot be loaded.
    """
    try:
        loaded = ctypes.CDLL(get_library())
    except OSError as error:
        raise ExtensionError(f"the C library cannot be loaded: {error}") from error
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(loaded, f"facetalk_{name}")
        function.restype, function.argtypes = result, arguments
    return loaded


def check(status: int) -> None:
    """Raise what a call's status stands for."""
    if status == 0:
        return
    message = library().facetalk_last_error().decode("utf-8", "replace")
    if status == _NO_MEMORY:
        raise MemoryError(message)
    raise ExtensionError(message) if status == _INTERNAL else InputError(message)
