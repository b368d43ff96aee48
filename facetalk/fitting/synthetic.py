"""Captures whose truth is known: heads as scanners on an arc would see them, with noise and outliers."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import ArrayLike

from facetalk.ambient import plainly
from facetalk.arrays import Float32, Float64
from facetalk.fitting.cameras import Camera
from facetalk.fitting.differentiable import DifferentiableField
from facetalk.fitting.options import MM
from facetalk.units import HEAD_UNIT_METRES

_DISTANCE = 2.6  # head units from the head's middle to a scanner
_SPAN = math.radians(130)  # of the arc, as wide as NeRSemble's (T. Kirschstein et al., SIGGRAPH 2023)
_STEPS = 48
_SHARE = 0.8  # of the distance that a ray goes on by, since learned distances are a little steep
_HIT = 0.1 * MM


@plainly
@torch.no_grad()
def scan(
    field: DifferentiableField,
    code: ArrayLike,
    *,
    views: int = 16,
    points: int = 6000,
    noise_mm: float = 0.0,
    outliers: float = 0.0,
    seed: int = 0,
) -> Float32:
    """Points (N, 3), head space, of the surface as scanners see it: by sphere tracing.

    Args:
        field: of the person.
        code: (E,) expression.
        views: scanners on an arc before the face.
        points: rays that are sent; those that meet nothing give no point.
        noise_mm: standard deviation of normal noise along every axis.
        outliers: share of the points that are displaced by 30 mm in the mean.
        seed: of rays, noise and outliers.
    """
    generator = torch.Generator().manual_seed(seed)
    expression = torch.as_tensor(np.asarray(code, np.float32))
    middle = field.bound.source.anchors.mean(0)
    angle = _SPAN * (torch.arange(views) / max(1, views - 1) - (0.5 if views > 1 else 0.0))
    which = torch.randint(views, (points,), generator=generator)
    height = 0.5 * torch.sin(2.4 * angle)  # some from below, some from above
    eyes = torch.stack([torch.sin(angle), height, torch.cos(angle)], 1)
    eyes = middle + _DISTANCE * eyes / eyes.norm(dim=1, keepdim=True)
    # Through points all over the head, wherever those are: what is seen first along the ray counts.
    aims = middle + torch.tensor([0.3, 0.42, 0.2]) * torch.randn(points, 3, generator=generator)
    at = eyes[which]
    ray = torch.nn.functional.normalize(aims - at, dim=1)
    along = torch.full((points,), _DISTANCE - 1.0)
    for _ in range(_STEPS):
        along = along + _SHARE * _values(field, at + along[:, None] * ray, expression)
    found = at + along[:, None] * ray
    hit = (_values(field, found, expression).abs() < _HIT) & ((found - middle).norm(dim=1) < 1.0)
    found = found[hit]
    found = found + noise_mm * MM * torch.randn(found.shape, generator=generator)
    bad = torch.rand(len(found), generator=generator) < outliers
    found[bad] += 30 * MM / math.sqrt(3) * torch.randn(int(bad.sum()), 3, generator=generator)
    return found.numpy()


@plainly
@torch.no_grad()
def depth_map(field: DifferentiableField, code: ArrayLike, camera: Camera, shape: tuple[int, int]) -> Float64:
    """Distance along z (H, W), metres, 0 where a camera sees nothing; the world is head space in metres.

    Args:
        field: of the person.
        code: (E,) expression.
        camera: in metres.
        shape: H, W.
    """
    expression = torch.as_tensor(np.asarray(code, np.float32))
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    pixels = np.stack([columns.ravel(), rows.ravel()], axis=1)
    start, end = (camera.lift(pixels, np.full(len(pixels), z)) for z in (0.0, 1.0))
    at = torch.from_numpy((start / HEAD_UNIT_METRES).astype(np.float32))
    ray = torch.from_numpy(((end - start) / HEAD_UNIT_METRES).astype(np.float32))
    length = ray.norm(dim=1)
    middle = field.bound.source.anchors.mean(0)
    along = (float((at[0] - middle).norm()) - 1.0) / length
    for _ in range(_STEPS):
        along = along + _SHARE * _values(field, at + along[:, None] * ray, expression) / length
    found = at + along[:, None] * ray
    hit = (_values(field, found, expression).abs() < _HIT) & ((found - middle).norm(dim=1) < 1.0)
    return np.where(hit.numpy(), along.double().numpy(), 0.0).reshape(shape)


def _values(field: DifferentiableField, points: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
    return field.bound.evaluate(points.contiguous(), code[None], "sdf")[0]
