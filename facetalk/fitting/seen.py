"""Scans that cameras give: points by a plane sweep around a face that is known roughly, and its outlines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.spatial import cKDTree

from facetalk.ambient import plainly
from facetalk.arrays import Bool, Float32, Float64
from facetalk.fitting.cameras import Camera
from facetalk.fitting.differentiable import DifferentiableField
from facetalk.fitting.photos import Photos
from facetalk.fitting.sequence import Fit
from facetalk.fitting.sweep import SweepOptions, sweep
from facetalk.nphm.head.head import HeadModel
from facetalk.nphm.head.parts import Part
from facetalk.nphm.lattice import DEFAULT_BOUNDS
from facetalk.nphm.plain_head import PlainHead
from facetalk.ops.normals import vertex_normals
from facetalk.posing import landmarks, rigged
from facetalk.units import HEAD_UNIT_METRES

__all__ = ["SeenScans", "outline"]

_LEVEL = 1  # of detail of the surface that is swept around; of a head without a rig one more
_FACE_M = 0.125  # of the landmarks' middle, skin that is looked for
_SAMPLES = 5000
_LEAST = 200  # points; a frame with fewer has none
_APART_M = (
    0.007  # of inner lips and lids, where a patch would lie on two surfaces that move; landmarks decide there
)
_PROBED = 3  # frames that tell which cameras are wrong
_OUTLINE = 120  # rays of a camera
_NEAR_PX, _NEAR_M = 10.0, 0.01  # of the surface, within which an outline is the head's
_NECK_M = 0.025  # the lowest part of the surface, where it is cut
_ALONG = np.linspace(-0.06, 0.06, 33)  # metres around the surface that a ray is looked along


class SeenScans(Sequence[Float64]):
    """Frames of points in the cameras' world, found in their pictures when they are asked for.

    A frame in which fewer than 200 are found has none.

    Args:
        photos: the pictures.
        head: whose surface it is.
        near: a fit of these frames, or the first of them, that the surface is looked for around.
        without: names of cameras that are wrong already.
        reach_m: how far to either side.

    Attributes:
        wrong: names of cameras whose pictures do not show what the others' do, found in some frames.
        alike: mean correlation of each camera's patches with the others', by name.
    """

    @plainly
    def __init__(
        self,
        photos: Photos,
        head: HeadModel | PlainHead,
        near: Fit,
        without: Sequence[str] = (),
        reach_m: float = 0.008,
    ) -> None:
        self._photos, self._head, self._near, self._reach_m = photos, head, near, reach_m
        self._without = list(without)
        motion = near.motion
        self._field = DifferentiableField(head.nphm, motion.identity)
        self._marks = landmarks(head, motion, None)
        if isinstance(head, HeadModel):
            self._rig = rigged(head, motion, None, _LEVEL)
            self._faces = self._rig.base.faces
            part = self._rig.base.part
            self._skin = np.ones(len(self._rig.base), bool) if part is None else part == Part.SKIN
        else:
            self._neutral, self._faces = head.surface(head.field(motion.identity), _LEVEL + 1, DEFAULT_BOUNDS)
            self._skin = np.ones(len(self._neutral), bool)
        self.wrong: list[str] = []
        self.alike = self._probe()

    def __len__(self) -> int:
        """Frames, as many as the fit that is near has."""
        return len(self._near.motion)

    def __getitem__(self, t: int) -> Float64:  # type: ignore[override]
        """Points (N, 3) of a frame, none where the pictures give too few."""
        points, _ = self._swept(t)
        points = np.concatenate([points, self._outlines(t)])
        return points if len(points) >= _LEAST else np.zeros((0, 3))

    def _probe(self) -> dict[str, float]:
        """How alike each camera sees the skin; those that see something else are left out from then on."""
        frames = sorted({round(t) for t in np.linspace(0, len(self) - 1, _PROBED)})
        while True:
            told = np.stack([self._swept(t)[1] for t in frames])
            with np.errstate(invalid="ignore"):
                seen = np.isfinite(told).sum(0)
                mean = np.where(seen > 0, np.nansum(told, 0) / np.maximum(seen, 1), np.nan)
            usual = float(np.nanmedian(mean)) if np.isfinite(mean).any() else np.nan
            odd = np.flatnonzero(mean < SweepOptions().wrong * usual)
            names = self._photos.names
            if not len(odd) or np.isfinite(mean).sum() < 3:
                alike = getattr(self, "alike", {})
                return {**alike, **{names[i]: float(v) for i, v in enumerate(mean) if np.isfinite(v)}}
            worst = int(odd[np.argmin(mean[odd])])
            self.alike = {**getattr(self, "alike", {}), names[worst]: float(mean[worst])}
            self.wrong.append(names[worst])
            self._without.append(names[worst])

    def _surface(self, t: int) -> tuple[Float32, Float64, float]:
        """Vertices (V, 3) of the face as it is known, head space in metres; the way and unit to the world."""
        if isinstance(self._head, HeadModel):
            vertices = self._rig.positions(slice(t, t + 1))[0]
        else:
            code = self._near.motion.expressions[t : t + 1]
            field = self._head.field(self._near.motion.identity)
            vertices = next(iter(self._head.track(field, code, self._neutral, self._faces)))[0] * np.float32(
                HEAD_UNIT_METRES
            )
        back = np.linalg.inv(self._near.poses[t])
        unit = 1 / (HEAD_UNIT_METRES * np.cbrt(np.linalg.det(self._near.poses[t][:3, :3])))
        return vertices, back, float(unit)

    def _swept(self, t: int) -> tuple[Float64, Float64]:
        """Points of a frame, and how alike each camera is to the others."""
        alike = np.full(len(self._photos.names), np.nan)
        pictures, numbers, _ = self._photos.frame(t, self._without)
        if len(pictures) < 2:
            return np.zeros((0, 3)), alike
        vertices, back, unit = self._surface(t)
        normals = np.asarray(vertex_normals(vertices, self._faces), np.float64)
        world = _moved(vertices, back)
        # Normals turn as the world does; its unit may be another.
        normals = normals @ (back[:3, :3] / np.cbrt(np.linalg.det(back[:3, :3]))).T
        skin = self._skin & (np.linalg.norm(vertices - self._marks[t, 17:].mean(0), axis=1) < _FACE_M)
        slits = cKDTree(self._marks[t][[*range(36, 48), *range(60, 68)]])
        skin &= slits.query(vertices)[0] > _APART_M
        chosen = np.random.default_rng(t).permutation(np.flatnonzero(skin))[:_SAMPLES]
        usual = SweepOptions()
        options = SweepOptions(reach=self._reach_m * unit, step=usual.step * unit, apart=usual.apart * unit)
        found = sweep(pictures, world[chosen], normals[chosen], world, options)
        alike[numbers] = found.alike
        return found.points, alike

    def _outlines(self, t: int) -> Float64:
        """Points where rays through the border of a mask come nearest to the surface."""
        pictures, _, masks = self._photos.frame(t, self._without)
        if all(mask is None for mask in masks):
            return np.zeros((0, 3))
        vertices, back, unit = self._surface(t)
        code = torch.from_numpy(self._near.motion.expressions[t])
        found = [
            outline(self._field, code, self._near.poses[t], back, one.camera, mask, vertices, unit)
            for one, mask in zip(pictures, masks, strict=True) if mask is not None
        ]  # fmt: skip
        return np.concatenate(found)


def outline(
    field: DifferentiableField,
    code: torch.Tensor,
    pose: Float64,
    back: Float64,
    camera: Camera,
    mask: Bool,
    vertices: Float32,
    unit: float,
) -> Float64:
    """World points (N, 3) of the rays through a mask's border, where they come nearest to the surface.

    There the surface has to be: the least distance along a ray that only touches it is 0, and as the place of
    a minimum does not count for its derivative, the distance at this point has the derivatives of the
    silhouette (L. Yariv et al., "Multiview neural surface reconstruction", NeurIPS 2020, section 3.2).

    Args:
        field: of the identity.
        code: (E,) expression.
        pose: (4, 4) from the world to head space.
        back: (4, 4) its inverse.
        camera: of the mask.
        mask: (H, W) whether a pixel is the head's.
        vertices: (V, 3) of the surface that it is looked for around, head space in metres.
        unit: world units of a metre.
    """
    pixels = _border(mask)
    if not len(pixels):
        return np.zeros((0, 3))
    pixels = np.random.default_rng(0).permutation(pixels)[:_OUTLINE]
    there, depth = camera.project(_moved(vertices, back))
    usable = (depth > 0) & (vertices[:, 1] > vertices[:, 1].min() + _NECK_M)
    if not usable.any():
        return np.zeros((0, 3))
    off, which = cKDTree(there[usable]).query(pixels)
    pixels, ahead = pixels[off < _NEAR_PX], depth[usable][which[off < _NEAR_PX]]
    if not len(pixels):
        return np.zeros((0, 3))
    one = camera.lift(pixels, np.ones(len(pixels)))
    way = one - camera.centre
    along = ahead[:, None] + unit * _ALONG
    places = camera.centre + along[..., None] * way[:, None]
    inside = (places @ pose[:3, :3].T + pose[:3, 3]).astype(np.float32)
    flat = torch.from_numpy(inside.reshape(-1, 3))
    values = field.bound.evaluate(flat, code.float()[None], "sdf")[0].numpy().reshape(inside.shape[:2])
    best = values.argmin(1)
    inner = (best > 0) & (best < len(_ALONG) - 1)
    rows = np.arange(len(best))
    at = best.clip(1, len(_ALONG) - 2)
    a, b, c = values[rows, at - 1], values[rows, at], values[rows, at + 1]
    share = ((a - c) / (2 * np.maximum(a - 2 * b + c, 1e-9))).clip(-1, 1)
    step = unit * (_ALONG[1] - _ALONG[0])
    found = camera.centre + (along[rows, at] + share * step)[:, None] * way
    kept = inner & (np.abs(b) < _NEAR_M / HEAD_UNIT_METRES)
    low = (vertices[:, 1].min() + _NECK_M) / HEAD_UNIT_METRES
    kept &= (found @ pose[:3, :3].T + pose[:3, 3])[:, 1] > low
    return np.asarray(found[kept])


def _border(mask: Bool) -> Float64:
    """Pixels (N, 2), between those of a head and those that are not."""
    found = []
    for axis in (0, 1):
        low, high = mask[:-1] if axis == 0 else mask[:, :-1], mask[1:] if axis == 0 else mask[:, 1:]
        rows, columns = np.nonzero(low != high)
        half = np.array([0.0, 0.5]) if axis == 0 else np.array([0.5, 0.0])
        found.append(np.stack([columns, rows], axis=1) + half)
    return np.concatenate(found)


def _moved(points: Float32, back: Float64) -> Float64:
    """World points of points in head space, metres."""
    return np.asarray((points.astype(np.float64) / HEAD_UNIT_METRES) @ back[:3, :3].T + back[:3, 3])
