"""Meshes of the C library as arrays."""

from __future__ import annotations

from ctypes import POINTER, c_float, c_int32, c_int64, c_void_p

import numpy as np

from facetalk.library import library


def mesh_of(handle: c_void_p) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and faces of a facetalk_mesh, which is freed."""
    lib = library()
    parts = []
    for name, kind in (("vertex", c_float), ("face", c_int32)):
        count = getattr(lib, f"facetalk_mesh_{name}_count")
        count.restype, count.argtypes = c_int64, [c_void_p]
        data = getattr(lib, f"facetalk_mesh_{'vertices' if name == 'vertex' else 'faces'}")
        data.restype, data.argtypes = POINTER(kind), [c_void_p]
        parts.append(np.ctypeslib.as_array(data(handle), (count(handle), 3)).copy())
    lib.facetalk_mesh_free.argtypes = [c_void_p]
    lib.facetalk_mesh_free(handle)
    return parts[0], parts[1]
