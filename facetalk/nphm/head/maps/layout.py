"""Where the template's surface lies on the pictures of its materials, and what lies under each texel.

The texture coordinates are the template's own, tile by tile, moved and scaled into one picture for each
material; only eyeballs, whose iris would get a hundredth of its tile, have a disc that is stretched outwards.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from facetalk.arrays import AnyFloat, Bool, Float32, Int32, Int64, UInt8
from facetalk.mesh.materials import EYES, MATERIAL_OF_PART, SKIN, TEETH
from facetalk.nphm.head.maps.cover import covered
from facetalk.nphm.head.regions import Region
from facetalk.nphm.head.template_mesh import TemplateMesh

__all__ = ["Ground", "bytes_of", "eye_angle", "ground", "picture_size", "placed", "quarter", "spread"]

Box = tuple[float, float, float, float]
"""Left, bottom, right, top."""

_GAP = 0.006
# Tile coordinates, and where on the skin's picture they go.
_FACE: tuple[Box, Box] = ((0.0, 0.0746, 1.0, 0.9958), (0.0, 0.25 + _GAP, 1.0, 1.0 - _GAP))
_SCALP: tuple[Box, Box] = ((1.14, 0.243, 1.85, 0.996), (_GAP, _GAP, 0.50, 0.25 - _GAP))
_MOUTH: tuple[Box, Box] = ((1.018, 0.708, 1.243, 0.980), (0.51, _GAP, 0.74, 0.25 - _GAP))
_SOCKETS: tuple[Box, Box] = ((1.725, 0.841, 1.984, 0.974), (0.75, 0.13, 1.0 - _GAP, 0.25 - _GAP))
_LASHES: tuple[Box, Box] = ((6.0, 0.1, 7.0, 0.46), (0.76, 0.02, 0.86, 0.11))
_CAP: Box = (0.89, 0.02, 0.98, 0.11)

# Of the eyeball's half tile: polar angle in degrees, and radius on the picture.
_EYE_ANGLES = np.array([0.0, 24.0, 60.0, 100.0, 180.0])
_EYE_RADII = np.array([0.0, 0.24, 0.42, 0.47, 0.49])


@dataclasses.dataclass(frozen=True)
class Ground:
    """What of the template lies under the texels of a picture.

    Attributes:
        shape: height and width of the picture; rows from the top.
        texels: (N,) numbers of the texels that a face covers.
        corners: (N, 3) vertices of the template.
        weights: (N, 3) float32 of these, at least 0 and 1 in sum.
    """

    shape: tuple[int, int]
    texels: Int32
    corners: Int32
    weights: Float32

    def part(self, rows: slice) -> Ground:
        """Some of the texels."""
        return dataclasses.replace(
            self, texels=self.texels[rows], corners=self.corners[rows], weights=self.weights[rows]
        )

    def of(self, values: AnyFloat) -> Float32:
        """(N, ...) values of vertices (V, ...) at the texels."""
        flat = np.asarray(values, np.float32)
        w = self.weights if flat.ndim == 1 else self.weights[:, :, None]
        out: Float32 = flat[self.corners[:, 0]] * w[:, 0]
        out += flat[self.corners[:, 1]] * w[:, 1]
        out += flat[self.corners[:, 2]] * w[:, 2]
        return out

    def picture(self, values: Float32) -> Float32:
        """(h, w) or (h, w, k) picture of values (N,) or (N, k); what no face covers is filled from around."""
        out = np.zeros((self.shape[0] * self.shape[1], *values.shape[1:]), np.float32)
        out[self.texels] = values
        covered = np.zeros(len(out), bool)
        covered[self.texels] = True
        out = out.reshape(*self.shape, *values.shape[1:])
        return spread(out, covered.reshape(self.shape))


def picture_size(material: str, size: int) -> tuple[int, int]:
    """Height and width of a material's colours, given the side of the skin's."""
    return {SKIN.name: (size, size), EYES.name: (size // 2, size // 2), TEETH.name: (size // 4, size // 2)}[
        material
    ]


def placed(mesh: TemplateMesh) -> Float32:
    """(U, 2) places in [0, 1] of the template's texture vertices on the picture of their material."""
    uv, region = mesh.uv.astype(np.float64), mesh.region[mesh.uv_vertex]
    tile = np.floor(uv[:, 0] + 1e-6).astype(int)
    out = np.zeros_like(uv)
    second = tile == 1
    island = _islands(mesh.corners[0], len(uv))
    mouth, sockets = (
        second & np.isin(island, island[second & (region == kind)])
        for kind in (Region.MOUTH, Region.EYE_SOCKET)
    )
    for rows, (source, target) in (
        (tile == 0, _FACE), (second & ~mouth & ~sockets, _SCALP), (mouth, _MOUTH), (sockets, _SOCKETS),
        (tile == 6, _LASHES), (tile == 2, ((2.0, 0.0, 3.0, 1.0), (0.0, 0.0, 0.5, 1.0))),
        (tile == 3, ((3.0, 0.0, 4.0, 1.0), (0.5, 0.0, 1.0, 1.0))),
    ):  # fmt: skip
        low, high = np.array(source[:2]), np.array(source[2:])
        start, end = np.array(target[:2]), np.array(target[2:])
        out[rows] = start + (uv[rows] - low) / (high - low) * (end - start)
    # The disc that closes the neck has no place of its own in the layout: it lies there as seen from below.
    cap = region == Region.NECK_CAP
    if cap.any():
        flat = mesh.vertices[mesh.uv_vertex[cap]][:, [0, 2]].astype(np.float64)
        span = max(float(np.ptp(flat, axis=0).max()), 1e-9)
        flat = (flat - flat.min(axis=0)) / span * [1.0, -1.0] + [0.0, 1.0]
        out[cap] = np.array(_CAP[:2]) + flat * (np.array(_CAP[2:]) - np.array(_CAP[:2]))
    eyes = region == Region.EYEBALL
    arm = uv[eyes] - np.where(uv[eyes, :1] > 4.5, [[4.75, 0.25]], [[4.25, 0.25]])
    length = np.linalg.norm(arm, axis=1, keepdims=True)
    radius = np.interp(length * 720.0, _EYE_ANGLES, _EYE_RADII)  # a quarter of the tile is 180 degrees
    out[eyes] = 0.5 + arm / np.maximum(length, 1e-12) * radius
    return np.clip(out, 0.0, 1.0).astype(np.float32)


