"""A contact sheet of a fit: the fitted face of some frames, and the scan over it, coloured by distance."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike

from facetalk.ambient import plainly
from facetalk.arrays import Float32, Float64, UInt8
from facetalk.files import atomic_path
from facetalk.fitting.differentiable import DifferentiableField
from facetalk.fitting.options import MM
from facetalk.fitting.sequence import Fit, Model, as_head
from facetalk.metrics.images import face_crops, face_view
from facetalk.nphm.head.head import HeadModel
from facetalk.nphm.lattice import DEFAULT_BOUNDS
from facetalk.optional import needed_for
from facetalk.posing import landmarks, rigged, tracked
from facetalk.units import HEAD_UNIT_METRES

__all__ = ["contact_sheet", "write_sheet"]

_SIZE = 240  # pixels of a picture's side
_LEVEL = 2  # of detail
_MOST = 4000  # points of a scan that are drawn
_HIDDEN = 0.012  # metres behind what is in front of it, from where a point is not drawn
_CELL = 6  # pixels
_NEAR, _FAR = np.array([40.0, 200.0, 80.0]), np.array([235.0, 40.0, 30.0])  # of 0 mm, and of `_FAR_MM` on
_FAR_MM = 3.0


@plainly
def contact_sheet(frames: Sequence[ArrayLike], fit: Fit, model: Model, shown: Sequence[int]) -> UInt8:
    """Pictures of chosen frames side by side: above the scan's points on the fitted face, below the face.

    Points are green where they lie on it, red from 3 mm on.

    Args:
        frames: the capture's points, as they were fitted.
        fit: what became of them.
        model: that it was fitted with.
        shown: numbers of frames, at least one.

    Returns:
        (2 S, n S, 3) uint8 sRGB, S pixels a side.
    """
    head, code = as_head(model), fit.motion.identity
    some = dataclasses.replace(fit.motion, expressions=fit.motion.expressions[list(shown)])
    if isinstance(head, HeadModel):
        faces = face_crops(rigged(head, some, None, _LEVEL), _rest(head, fit), size=_SIZE)
    else:
        faces = face_crops(tracked(head, some, None, _LEVEL, DEFAULT_BOUNDS), _rest(head, fit), size=_SIZE)
    camera, focal = face_view(_rest(head, fit), _SIZE)
    field = DifferentiableField(head.nphm, code)
    columns = []
    for face, t in zip(faces, shown, strict=True):
        scan = np.asarray(frames[t], np.float64)
        scan = scan[np.random.default_rng(0).permutation(len(scan))[:_MOST]]
        points: Float32 = (scan @ fit.poses[t, :3, :3].T + fit.poses[t, :3, 3]).astype(np.float32)
        off = field.slopes(torch.from_numpy(points), torch.from_numpy(fit.motion.expressions[t])).value
        off_mm: Float32 = (off.abs() / MM).numpy()
        over = _dotted(face, np.float32(HEAD_UNIT_METRES) * points, off_mm, camera, focal)
        columns.append(np.concatenate([over, face]))
    return np.concatenate(columns, axis=1)


def write_sheet(
    path: Path, frames: Sequence[ArrayLike], fit: Fit, model: Model, *, most: int = 8
) -> list[int]:
    """Write a sheet as .png: frames that the report flags, and others evenly, in order.

    Returns:
        the frames that are on it.

    Raises:
        InputError: there is no Pillow, or the place cannot be written to.
    """
    with needed_for("a contact sheet", "fit"):
        from PIL import Image, ImageDraw
    count = len(fit.motion)
    flagged = fit.report.flagged[:: max(1, -(-len(fit.report.flagged) // (most // 2)))]
    even = np.linspace(0, count - 1, min(most, count) - len(flagged)).round().astype(int).tolist()
    shown = sorted({*flagged, *even})
    picture = Image.fromarray(contact_sheet(frames, fit, model, shown))
    pen = ImageDraw.Draw(picture)
    for column, t in enumerate(shown):
        mark = "  look" if t in fit.report.flagged else ""
        pen.text((column * _SIZE + 6, 4), f"{t}: {fit.report.median_mm[t]:.2f} mm{mark}", fill="white")
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        picture.save(file, "PNG")
    return shown


def _rest(head: object, fit: Fit) -> Float32:
    """Landmarks (68, 3) of the face with a code of zeros, metres."""
    still = dataclasses.replace(fit.motion, expressions=np.zeros_like(fit.motion.expressions[:1]))
    return landmarks(head, still, None)[0]  # type: ignore[arg-type]


def _dotted(face: UInt8, points: Float32, off_mm: Float32, camera: Float32, focal: float) -> UInt8:
    """A picture with points (N, 3), metres, drawn over it, the nearest last."""
    size = len(face)
    seen = points @ camera[:, :3].T + camera[:, 3]
    ahead = -seen[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        x = size / 2 + focal * seen[:, 0] / ahead
        y = size / 2 - focal * seen[:, 1] / ahead
    inside = (ahead > 0.01) & (x >= 1) & (x < size - 1) & (y >= 1) & (y < size - 1)
    column, row = x[inside].astype(np.int64), y[inside].astype(np.int64)
    ahead, off = ahead[inside], off_mm[inside]
    nearest = np.full((size // _CELL + 1, size // _CELL + 1), np.inf)
    np.minimum.at(nearest, (row // _CELL, column // _CELL), ahead)
    shown = ahead < nearest[row // _CELL, column // _CELL] + _HIDDEN
    out = (face.astype(np.float64) * 0.55).astype(np.uint8)
    share: Float64 = np.clip(off[shown] / _FAR_MM, 0.0, 1.0)[:, None]
    colors = ((1 - share) * _NEAR + share * _FAR).astype(np.uint8)
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
        out[row[shown] + dy, column[shown] + dx] = colors
    return out
