"""Whether what a head folder holds is a head: settings and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from facetalk.mesh.mesh import CanonicalMesh
from facetalk.reading import read_json

FORMAT, VERSION = "facetalk-head", 1
FILES = ("identity", "deformation", "anchors", "forward", "parts", "encoder", "landmarks")
"""Tensor files that every head folder has."""
MESHES = ("template", "canonical")
"""Those that it may have: the mesh of all identities, and one of the default identity."""
_FAR = 100.0
"""Head units, 25 m: nothing of a head is there."""


def is_head_folder(folder: Path) -> bool:
    """Whether a folder holds nothing but what :meth:`HeadModel.save` writes."""
    names = {entry.name for entry in folder.iterdir()}
    if (
        not names <= {"config.json", *(f"{name}.safetensors" for name in (*FILES, *MESHES))}
        or "config.json" not in names
    ):
        return False
    return bool(read_json(folder / "config.json").get("format") == FORMAT)


def check_settings(config: Mapping[str, Any]) -> None:
    """Check the entries of config.json that are no sizes of a network.

    Raises:
        ValueError: one is missing or not what it should be.
    """
    names = config["expression_names"]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError("expression_names must be a list of names")
    _numbers(config["rest_expression"], (len(names),), "rest_expression")
    low, high = _numbers(config["bounds"], (2, 3), "bounds")
    if not (low < high).all() or (high - low).max() > 10.0:
        raise ValueError(f"bounds must grow along every axis, by at most 10 units, got {config['bounds']}")
    for name in ("point", "normal"):
        _numbers(config["neck"][name], (3,), f"neck {name}")


def _numbers(value: Any, shape: tuple[int, ...], name: str) -> np.ndarray:
    array = np.asarray(value, np.float64)
    if array.shape != shape or not np.isfinite(array).all() or np.abs(array).max(initial=0.0) > _FAR:
        raise ValueError(f"{name} must hold {shape} finite numbers up to {_FAR:g}")
    return array


def check_linear(linear: Mapping[str, np.ndarray], code_dim: int) -> None:
    """Check the shapes of the linear part.

    Raises:
        ValueError: a tensor is missing or has another shape.
    """
    count = linear["encoder"].shape[-1]
    shapes = {
        "encoder": (code_dim, count), "landmarks_mean": (68, 3), "landmarks_basis": (count, 68, 3),
        "eyes_mean": (2, 4), "eyes_basis": (count, 2, 4), "eye_axes": (2, 3),
    }  # fmt: skip
    for name, shape in shapes.items():
        if tuple(linear[name].shape) != shape:
            raise ValueError(f"{name} must have shape {shape}, has {tuple(linear[name].shape)}")


def checked_mesh(tensors: Mapping[str, np.ndarray], parts: int) -> CanonicalMesh:
    """The canonical mesh of a folder.

    Raises:
        ValueError: arrays that do not fit each other, faces of vertices that are not there.
    """
    arrays = {key: tensors[key] for key in ("vertices", "faces", "part", "colors")}
    kinds = {
        "vertices": (np.float32, 2),
        "faces": (np.int32, 2),
        "part": (np.uint8, 1),
        "colors": (np.uint8, 2),
    }
    count = len(arrays["vertices"])
    for name, (kind, axes) in kinds.items():
        array = arrays[name]
        if array.dtype != kind or array.ndim != axes or (axes == 2 and array.shape[1] != 3):
            raise ValueError(f"canonical {name} are {array.dtype} {array.shape}")
        if name != "faces" and len(array) != count:
            raise ValueError(f"canonical {name} has {len(array)} rows, not {count}")
    faces = arrays["faces"]
    if not count or not len(faces) or faces.min() < 0 or faces.max() >= count:
        raise ValueError("canonical faces name vertices that are not there")
    if arrays["part"].max() >= parts or not np.abs(arrays["vertices"]).max() < _FAR:
        raise ValueError("canonical vertices lie nowhere on a head, or are of no part")
    return CanonicalMesh(arrays["vertices"], arrays["faces"], arrays["part"], arrays["colors"])