def _islands(corners: Int32, count: int) -> Int64:
    """(count,) number of the island, triangles (F, 3) that hang together, of each texture vertex."""
    label = np.arange(count)
    while True:
        before = label.copy()
        np.minimum.at(label, corners.reshape(-1), label[corners].min(axis=1).repeat(3))
        label = label[label]
        if (label == before).all():
            return label


def eye_angle(side: int, texels: slice) -> tuple[Float32, Float32]:
    """Polar angle in degrees, and turn in radians, of some texels of an eyeball's picture (side, side)."""
    at = (np.arange(side) + 0.5) / side - 0.5
    row, column = np.divmod(np.arange(side * side)[texels], side)
    x, y = at[column], -at[row]
    radius = np.hypot(x, y)
    return np.interp(radius, _EYE_RADII, _EYE_ANGLES).astype(np.float32), np.arctan2(y, x).astype(np.float32)


def ground(mesh: TemplateMesh, uv: Float32, material: str, shape: tuple[int, int]) -> Ground:
    """What lies under the texels of a material's picture.

    Args:
        mesh: template.
        uv: (U, 2) of :func:`placed`.
        material: its name.
        shape: height and width.
    """
    names = np.array([m.name for m in MATERIAL_OF_PART])[mesh.part]
    faces = mesh.faces()
    mine = (names[faces] == material).all(axis=1)
    number, weights, texels = covered(uv[mesh.corners[0][mine]], shape)
    return Ground(shape, texels, faces[mine][number], weights)


def bytes_of(color: AnyFloat) -> UInt8:
    """Colours as even bytes: nobody sees the last bit, and noise in it would be a quarter of a file."""
    return (2 * np.clip(np.rint(0.5 * color), 0, 127)).astype(np.uint8)


def quarter(amount: Float32) -> UInt8:
    """(h / 4, w / 4) bytes of amounts (h, w) in [0, 1], of which 0 becomes the least above it."""
    h, w = amount.shape
    small = amount.reshape(h // 4, 4, w // 4, 4).mean(axis=(1, 3))
    return np.clip(np.rint(255.0 * small), 1, 255).astype(np.uint8)


def spread(picture: Float32, covered: Bool) -> Float32:
    """A picture whose uncovered texels have the mean of what is covered near them, finer where it is nearer.

    Pyramids down and up (push and pull; Gortler et al., "The Lumigraph", SIGGRAPH 1996): mip-maps take what
    lies beyond an island's edge, which must not be another colour.
    """
    if covered.all() or not covered.any():
        return picture
    flat = picture.reshape(*picture.shape[:2], -1)
    known, values, weights = covered, [flat], [covered.astype(np.float32)[..., None]]
    while min(known.shape) > 1:
        v, w = _halved(values[-1] * weights[-1]), _halved(weights[-1])
        known = w[..., 0] > 0.0
        values.append((v / np.maximum(w, 1e-12)).astype(np.float32, copy=False))
        weights.append(known.astype(np.float32)[..., None])
    filled = values[-1]
    for v, w in zip(values[-2::-1], weights[-2::-1], strict=True):
        row, column = np.nonzero(w[..., 0] == 0.0)  # few: islands fill most of the picture
        finer = v.copy() if v is flat else v
        finer[row, column] = filled[row // 2, column // 2]
        filled = finer
    return np.ascontiguousarray(filled.reshape(picture.shape))


def _halved(picture: Float32) -> Float32:
    top, bottom = picture[::2], picture[1::2]
    out: Float32 = 0.25 * (top[:, ::2] + top[:, 1::2] + bottom[:, ::2] + bottom[:, 1::2])
    return out
