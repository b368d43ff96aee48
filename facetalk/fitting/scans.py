"""Frames of a capture from files: point clouds, meshes that points are drawn on, and arrays."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facetalk.arrays import Float64
from facetalk.errors import InputError
from facetalk.fitting.colmap import read_points
from facetalk.optional import needed_for
from facetalk.reading import read_array, read_arrays, usable

MESHES = (".ply", ".obj", ".stl", ".off")
"""Suffixes that trimesh reads."""
ARRAYS = (".npy", ".npz")
COLMAP = ("points3D.txt", "points3D.bin")

_ON_A_MESH = 20000  # points drawn on the faces of a mesh
_MOST_BYTES = 1 << 31  # of one file


class Scans(Sequence[Float64]):
    """Frames by their files, each read when it is asked for.

    Args:
        files: one a frame, in order; or one .npy or .npz of (T, N, 3) points. Of a file with faces, points
            are drawn on them evenly; one without is a point cloud. A .npz holds `points`, or one array.

    Raises:
        InputError: no files, one that is missing, or of a kind that is not read here.

    Attributes:
        names: of the frames.
        stamp: what changes when one of the files is another.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        if not files:
            raise InputError("no files of points were given")
        for file in files:
            if file.suffix.lower() not in MESHES + ARRAYS and file.name not in COLMAP:
                known = ", ".join((*MESHES, *ARRAYS, *COLMAP))
                raise InputError(f"{file}: expected one of {known}")
            if not file.is_file():
                raise InputError(f"{file}: no such file")
        self._files = list(files)
        told = [file.stat() for file in files]
        self.stamp = repr([(one.st_size, one.st_mtime_ns) for one in told])
        self._array: np.ndarray | None = None
        self.names = [str(file) for file in files]
        if len(files) == 1 and files[0].suffix.lower() in ARRAYS:
            array = _array(files[0])
            if array.ndim == 3:
                self._array = array
                self.names = [f"{files[0]}[{t}]" for t in range(len(array))]

    def __len__(self) -> int:
        """Frames."""
        return len(self.names)

    def __iter__(self) -> Iterator[Float64]:
        """One frame after the other."""
        return (self[t] for t in range(len(self)))

    def __getitem__(self, frame: int) -> Float64:  # type: ignore[override]
        """Points (N, 3) of a frame."""
        if self._array is not None:
            return np.asarray(self._array[frame], dtype=np.float64)
        file = self._files[frame]
        if file.name in COLMAP:
            return read_points(file)
        points = _array(file) if file.suffix.lower() in ARRAYS else _mesh_points(file)
        if points.ndim != 2 or points.shape[1] != 3:
            raise InputError(f"{file}: expected points (N, 3), got shape {points.shape}")
        return np.asarray(points, dtype=np.float64)


def _array(file: Path) -> np.ndarray:
    if file.suffix.lower() == ".npy":
        with usable(file, "give a .npy file of numbers"):
            mapped = np.load(file, mmap_mode="r", allow_pickle=False)
        # Of a whole capture a frame at a time is read.
        return mapped if mapped.ndim == 3 and mapped.dtype.kind in "fiu" else read_array(file)
    arrays = read_arrays(file)
    name = "points" if "points" in arrays else next(iter(arrays), "")
    if name != "points" and len(arrays) != 1:
        raise InputError(f"{file}: expected an array named points, got {', '.join(arrays) or 'none'}")
    if arrays[name].dtype.kind not in "fiu":
        raise InputError(f"{file}: {name} holds {arrays[name].dtype}, no numbers")
    return arrays[name]


def _mesh_points(file: Path) -> np.ndarray:
    """Points of a cloud, or drawn on a mesh by area."""
    with needed_for(f"{file}: a mesh"):
        import trimesh
    if file.stat().st_size > _MOST_BYTES:
        raise InputError(f"{file}: {file.stat().st_size} bytes, more than a scan has")
    with usable(file, "give a mesh or a point cloud"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kind = file.suffix[1:].lower()
        loaded: Any = trimesh.load(file, file_type=kind, process=False, skip_materials=True)
        if isinstance(loaded, trimesh.Scene):
            loaded = loaded.to_geometry()
        if getattr(loaded, "faces", None) is None or len(loaded.faces) == 0:
            return np.asarray(loaded.vertices)
        faces = np.asarray(loaded.faces)
        if not len(loaded.vertices) or faces.min() < 0 or faces.max() >= len(loaded.vertices):
            raise ValueError("a face names a vertex that is not there")
        return np.asarray(trimesh.sample.sample_surface(loaded, _ON_A_MESH, seed=0)[0])
