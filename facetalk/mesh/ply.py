"""Mesh sequences as folders of binary PLY files (little endian), one per frame."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from facetalk.errors import InputError
from facetalk.mesh.mesh import Mesh
from facetalk.mesh.sound import is_ours

_FLOATS = ("x", "y", "z", "nx", "ny", "nz")
_COLORS = ("red", "green", "blue")
_MADE_BY = "comment facetalk, metres"
_FRAME = re.compile(r"frame_\d{5,}\.ply")
_FACE = np.dtype([("count", "u1"), ("vertices", "<i4", (3,))])


def _vertex_type(colors: bool) -> np.dtype:
    fields: list[tuple[str, str]] = [(name, "<f4") for name in _FLOATS]
    return np.dtype(fields + [(name, "u1") for name in _COLORS] if colors else fields)


def write_ply(path: str | os.PathLike[str], mesh: Mesh) -> None:
    """Write one mesh with normals and, where it has them, colours. Lengths are metres."""
    kind = _vertex_type(mesh.colors is not None)
    vertices = np.empty(len(mesh), kind)
    for axis, name in enumerate("xyz"):
        vertices[name] = mesh.vertices[:, axis]
        vertices["n" + name] = mesh.normals[:, axis]
    if mesh.colors is not None:
        for axis, name in enumerate(_COLORS):
            vertices[name] = mesh.colors[:, axis]
    faces = np.empty(len(mesh.faces), _FACE)
    faces["count"], faces["vertices"] = 3, mesh.faces
    lines = [
        "ply",
        "format binary_little_endian 1.0",
        _MADE_BY,
        f"element vertex {len(vertices)}",
    ]
    lines += [f"property {'uchar' if name in _COLORS else 'float'} {name}" for name in kind.names or ()]
    lines += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header"]
    with open(path, "wb") as file:
        file.write(("\n".join(lines) + "\n").encode("ascii"))
        file.write(vertices.tobytes())
        file.write(faces.tobytes())


def read_ply(path: str | os.PathLike[str]) -> Mesh:
    """Read a file that :func:`write_ply` wrote.

    Raises:
        InputError: the file is missing, cut short, or of another layout.
    """
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    header, found, body = raw.partition(b"end_header\n")
    lines = header.decode("ascii", "replace").split("\n")
    counts = {
        line.split()[1]: line.split()[2]
        for line in lines
        if line.startswith("element ") and len(line.split()) == 3
    }
    if (
        not found
        or lines[:2] != ["ply", "format binary_little_endian 1.0"]
        or set(counts) != {"vertex", "face"}
    ):
        raise InputError(f"{path} is not a PLY file as facetalk writes them")
    kind = _vertex_type("property uchar red" in lines)
    vertex_count, face_count = int(counts["vertex"]), int(counts["face"])
    if len(body) != vertex_count * kind.itemsize + face_count * _FACE.itemsize:
        raise InputError(f"{path} is cut short or has other properties than facetalk writes")
    vertices = np.frombuffer(body, kind, vertex_count)
    faces = np.frombuffer(body, _FACE, face_count, vertex_count * kind.itemsize)
    columns = [np.stack([vertices[name] for name in names], axis=1) for names in (_FLOATS[:3], _FLOATS[3:])]
    colors = np.stack([vertices[name] for name in _COLORS], axis=1) if "red" in (kind.names or ()) else None
    return Mesh(columns[0], faces["vertices"], columns[1], colors)


def write_sequence(folder: Path, meshes: Iterable[Mesh]) -> int:
    """Write ``frame_00000.ply`` and so on into an existing folder and return the number of frames."""
    count = 0
    for count, mesh in enumerate(meshes, 1):
        write_ply(folder / f"frame_{count - 1:05d}.ply", mesh)
    return count


def is_sequence(folder: Path) -> bool:
    """Whether a folder holds nothing but what :func:`write_sequence` wrote, and one sound file of ours."""
    sounds = 0
    for entry in folder.iterdir():
        if entry.suffix == ".wav":
            sounds += 1
            if sounds > 1 or not is_ours(entry):
                return False
        elif not _FRAME.fullmatch(entry.name) or not _is_frame(entry):
            return False
    return True


def _is_frame(path: Path) -> bool:
    with open(path, "rb") as file:
        return f"\n{_MADE_BY}\n".encode("ascii") in file.read(128)
