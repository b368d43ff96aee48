"""Points of a face in pictures: a plane sweep around the surface that it is known to be near.

Every sample of the surface is moved along its normal; at each place a patch of its tangent plane is looked up
in the cameras that see it best, and where these patches are most alike, by normalised cross-correlation, is
the skin (R. T. Collins, "A space-sweep approach to true multi-image matching", CVPR 1996; here each sample
has a plane of its own). Of the pairs of cameras the better three quarters are asked, so that one that is
covered, or stands elsewhere than it is said to, does not decide.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from facetalk.ambient import plainly
from facetalk.arrays import Bool, Float32, Float64
from facetalk.fitting.cameras import Camera

__all__ = ["Picture", "SweepOptions", "Swept", "sweep", "visible"]

_CELL = 42  # of a picture's width, cells in which what is in front hides what is behind
_HIDDEN = 0.05  # of the surface's extent, 12 mm of a head
_BLOCK = 512  # samples at a time
_NEIGHBOURS = 9
_FLAT = 6.0  # grey levels: patches with less contrast are noise
_PAIRS = 0.75  # share of the pairs of cameras that is asked
_FEWEST = 40  # samples that say something of a camera


@dataclasses.dataclass(frozen=True)
class Picture:
    """What a camera took of a frame.

    Attributes:
        camera: the camera.
        grey: (H, W) brightness.
    """

    camera: Camera
    grey: Float32


@dataclasses.dataclass(frozen=True)
class SweepOptions:
    """How far and how fine; lengths in the world's unit, for metres.

    Attributes:
        reach: to either side of the surface.
        step: between two places.
        side: samples along a patch's side.
        cameras: that look at a sample, at most.
        slant: cosine of the angle to the normal, from which on a camera looks at it.
        alike: correlation from which on patches are the same skin.
        apart: how much a place may differ from the median of its neighbours'.
        wrong: share of the other cameras' mean correlation, below which a camera is taken to be wrong.
    """

    reach: float = 0.008
    step: float = 0.001
    side: int = 5
    cameras: int = 7
    slant: float = 0.4
    alike: float = 0.6
    apart: float = 0.002
    wrong: float = 0.6


@dataclasses.dataclass(frozen=True)
class Swept:
    """Points that were found.

    Attributes:
        points: (N, 3) world.
        confidence: (N,) mean correlation of the patches, 0..1.
        samples: of the surface that were looked for.
        alike: (V,) mean correlation of each camera with the others where points are; NaN where it saw few.
    """

    points: Float64
    confidence: Float64
    samples: int
    alike: Float64


@plainly
def sweep(
    pictures: Sequence[Picture],
    samples: Float64,
    normals: Float64,
    surface: Float64,
    options: SweepOptions | None = None,
) -> Swept:
    """Find skin near a surface.

    Args:
        pictures: of V cameras at one moment.
        samples: (M, 3) points of the surface, world.
        normals: (M, 3) outward ones, of unit length.
        surface: (S, 3) points all over the surface, close together, which hide what is behind them.
        options: see there.
    """
    options = options or SweepOptions()
    seen = np.stack([visible(one, samples, normals, surface, options.slant) for one in pictures])
    chosen = _chosen(pictures, samples, normals, seen, options.cameras)
    steps = np.arange(-options.reach, options.reach + options.step / 2, options.step)
    # Far enough out that neighbours in the picture are neighbours in the patch.
    size = _footprint(pictures, samples)
    ways = torch.from_numpy(steps)
    score, share = [], []
    for first in range(0, len(samples), _BLOCK):
        rows = slice(first, first + _BLOCK)
        found = _alike(pictures, samples[rows], normals[rows], chosen[rows], steps, size, options.side)
        score.append(found[0])
        share.append(found[1])
    curves, each = torch.cat(score), torch.cat(share)  # (M, D), (M, D, K)
    best = curves.argmax(1)
    inner = (best > 0) & (best < len(steps) - 1)
    at = best.clamp(1, len(steps) - 2)
    a, b, c = (curves.gather(1, (at + i)[:, None])[:, 0] for i in (-1, 0, 1))
    bend = (2 * b - a - c).clamp(min=1e-6)
    moved = ways[at] + options.step * ((c - a) / (2 * bend)).clamp(-1, 1).double()
    good = (inner & (b >= options.alike)).numpy()
    moved_by = moved.numpy()
    good &= _agrees(samples, moved_by, good, options.apart)
    points = samples + moved_by[:, None] * normals
    by_camera = each[torch.arange(len(at)), at].numpy()
    alike = np.full(len(pictures), np.nan)
    for v in range(len(pictures)):
        told = by_camera[(chosen == v) & good[:, None]]
        told = told[np.isfinite(told)]
        if len(told) >= _FEWEST:
            alike[v] = told.mean()
    return Swept(points[good], b.double().numpy()[good].clip(0, 1), len(samples), alike)


def visible(picture: Picture, samples: Float64, normals: Float64, surface: Float64, slant: float) -> Bool:
    """(M,) whether samples face a camera, lie in its picture, and nothing of the surface is before them."""
    camera = picture.camera
    height, width = picture.grey.shape
    cell = max(2.0, width / _CELL)
    pixels, ahead = camera.project(samples)
    there, depth = camera.project(surface)
    shape = (int(height / cell) + 2, int(width / cell) + 2)
    nearest = np.full(shape, np.inf)
    inside = _inside(there, depth, width, height)
    cells = (there[inside] / cell).astype(int)
    np.minimum.at(nearest, (cells[:, 1], cells[:, 0]), depth[inside])
    way = camera.centre - samples
    cosine = (way * normals).sum(1) / np.linalg.norm(way, axis=1)
    shown = _inside(pixels, ahead, width, height) & (cosine >= slant)
    cells = np.where(shown[:, None], pixels / cell, 0).astype(int)
    extent = float(np.linalg.norm(np.ptp(surface, axis=0)))
    return np.asarray(shown & (ahead < nearest[cells[:, 1], cells[:, 0]] + _HIDDEN * extent / 1.7))


def _inside(pixels: Float64, ahead: Float64, width: int, height: int) -> Bool:
    with np.errstate(invalid="ignore"):
        return np.asarray(
            (ahead > 0)
            & (pixels[:, 0] >= 0) & (pixels[:, 0] <= width - 1)
            & (pixels[:, 1] >= 0) & (pixels[:, 1] <= height - 1)
        )  # fmt: skip


def _chosen(
    pictures: Sequence[Picture], samples: Float64, normals: Float64, seen: Bool, most: int
) -> np.ndarray:
    """(M, K) numbers of the cameras that look at each sample most from the front, -1 for none."""
    cosine = np.full(seen.shape, -np.inf)
    for v, picture in enumerate(pictures):
        way = picture.camera.centre - samples
        cosine[v] = np.where(seen[v], (way * normals).sum(1) / np.linalg.norm(way, axis=1), -np.inf)
    order = np.argsort(-cosine, axis=0, kind="stable")[:most].T
    return np.where(np.isfinite(np.take_along_axis(cosine.T, order, axis=1)), order, -1)


def _footprint(pictures: Sequence[Picture], samples: Float64) -> float:
    """Length of a pixel at the surface."""
    lengths = [
        np.median(one.camera.project(samples)[1]) / np.sqrt(abs(np.linalg.det(one.camera.K[:2, :2])))
        for one in pictures
    ]
    return float(np.median(np.abs(lengths)))


def _alike(
    pictures: Sequence[Picture],
    samples: Float64,
    normals: Float64,
    chosen: np.ndarray,
    steps: Float64,
    size: float,
    side: int,
) -> tuple[Tensor, Tensor]:
    """(M, D) how alike patches are, and (M, D, K) how alike each camera's is to the others'; NaN for none."""
    count, depths, cameras = len(samples), len(steps), chosen.shape[1]
    places = samples[:, None] + steps[:, None] * normals[:, None]
    across, down = _tangents(normals)
    grid = (torch.arange(side) - (side - 1) / 2).float()
    one, other = torch.meshgrid(grid, grid, indexing="ij")
    patches = torch.full((count, depths, cameras, side * side), torch.nan)
    for v, picture in enumerate(pictures):
        rows, slots = np.nonzero(chosen == v)
        if not len(rows):
            continue
        middle = places[rows].reshape(-1, 3)
        flat, _ = picture.camera.project(middle)
        # A patch is small: the picture of its plane is taken to be affine.
        slopes = [
            picture.camera.project(middle + size * np.repeat(way[rows], depths, axis=0))[0] - flat
            for way in (across, down)
        ]
        centre, du, dv = (torch.from_numpy(a.astype(np.float32)) for a in (flat, *slopes))
        at = centre[:, None] + one.reshape(-1, 1) * du[:, None] + other.reshape(-1, 1) * dv[:, None]
        height, width = picture.grey.shape
        at = 2 * at / torch.tensor([width - 1.0, height - 1.0]) - 1
        grey = torch.from_numpy(picture.grey)[None, None]
        values = torch.nn.functional.grid_sample(grey, at[None], align_corners=True)[0, 0]
        patches[torch.from_numpy(rows), :, torch.from_numpy(slots)] = values.view(len(rows), depths, -1)
    patches = patches - patches.mean(-1, keepdim=True)
    contrast = patches.norm(dim=-1, keepdim=True)
    patches = patches / torch.where(contrast > _FLAT * side, contrast, torch.nan)
    there = torch.isfinite(patches[..., 0])
    patches = torch.nan_to_num(patches)
    alike = patches @ patches.transpose(-1, -2)  # (M, D, K, K)
    pair = there[..., :, None] & there[..., None, :]
    pair &= ~torch.eye(cameras, dtype=torch.bool)
    first, second = torch.triu_indices(cameras, cameras, 1)
    pairs = torch.where(pair, alike, -torch.inf)[..., first, second].sort(-1, descending=True).values
    asked = (_PAIRS * torch.isfinite(pairs).sum(-1, keepdim=True)).ceil()
    use = torch.arange(pairs.shape[-1]) < asked
    # All depths of a sample are judged by as many pairs.
    score = torch.where(use, pairs, 0.0).sum(-1) / asked[..., 0].clamp(min=1)
    score = torch.where(asked[..., 0] >= 1, score, -1.0)
    each = torch.where(pair, alike, 0.0).sum(-1) / pair.sum(-1).clamp(min=1)
    return score, torch.where(pair.any(-1), each, torch.nan)


def _tangents(normals: Float64) -> tuple[Float64, Float64]:
    """Two (M, 3) directions at right angles in the tangent planes."""
    upright = np.where(np.abs(normals[:, 1:2]) < 0.9, [[0.0, 1.0, 0.0]], [[1.0, 0.0, 0.0]])
    across = np.cross(upright, normals)
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    return across, np.cross(normals, across)


def _agrees(samples: Float64, moved: Float64, good: Bool, apart: float) -> Bool:
    """(M,) whether a sample has moved as most of its neighbours have."""
    out = np.zeros(len(samples), bool)
    rows = np.flatnonzero(good)
    if len(rows) <= _NEIGHBOURS:
        return out
    _, near = cKDTree(samples[rows]).query(samples[rows], _NEIGHBOURS)
    out[rows] = np.abs(moved[rows] - np.median(moved[rows][near], axis=1)) <= apart
    return out
