"""What COLMAP writes: cameras, images and points, as text or binary (colmap.github.io/format.html)."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from facetalk.arrays import Float64
from facetalk.errors import InputError
from facetalk.reading import usable

__all__ = ["read_cameras", "read_points"]

# Numbers of COLMAP's models and where their parameters go: focal lengths, centre, then k1 k2 p1 p2
# (src/colmap/sensor/models.h).
_MODELS = {0: "SIMPLE_PINHOLE", 1: "PINHOLE", 2: "SIMPLE_RADIAL", 3: "RADIAL", 4: "OPENCV"}
_COUNTS = {"SIMPLE_PINHOLE": 3, "PINHOLE": 4, "SIMPLE_RADIAL": 4, "RADIAL": 5, "OPENCV": 8}
_MOST = 1 << 28  # entries of a file; a damaged count is larger


def read_cameras(folder: Path) -> dict[str, dict[str, Any]]:
    """K, R, t and distortion of every image by its name, pixel centres at whole numbers.

    Args:
        folder: with ``cameras`` and ``images``, ``.bin`` or ``.txt``.

    Raises:
        InputError: a file is missing or damaged, or a camera has a lens that is not known here.
    """
    lenses = {}
    for number, model, values in _read(folder, "cameras", _camera_text, _camera_binary):
        if model not in _COUNTS:
            known = ", ".join(_COUNTS)
            raise InputError(f"{folder}: camera {number} is {model}; only {known} are read")
        lenses[number] = _lens(model, values)
    found = {}
    for turn, shift, camera, name in _read(folder, "images", _image_text, _image_binary):
        if camera not in lenses:
            raise InputError(f"{folder}: image {name} is of camera {camera}, which is not there")
        found[name] = {**lenses[camera], "R": _rotation(turn), "t": np.array(shift)}
    return found


def read_points(path: Path) -> Float64:
    """(N, 3) of a ``points3D.txt`` or ``points3D.bin``.

    Raises:
        InputError: the file is damaged.
    """
    with usable(path, "COLMAP writes it"):
        if path.suffix == ".txt":
            rows = [line.split()[1:4] for line in _lines(path)]
            return np.array(rows, np.float64).reshape(-1, 3)
        data = _Bytes(path.read_bytes())
        found = []
        for _ in range(data.count()):
            _, x, y, z, _, _, _, _ = data.take("<Qddd3Bd")
            data.skip(8 * data.count())
            found.append((x, y, z))
        return np.array(found, np.float64).reshape(-1, 3)


def _lens(model: str, values: list[float]) -> dict[str, Any]:
    single = model in ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL")
    fx, fy = (values[0], values[0]) if single else (values[0], values[1])
    rest = values[1:] if single else values[2:]
    bent = [*rest[2:], 0.0, 0.0, 0.0, 0.0][:4]
    # COLMAP's pixel centres lie at halves.
    matrix = [[fx, 0.0, rest[0] - 0.5], [0.0, fy, rest[1] - 0.5], [0.0, 0.0, 1.0]]
    return {"K": matrix, "distortion": bent}


def _rotation(quaternion: Any) -> Float64:
    w, x, y, z = np.asarray(quaternion, np.float64) / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def _read(folder: Path, name: str, text: Any, binary: Any) -> list[Any]:
    for suffix, reader in ((".bin", binary), (".txt", text)):
        path = folder / f"{name}{suffix}"
        if path.is_file():
            with usable(path, "COLMAP writes it"):
                return list(reader(path))
    raise InputError(f"{folder}: neither {name}.bin nor {name}.txt; expected a model of COLMAP's")


def _lines(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8").splitlines()
    return [line for line in text if line.strip() and not line.startswith("#")]


def _camera_text(path: Path) -> list[Any]:
    found = []
    for line in _lines(path):
        number, model, _, _, *values = line.split()
        if model in _COUNTS and len(values) != _COUNTS[model]:
            raise ValueError(f"camera {number} has {len(values)} parameters")
        found.append((int(number), model, [float(value) for value in values]))
    return found


def _image_text(path: Path) -> list[Any]:
    # Two lines each, the second of which, of its points, may be empty.
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    found = []
    for line in lines[::2]:
        if line.strip():
            _, *numbers, camera, name = line.split(maxsplit=9)
            values = [float(value) for value in numbers]
            found.append((values[:4], values[4:], int(camera), name))
    return found


def _camera_binary(path: Path) -> list[Any]:
    data, found = _Bytes(path.read_bytes()), []
    for _ in range(data.count()):
        number, model, _, _ = data.take("<IiQQ")
        name = _MODELS.get(model, f"of model {model}")
        if name not in _COUNTS:
            return [(number, name, [])]
        found.append((number, name, list(data.take(f"<{_COUNTS[name]}d"))))
    return found


def _image_binary(path: Path) -> list[Any]:
    data, found = _Bytes(path.read_bytes()), []
    for _ in range(data.count()):
        values = data.take("<I7dI")
        name = data.text()
        data.skip(24 * data.count())
        found.append((values[1:5], values[5:8], values[8], name))
    return found


class _Bytes:
    """A binary file read from front to back."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, form: str) -> tuple[Any, ...]:
        size = struct.calcsize(form)
        values = struct.unpack_from(form, self._data, self._at)
        self._at += size
        return values

    def count(self) -> int:
        (number,) = self.take("<Q")
        if number > _MOST:
            raise ValueError(f"a list of {number} entries")
        return int(number)

    def text(self) -> str:
        end = self._data.index(b"\0", self._at)
        value = self._data[self._at : end].decode()
        self._at = end + 1
        return value

    def skip(self, size: int) -> None:
        if self._at + size > len(self._data):
            raise ValueError("the file ends early")
        self._at += size
