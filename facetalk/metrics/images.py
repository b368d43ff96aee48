"""Distances between sets of rendered mouths: FID (Heusel et al. 2017) and KID (Binkowski et al. 2018).

Values depend on the features, the renderer and the framing; they compare motions of one head that were drawn
by :func:`mouth_crops`, and the features' name stands beside them. FID is biased upwards for small sets: with
64 features give some 2,000 pictures a side. KID is not.
"""

from __future__ import annotations

import importlib.util
import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from facetalk.arrays import Bool, Float32, Float64, UInt8
from facetalk.errors import InputError
from facetalk.mesh import Mesh, RiggedSequence
from facetalk.mesh.materials import MATERIAL_OF_PART, srgb_to_linear
from facetalk.metrics.image_features import CROP_SIZE, MouthFeatures
from facetalk.multi_pie import OUTER_LIPS
from facetalk.ops import threads
from facetalk.ops.normals import vertex_normals
from facetalk.ops.raster import draw
from facetalk.render.studio import Camera, Look
from facetalk.side_by_side import side_by_side

_SIDE = 1.6
"""Side of a crop in widths of the resting mouth: from under the nose to the chin."""
_BELOW = 0.08
"""How far below the mouth the middle of a crop lies, in sides: the jaw opens downwards."""
_DISTANCE = 0.7
"""Metres from the camera to the mouth."""
_BLOCK = 64
_SIZES = (16, 512)
_KID_SUBSETS, _KID_SUBSET_SIZE = 100, 1000


class _Frame:
    """Camera and lamps of a square crop.

    Args:
        centre: middle of the crop, metres.
        side: its side where the centre lies, metres.
        size: height and width in pixels.
    """

    def __init__(self, centre: Float64, side: float, size: int) -> None:
        low, high = _SIZES
        if not low <= size <= high:
            raise InputError(f"the size of a crop must lie in {low} to {high} pixels, got {size}")
        self.centre, self.side = centre, side
        look = Look()
        camera = Camera(tuple(centre.tolist()), distance=_DISTANCE, focal=_DISTANCE / side)
        self.settings: dict[str, Any] = {
            "background": look.backdrop(size, size),
            "palette": np.array([[m.roughness, m.specular, m.subsurface, m.coat] for m in MATERIAL_OF_PART]),
            "lights": np.array([[*direction, *color] for direction, color in look.lights], np.float32),
            "ambient": [look.sky, look.ground],
            "camera": camera.matrix(),
            "focal": camera.focal * size,
            "exposure": look.exposure,
            "alone": True,
        }

    @staticmethod
    def of_mouth(rest: ArrayLike, size: int) -> _Frame:
        """From under the nose to the chin of a resting face."""
        lips = _checked(rest)[list(OUTER_LIPS)]
        side = _SIDE * float(np.ptp(lips[:, 0]))
        return _Frame(lips.mean(0) - (0.0, _BELOW * side, 0.0), side, size)

    @staticmethod
    def of_face(rest: ArrayLike, size: int) -> _Frame:
        """What SyncNet's pipeline cuts out around a detected face: 0.4 more on both sides and below."""
        points = _checked(rest)
        low, high = points.min(0), points.max(0)
        half = float((high - low)[:2].max()) / 2
        middle = (low + high) / 2 - (0.0, 0.4 * half, 0.0)
        return _Frame(middle, 2.8 * half, size)

    def sees(self, vertices: Float32) -> Bool:
        """Whether a vertex may show or cast a shadow in the crop, with room for motion."""
        near = np.abs(vertices[:, :2] - self.centre[:2]) < 0.62 * self.side
        return np.asarray(near.all(axis=1) & (vertices[:, 2] > self.centre[2] - 0.75 * self.side))


def _checked(rest: ArrayLike) -> Float64:
    """Landmarks of a resting face, (68, 3) metres."""
    points = np.asarray(rest, np.float64)
    if points.shape != (68, 3) or not np.isfinite(points).all():
        raise InputError(f"rest must be 68 finite landmarks (68, 3) in metres, got shape {points.shape}")
    width = float(np.ptp(points[list(OUTER_LIPS), 0]))
    if not 0.01 <= width <= 0.3:
        raise InputError(f"the resting mouth is {width:.3g} wide; landmarks must be in metres")
    return points


class _Part:
    """The part of a mesh that a crop shows."""

    def __init__(self, mesh: Mesh, frame: _Frame) -> None:
        kept = frame.sees(mesh.vertices)[mesh.faces].any(axis=1)
        self.rows, faces = np.unique(mesh.faces[kept], return_inverse=True)
        self.faces = faces.reshape(-1, 3).astype(np.int32)
        part = np.zeros(len(mesh), np.uint8) if mesh.part is None else mesh.part
        part = np.where(part < len(MATERIAL_OF_PART), part, 0)[self.rows]
        self.materials = part[self.faces[:, 0]].astype(np.uint8)
        if mesh.colors is None:
            plain = np.array([m.color for m in MATERIAL_OF_PART]).round().astype(np.uint8)
            self.colors = srgb_to_linear(plain[part])
        else:
            self.colors = srgb_to_linear(mesh.colors[self.rows])
        self.settings = frame.settings

    def draw(self, positions: Float32, *, stop: Callable[[], bool] | None = None) -> UInt8:
        """(V', 3) positions of the part's vertices -> (size, size, 3)."""
        normals = vertex_normals(positions, self.faces)
        return draw(positions, normals, self.colors, self.faces, self.materials, **self.settings, stop=stop)


