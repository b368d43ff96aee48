"""Packing an official download of ICT-FaceKit into the file that trainings read: ``facetalk data head``.

The download (https://github.com/ICT-VGL/ICT-FaceKit, folder ``FaceXModel``, MIT) has one OBJ file for the
neutral head, for each identity shape and for each expression, all with the same vertices in the same order.
Their differences from the neutral are the displacements. What is not shape (parts, landmarks, anchors, the
transform to head space; see docs/head-data.md) hangs on vertex numbers alone and is taken from the copy that
travels with the package, after the triangles were found in the download's polygons.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from facetalk.arrays import Float32, Float64, Int64
from facetalk.data.heads.ict import BUILT_IN, read_fields
from facetalk.errors import InputError
from facetalk.files import atomic_path

__all__ = ["pack", "write"]

_NEUTRAL = "generic_neutral_mesh"
Fields = dict[str, NDArray[Any]]


def pack(source: str | Path, *, rounding_mm: float = 0.0, layout: Fields | None = None) -> Fields:
    """Read a download and return the fields of a packed head.

    Args:
        source: folder of the official download (or its ``FaceXModel``), or a packed ``.npz`` to be rounded.
        rounding_mm: identity displacements are rounded to whole multiples of this, expression displacements
            to half of it, so that the file gets smaller; 0 leaves them at the precision of float16.
        layout: fields that are not shapes; None takes the built-in copy's.

    Raises:
        InputError: files are missing, cannot be read, or are of another mesh; or the rounding is negative.
    """
    if not (np.isfinite(rounding_mm) and rounding_mm >= 0.0):
        raise InputError(f"the rounding must be a number of millimetres of at least 0, got {rounding_mm:g}")
    source = Path(source)
    if source.is_file():
        fields = read_fields(source)
    else:
        fields = dict(read_fields(BUILT_IN) if layout is None else layout)
        fields |= _shapes(_model_folder(source), fields)
    for name, step in (("identity_deltas", 0.1 * rounding_mm), ("expression_deltas", 0.05 * rounding_mm)):
        values = fields[name].astype(np.float32)  # centimetres
        fields[name] = (np.round(values / step) * step if step else values).astype(np.float16)
    return fields


def write(fields: Fields, path: str | Path) -> Path:
    """Write a packed head as a compressed ``.npz`` and return its path.

    Raises:
        InputError: the place cannot be written to.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise InputError(f"cannot write {path}: a packed head is an .npz file, so give it that suffix")
    with atomic_path(path) as scratch, scratch.open("wb") as file:
        np.savez_compressed(file, **fields)  # type: ignore[arg-type]
    return path


def _model_folder(source: Path) -> Path:
    for folder in (source, source / "FaceXModel", source / "ICT-FaceKit" / "FaceXModel"):
        if (folder / f"{_NEUTRAL}.obj").is_file():
            return folder
    raise InputError(
        f"{source}: no {_NEUTRAL}.obj there; give the folder of a clone of "
        "https://github.com/ICT-VGL/ICT-FaceKit"
    )


def _shapes(folder: Path, layout: Fields) -> Fields:
    neutral, polygons = read_obj(folder / f"{_NEUTRAL}.obj")
    _check_mesh(folder, len(neutral), polygons, layout)
    identities = [f"identity{i:03d}" for i in range(len(layout["identity_deltas"]))]
    expressions = [str(name) for name in layout["expression_names"]]
    missing = [name for name in identities + expressions if not (folder / f"{name}.obj").is_file()]
    if missing:
        raise InputError(
            f"{folder} lacks {', '.join(missing[:4])}{' ...' if len(missing) > 4 else ''} (.obj); fetch the "
            "whole of ICT-FaceKit again, with `git lfs pull` if its files are pointers"
        )
    deltas = {}
    for name in tqdm(identities + expressions, desc="reading shapes", unit="file", disable=None):
        vertices, _ = read_obj(folder / f"{name}.obj", polygons=False)
        if vertices.shape != neutral.shape:
            raise InputError(
                f"{folder / name}.obj has {len(vertices)} vertices, the neutral head {len(neutral)}; "
                "they are of different releases: fetch ICT-FaceKit again"
            )
        deltas[name] = (vertices - neutral).astype(np.float32)
    return {
        "neutral": neutral.astype(np.float32),
        "identity_deltas": np.stack([deltas[name] for name in identities]),
        "expression_deltas": np.stack([deltas[name] for name in expressions]),
    }


def read_obj(path: Path, *, polygons: bool = True) -> tuple[Float64, list[Int64]]:
    """Vertices (V, 3) of a Wavefront OBJ file and its polygons as vertex numbers from 0.

    Raises:
        InputError: the file has no vertices or a line of it cannot be read.
    """
    vertices: list[list[bytes]] = []
    faces: list[Int64] = []
    try:
        for line in path.read_bytes().splitlines():
            if line.startswith(b"v "):
                vertices.append(line.split()[1:4])
            elif polygons and line.startswith(b"f "):
                faces.append(np.array([int(c.split(b"/")[0]) for c in line.split()[1:]], np.int64) - 1)
        table = np.array(vertices, dtype=np.float64)
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}); fetch it again") from error
    if table.ndim != 2 or table.shape[1] != 3 or not np.isfinite(table).all():
        raise InputError(f"{path} has no readable vertices; fetch it again (`git lfs pull` for a pointer)")
    return table, faces


def _check_mesh(folder: Path, count: int, polygons: list[Int64], layout: Fields) -> None:
    """The vertex numbers of the layout mean this mesh: its triangles lie in the download's polygons."""
    expected = len(layout["neutral"])
    if count != expected:
        raise InputError(
            f"{folder}: the neutral head has {count} vertices, this version reads meshes of {expected} "
            "(ICT-FaceKit Light as of commit da5f95a)"
        )
    inside = set()
    for polygon in polygons:
        corners = sorted(polygon.tolist())
        inside |= {
            (corners[i], corners[j], corners[k])
            for i in range(len(corners))
            for j in range(i + 1, len(corners))
            for k in range(j + 1, len(corners))
        }
    triangles: Int64 = np.sort(layout["faces"].astype(np.int64), axis=1)
    strangers = sum(tuple(row) not in inside for row in triangles.tolist())
    if strangers:
        raise InputError(
            f"{folder}: {strangers} of {len(triangles)} triangles are not in the download's polygons, so its "
            "vertices are numbered otherwise; use commit da5f95a of ICT-FaceKit"
        )


def largest_error_mm(fields: Fields, truth: Fields) -> tuple[float, float]:
    """Largest difference of identity and of expression displacements (at coefficient 1), millimetres."""

    def worst(name: str) -> float:
        difference: Float32 = fields[name].astype(np.float32) - truth[name].astype(np.float32)
        return 10.0 * float(np.linalg.norm(difference, axis=-1).max())

    return worst("identity_deltas"), worst("expression_deltas")
