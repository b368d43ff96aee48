"""Fields of the C library through ctypes: any build of it, on the CPU and on a GPU."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, byref, c_char_p, c_float, c_int32, c_int64, c_size_t, c_void_p
from os import PathLike
from typing import Any

import numpy as np

from facetalk.arrays import Float32, Int32

INVALID, BAD_FILE, NO_MEMORY, UNSUPPORTED, WRONG_STATE, DEVICE_FAILED = 1, 2, 3, 4, 5, 8
CPU, CUDA = 0, 1
FLOAT32, FLOAT16, BFLOAT16 = 0, 1, 2


class Options(ctypes.Structure):
    """facetalk_options."""

    _fields_ = (
        ("struct_size", c_size_t),
        ("allocate", c_void_p),
        ("release", c_void_p),
        ("memory_user", c_void_p),
        ("log", c_void_p),
        ("log_user", c_void_p),
        ("device", c_int32),
        ("device_index", c_int32),
    )


class Refused(RuntimeError):
    """What a call returned besides 0."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Library:
    """A library by its path."""

    def __init__(self, path: str | PathLike[str]) -> None:
        self.c = ctypes.CDLL(str(path))
        self.c.facetalk_last_error.restype = c_char_p
        for name in ("field", "mesh"):
            getattr(self.c, f"facetalk_{name}_free").argtypes = [c_void_p]
        for name, kind in (("vertex", c_float), ("face", c_int32)):
            count = getattr(self.c, f"facetalk_mesh_{name}_count")
            count.restype, count.argtypes = c_int64, [c_void_p]
            data = getattr(self.c, "facetalk_mesh_vertices" if name == "vertex" else "facetalk_mesh_faces")
            data.restype, data.argtypes = POINTER(kind), [c_void_p]

    def check(self, status: int) -> None:
        """Raise what a status stands for."""
        if status != 0:
            raise Refused(status, self.c.facetalk_last_error().decode())

    def field(
        self, folder: str | PathLike[str], device: int = CPU, index: int = 0, options: Options | None = None
    ) -> Field:
        """Read a head."""
        asked = options or Options()
        asked.struct_size, asked.device, asked.device_index = ctypes.sizeof(Options), device, index
        handle = c_void_p()
        status = self.c.facetalk_field_load_with(str(folder).encode(), byref(asked), byref(handle))
        assert bool(handle) == (status == 0)
        self.check(status)
        return Field(self, handle)


class Field:
    """A facetalk_field; freed by `free` or with the object."""

    def __init__(self, library: Library, handle: c_void_p) -> None:
        self.library, self.handle = library, handle

    def __del__(self) -> None:
        self.free()

    def free(self) -> None:
        """Free the handle."""
        handle, self.handle = self.handle, c_void_p()
        self.library.c.facetalk_field_free(handle)

    def bind(self, identity: Float32 | None = None, precision: int | None = None) -> Field:
        """Bind an identity."""
        if precision is not None:
            self.library.check(self.library.c.facetalk_field_set_precision(self.handle, c_int32(precision)))
        self.library.check(self.library.c.facetalk_field_bind(self.handle, *_code(identity)))
        return self

    def extract(
        self, code: Float32 | None, resolution: int, box: Sequence[Any], tolerance: float = 0.0
    ) -> tuple[Float32, Int32]:
        """Vertices and faces of an expression code's surface."""
        mesh, low_high = c_void_p(), np.asarray(box, np.float32).reshape(6)
        arguments = *_code(code), c_int32(resolution), c_void_p(low_high.ctypes.data), c_float(tolerance)
        status = self.library.c.facetalk_field_extract(self.handle, *arguments, byref(mesh))
        assert bool(mesh) == (status == 0)
        self.library.check(status)
        c = self.library.c
        vertices = np.ctypeslib.as_array(
            c.facetalk_mesh_vertices(mesh), (c.facetalk_mesh_vertex_count(mesh), 3)
        ).copy()
        faces = np.ctypeslib.as_array(
            c.facetalk_mesh_faces(mesh), (c.facetalk_mesh_face_count(mesh), 3)
        ).copy()
        c.facetalk_mesh_free(mesh)
        return vertices, faces

    def query(self, code: Float32 | None, points: Float32) -> Float32:
        """Signed distances (N,) at points (N, 3), metres."""
        out = np.full(len(points), np.nan, np.float32)
        data = c_void_p(points.ctypes.data), c_int64(len(points)), c_void_p(out.ctypes.data)
        self.library.check(self.library.c.facetalk_field_query(self.handle, *_code(code), *data))
        return out


def _code(values: Float32 | None) -> tuple[c_void_p | None, c_int32]:
    return (None, c_int32(0)) if values is None else (c_void_p(values.ctypes.data), c_int32(len(values)))