def mouth_crops(meshes: RiggedSequence | Iterable[Mesh], rest: ArrayLike, *, size: int = CROP_SIZE) -> UInt8:
    """Draw the mouth of every frame from the front, with the project's own rasteriser.

    Args:
        meshes: what ``FaceTalk.decode`` gives: a rigged sequence (fast), or meshes one by one.
        rest: (68, 3) landmarks of the resting face, metres. They frame the crop, the same for all motions of
            one identity.
        size: height and width in pixels.

    Returns:
        (T, size, size, 3) uint8 sRGB.

    Raises:
        InputError: no frames, landmarks that are not a face in metres, a size out of range.
    """
    return _drawn(meshes, _Frame.of_mouth(rest, size))


def face_crops(meshes: RiggedSequence | Iterable[Mesh], rest: ArrayLike, *, size: int = 224) -> UInt8:
    """Draw the face of every frame from the front, cut out as SyncNet's pipeline does.

    Its detector's box is taken to be that of the landmarks. Arguments, result and errors are those of
    :func:`mouth_crops`.
    """
    return _drawn(meshes, _Frame.of_face(rest, size))


def face_view(rest: ArrayLike, size: int) -> tuple[Float32, float]:
    """The camera (3, 4) and focal length in pixels that :func:`face_crops` looks with.

    Camera space has +x right and +y up and looks along -z; the picture's middle is at (size / 2, size / 2).
    """
    settings = _Frame.of_face(rest, size).settings
    return settings["camera"], float(settings["focal"])


def _drawn(meshes: RiggedSequence | Iterable[Mesh], frame: _Frame) -> UInt8:
    drawings = list(_pictures(meshes, frame))
    if not drawings:
        raise InputError("there are no frames to draw")
    return np.stack(drawings)


def _pictures(meshes: RiggedSequence | Iterable[Mesh], frame: _Frame) -> Iterator[UInt8]:
    """Pictures in order, drawn side by side: each by one thread."""
    workers = threads()

    def picture(posed: tuple[_Part, Float32], over: Callable[[], bool]) -> UInt8:
        return posed[0].draw(posed[1], stop=over)

    return side_by_side(picture, _posed(meshes, frame), workers, 2 * workers)


def _posed(meshes: RiggedSequence | Iterable[Mesh], frame: _Frame) -> Iterator[tuple[_Part, Float32]]:
    if not isinstance(meshes, RiggedSequence):
        for mesh in meshes:
            part = _Part(mesh, frame)
            yield part, mesh.vertices[part.rows]
        return
    part = _Part(meshes.base, frame)
    rig = meshes.among(part.rows, part.faces)
    for start in range(0, len(rig), _BLOCK):
        for positions in rig.positions(slice(start, start + _BLOCK)):
            yield part, positions


def require_torchmetrics() -> None:
    """Say how to get torchmetrics where it is missing.

    Raises:
        InputError: it is.
    """
    if importlib.util.find_spec("torchmetrics") is None:
        raise InputError("image distances need torchmetrics; pip install 'facetalk[images]'")


def image_distances(
    reference: UInt8, pictures: UInt8, *, features: nn.Module | None = None, seed: int = 0
) -> dict[str, Any]:
    """FID and KID of two sets of pictures, by torchmetrics.

    Args:
        reference: (N, H, W, 3) uint8, renders of truth.
        pictures: (M, H, W, 3) uint8, what is judged.
        features: maps (B, 3, H, W) uint8 to (B, F) and has ``num_features`` and a ``name``; None for the
            built-in :class:`facetalk.metrics.image_features.MouthFeatures`.
        seed: of the subsets of KID.

    Returns:
        ``features`` (name), ``fid``, ``kid`` and ``kid_sd`` (mean and standard deviation over 100 subsets of
        at most 1000 pictures), ``reference_pictures``, ``pictures``.

    Raises:
        InputError: torchmetrics is not installed, or a set is not uint8 pictures, at least two.
    """
    require_torchmetrics()
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance

    for name, value in (("reference", reference), ("pictures", pictures)):
        if value.ndim != 4 or value.shape[3] != 3 or value.dtype != np.uint8 or len(value) < 2:
            raise InputError(
                f"{name} must be at least two pictures (N, H, W, 3) of uint8, got {value.shape} {value.dtype}"
            )
    module = MouthFeatures.from_pretrained() if features is None else features
    codes = [_codes(module.eval(), value) for value in (reference, pictures)]
    taken = _Taken(codes[0].shape[1])
    fid = FrechetInceptionDistance(feature=taken)
    size = min(_KID_SUBSET_SIZE, len(reference), len(pictures))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it keeps features in memory, which is meant
        kid = KernelInceptionDistance(feature=taken, subsets=_KID_SUBSETS, subset_size=size)
    for real, values in zip((True, False), codes, strict=True):
        fid.update(values, real=real)
        kid.update(values, real=real)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        mean, deviation = kid.compute()
    return {
        "features": str(getattr(module, "name", type(module).__name__)),
        "fid": float(fid.compute()),
        "kid": float(mean),
        "kid_sd": float(deviation),
        "reference_pictures": len(reference),
        "pictures": len(pictures),
    }


class _Taken(nn.Module):
    """Passes features on that were computed before, so that FID and KID share one pass over the pictures."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, values: Tensor) -> Tensor:
        """The identity."""
        return values


@torch.inference_mode()
def _codes(module: nn.Module, pictures: UInt8) -> Tensor:
    blocks = []
    for start in itertools.takewhile(lambda n: n < len(pictures), itertools.count(0, _BLOCK)):
        block = np.ascontiguousarray(pictures[start : start + _BLOCK].transpose(0, 3, 1, 2))
        blocks.append(module(torch.from_numpy(block)).float().cpu())
    return torch.cat(blocks)
