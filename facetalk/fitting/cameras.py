"""Cameras of a capture: a pinhole with lens distortion, as OpenCV and COLMAP have it, and lists of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from facetalk.arrays import Float64
from facetalk.errors import InputError
from facetalk.fitting.colmap import read_cameras
from facetalk.fitting.pictures import Pictures
from facetalk.fitting.structure import Lens, find_cameras
from facetalk.reading import read_json

__all__ = ["Camera", "Rig", "View", "read_rig"]

_KEYS = {
    "name",
    "image",
    "K",
    "R",
    "t",
    "distortion",
    "depth",
    "depth_scale",
    "landmarks",
    "images",
    "masks",
    "size",
}
_OF_LENSES = ("lens", "shared", "focal")
"""What may be said of cameras that are found."""
_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")  # of pictures in a folder
_STEPS = 12  # of the fixed-point iteration that takes a distortion off
_TURN = 1e-3  # how far R may be from a rotation


@dataclasses.dataclass(frozen=True)
class Camera:
    """x_camera = R x + t, +z ahead; pixel = K (distorted x_camera / z). Pixel centres are whole numbers.

    Attributes:
        K: (3, 3) intrinsics.
        R: (3, 3) rotation.
        t: (3,) shift, in the unit of the world's points.
        distortion: k1, k2, p1, p2, k3 of OpenCV (Brown's model).
    """

    K: Float64
    R: Float64
    t: Float64
    distortion: Float64 = dataclasses.field(default_factory=lambda: np.zeros(5))

    def project(self, points: ArrayLike) -> tuple[Float64, Float64]:
        """Pixels (N, 2) of points (N, 3), and how far ahead (N,) each of them is."""
        seen = np.asarray(points, np.float64) @ self.R.T + self.t
        ahead = seen[:, 2]
        flat = np.asarray(seen[:, :2] / np.where(np.abs(ahead) > 1e-12, ahead, np.nan)[:, None], np.float64)
        return self._distorted(flat) @ self.K[:2, :2].T + self.K[:2, 2], np.asarray(ahead, np.float64)

    def rays(self, pixels: ArrayLike) -> Float64:
        """(N, 2) the x / z and y / z that pixels (N, 2) look along, in the camera's own axes."""
        wanted = np.linalg.solve(self.K[:2, :2], (np.asarray(pixels, np.float64) - self.K[:2, 2]).T).T
        flat: Float64 = np.asarray(wanted, np.float64)
        if self.distortion.any():
            for _ in range(_STEPS):
                flat = np.asarray(flat + wanted - self._distorted(flat), np.float64)
        return flat

    def lift(self, pixels: ArrayLike, depth: ArrayLike) -> Float64:
        """World points (N, 3) of pixels (N, 2) whose points are so far ahead, along z (N,)."""
        seen = np.concatenate([self.rays(pixels), np.ones((len(np.asarray(pixels)), 1))], axis=1)
        return np.asarray((seen * np.asarray(depth, np.float64)[:, None] - self.t) @ self.R)

    @property
    def centre(self) -> Float64:
        """(3,) where it stands."""
        return np.asarray(-self.R.T @ self.t)

    def _distorted(self, flat: Float64) -> Float64:
        k1, k2, p1, p2, k3 = self.distortion
        x, y = flat[:, 0], flat[:, 1]
        r = x * x + y * y
        radial = 1 + r * (k1 + r * (k2 + r * k3))
        return np.stack(
            [
                x * radial + 2 * p1 * x * y + p2 * (r + 2 * x * x),
                y * radial + p1 * (r + 2 * y * y) + 2 * p2 * x * y,
            ],
            axis=1,
        )


@dataclasses.dataclass(frozen=True)
class View:
    """What a camera of a capture saw.

    Attributes:
        name: for messages.
        camera: the camera.
        depth: its depth maps, one a frame, or none.
        depth_scale: metres of a step of theirs.
        landmarks: file of its 2-D landmarks (T, 68, 2), or None.
        images: its pictures, one a frame and None where it has none, or one video.
        masks: pictures of the same size, white where the head is.
        size: width and height of its pictures, None where that was not said.
    """

    name: str
    camera: Camera
    depth: tuple[Path, ...]
    depth_scale: float
    landmarks: Path | None
    images: tuple[Path | None, ...] = ()
    masks: tuple[Path | None, ...] = ()
    size: tuple[int, int] | None = None


@dataclasses.dataclass(frozen=True)
class Rig:
    """The cameras of a capture.

    Attributes:
        views: those whose places are known.
        unplaced: names of the others.
        found: whether their places were found in their pictures, in a scale of their own.
    """

    views: list[View]
    unplaced: list[str]
    found: bool


def read_rig(path: Path, kept: Path | None = None) -> Rig:
    """Read the cameras of a capture: ``{"cameras": [{"K": ..., "R": ..., "t": ..., "depth": ...}, ...]}``.

    Where none of them has K, R or t, but all have images, they are found in those.

    Args:
        path: the file.
        kept: see :func:`facetalk.fitting.structure.find_cameras`.

    Raises:
        InputError: no such file, no cameras, an entry that is none (named), or cameras cannot be found.
    """
    told = read_json(path)
    unknown = set(told) - {"cameras", "colmap", *_OF_LENSES}
    if unknown:
        more = ", ".join(("colmap", *_OF_LENSES))
        raise InputError(
            f"{path}: unknown {', '.join(sorted(unknown))}; expected cameras, and perhaps {more}"
        )
    entries = told.get("cameras")
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{path}: no cameras; expected a list of them, each with K, R, t")
    known = None
    if "colmap" in told:
        known = read_cameras(path.parent / str(told["colmap"]))
    unplaced: list[str] = []
    sought = known is None and _to_find(entries, path)
    if sought:
        placed = _find(entries, path, _lens(told, path), kept)
        unplaced = [_name(entry, i) for i, entry in enumerate(entries) if i not in placed]
        numbered = [(i, {**entry, **placed[i]}) for i, entry in enumerate(entries) if i in placed]
    else:
        for key in _OF_LENSES:
            if key in told:
                raise InputError(f"{path}: {key} is for cameras that are found; these have their K, R and t")
        numbered = list(enumerate(entries))
    found = []
    for number, entry in numbered:
        try:
            found.append(_view(entry, number, path.parent, known))
        except ValueError as error:
            raise InputError(f"{path}: camera {number}: {error}") from error
    counts = {len(view.depth) for view in found if view.depth}
    if len(counts) > 1:
        raise InputError(
            f"{path}: cameras have {min(counts)} to {max(counts)} depth maps; expected as many each"
        )
    return Rig(found, unplaced, sought)


def _to_find(entries: list[Any], path: Path) -> bool:
    """Whether places of cameras have to be found in their pictures."""
    if not all(isinstance(entry, dict) for entry in entries):
        return False
    bare = [i for i, entry in enumerate(entries) if not {"K", "R", "t"} & set(entry)]
    pictured = [i for i in bare if "images" in entries[i]]
    if pictured and len(bare) < len(entries):
        raise InputError(
            f"{path}: camera {_name(entries[bare[0]], bare[0])} has no K, R, t, others have; give them to "
            f"each, or to none of them, whose places are found in their pictures then"
        )
    return len(pictured) == len(entries) > 1


def _find(entries: list[Any], path: Path, lens: Lens, kept: Path | None) -> dict[int, dict[str, Any]]:
    names, taken = [], []
    for number, entry in enumerate(entries):
        try:
            if entry.get("depth"):
                raise ValueError("depth maps are in metres, and cameras that are found are not; give K, R, t")
            if "distortion" in entry:
                raise ValueError("distortion without K; it is found with the place, give it with K, R, t")
            pictures = _pictures("images", entry["images"], path.parent)
            taken.append(Pictures(pictures, _size(entry.get("size"))))
        except ValueError as error:
            raise InputError(f"{path}: camera {number}: {error}") from error
        names.append(_name(entry, number))
    return find_cameras(path, names, taken, lens, kept)


def _lens(told: dict[str, Any], path: Path) -> Lens:
    lens, shared = told.get("lens", "pinhole"), told.get("shared", True)
    if lens not in ("pinhole", "radial"):
        raise InputError(f"{path}: lens: expected pinhole or radial, got {lens!r}")
    if not isinstance(shared, bool):
        raise InputError(f"{path}: shared: expected true or false, got {shared!r}")
    focal = told.get("focal")
    number = isinstance(focal, int | float) and not isinstance(focal, bool) and focal > 0
    if focal is not None and not number:
        raise InputError(f"{path}: focal: expected a focal length in pixels, got {focal!r}")
    return Lens(lens == "radial", shared, None if focal is None else float(focal))


def _name(entry: dict[str, Any], number: int) -> str:
    return str(entry.get("name", entry.get("image", number)))


def _view(entry: Any, number: int, folder: Path, known: dict[str, Any] | None) -> View:
    if not isinstance(entry, dict):
        raise ValueError(f"expected an object, got {type(entry).__name__}")
    unknown = set(entry) - _KEYS
    if unknown:
        raise ValueError(f"unknown {', '.join(sorted(unknown))}")
    if known is not None and not {"K", "R", "t"} & set(entry):
        image = str(entry.get("image", entry.get("name", "")))
        if image not in known:
            some = ", ".join(sorted(known)[:3])
            raise ValueError(f"COLMAP knows no image {image!r}, but {some} ...")
        camera = _camera(known[image])
    else:
        camera = _camera(entry)
    scale = entry.get("depth_scale", 0.001)
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0.0 < scale <= 1.0:
        raise ValueError(f"depth_scale: expected metres a step, got {scale!r}")
    marks = entry.get("landmarks")
    if marks is not None and not isinstance(marks, str):
        raise ValueError(f"landmarks: expected a file, got {marks!r}")
    depth = _maps("depth", entry.get("depth", []), folder)
    images, masks = (_pictures(key, entry.get(key, []), folder) for key in ("images", "masks"))
    if masks and not images:
        raise ValueError("masks without images")
    return View(
        _name(entry, number), camera, depth, float(scale), None if marks is None else folder / marks,
        images, masks, _size(entry.get("size")),
    )  # fmt: skip


def _camera(entry: dict[str, Any]) -> Camera:
    if not {"K", "R", "t"} & set(entry):
        raise ValueError("no K, R, t; they are found where no camera has any, and all of several have images")
    arrays = {}
    for name, shape in (("K", (3, 3)), ("R", (3, 3)), ("t", (3,))):
        if name not in entry:
            raise ValueError(f"no {name}")
        arrays[name] = _numbers(name, entry[name])
        if arrays[name].shape != shape:
            raise ValueError(f"{name}: expected shape {shape}, got {arrays[name].shape}")
    K, R = arrays["K"], arrays["R"]
    if np.abs(R @ R.T - np.eye(3)).max() > _TURN or np.linalg.det(R) < 0:
        raise ValueError("R: expected a rotation from the world to the camera")
    if K[0, 0] <= 0 or K[1, 1] <= 0 or np.abs(K[2] - [0, 0, 1]).max() > 1e-9 or K[1, 0] != 0:
        raise ValueError("K: expected [[fx, s, cx], [0, fy, cy], [0, 0, 1]] in pixels")
    bent = _numbers("distortion", entry.get("distortion", [])).reshape(-1)
    if len(bent) > 5:
        raise ValueError(f"distortion: expected up to k1, k2, p1, p2, k3, got {len(bent)} numbers")
    return Camera(K, R, arrays["t"], np.concatenate([bent, np.zeros(5 - len(bent))]))


def _numbers(name: str, value: Any) -> Float64:
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: expected numbers, got {value!r}") from None
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: numbers that are not finite")
    return array


def _size(told: Any) -> tuple[int, int] | None:
    if told is None:
        return None
    whole = isinstance(told, list) and len(told) == 2 and all(type(side) is int and side > 0 for side in told)
    if not whole:
        raise ValueError(f"size: expected [width, height] in pixels, got {told!r}")
    return told[0], told[1]


def _maps(key: str, told: Any, folder: Path) -> tuple[Path, ...]:
    if isinstance(told, str):
        if told.startswith("/"):
            raise ValueError(f"{key}: a pattern is relative to the capture's file, got {told!r}")
        files = tuple(sorted(folder.glob(told))) if told else ()
        if not files:
            raise ValueError(f"{key}: nothing fits {told!r}")
        return files
    if not isinstance(told, list) or not all(isinstance(name, str) for name in told):
        raise ValueError(f"{key}: expected names of files, got {told!r}")
    return tuple(folder / name for name in told)


def _pictures(key: str, told: Any, folder: Path) -> tuple[Path | None, ...]:
    """Files by a pattern, a folder, a video, or a list with null where a frame is missing."""
    if isinstance(told, list):
        if not all(name is None or isinstance(name, str) for name in told):
            raise ValueError(
                f"{key}: expected names of files, or null where a frame is missing, got {told!r}"
            )
        if told and all(name is None for name in told):
            raise ValueError(f"{key}: every frame is missing")
        return tuple(None if name is None else folder / name for name in told)
    if isinstance(told, str) and told and not told.startswith("/") and (folder / told).is_dir():
        there = sorted(file for file in (folder / told).iterdir() if file.suffix.lower() in _SUFFIXES)
        if not there:
            raise ValueError(f"{key}: no pictures in the folder {told}")
        return tuple(there)
    return _maps(key, told, folder)
