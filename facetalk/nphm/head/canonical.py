"""The canonical mesh of one identity: from its neural distance to a mesh that can be posed.

Marching cubes on a grid that is refined only around the surface, small floating pieces dropped, simplified in
zones (lips and lids keep their triangles), moved onto the zero set by Newton steps, cut where parts meet, so
that no triangle ties a lid to an eyeball, painted, and completed by eyeballs that are round behind the lids
too.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic as clock
from typing import Protocol

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree
from tqdm import tqdm

from facetalk import ops
from facetalk.arrays import AnyInt, Bool, Float32, Int32, Int64, UInt8
from facetalk.mesh import surgery
from facetalk.mesh.mesh import CanonicalMesh
from facetalk.nphm.head.albedo import PALETTE, eyeball, paint
from facetalk.nphm.head.hair import with_hair
from facetalk.nphm.head.parts import CLASS_PART, Part, SurfaceClass
from facetalk.nphm.head.tables import HeadTables

__all__ = ["Shape", "build_canonical"]

# Face budgets of the zones: lips, lids and brows, front of the face with the inside of the mouth, the rest.
_BUDGET = (26000, 26000, 8000)
_LEVELS = 3
"""How often the first grid is refined."""
_STAGES = _LEVELS + 5


class Shape(Protocol):
    """What is asked of an identity to make its mesh; :class:`facetalk.nphm.head.person.Person` answers."""

    @property
    def tables(self) -> HeadTables:
        """The head without its networks."""

    def distance(self, points: Float32) -> Float32:
        """Signed distance (N,) of points (N, 3)."""

    def project(self, points: Float32) -> Float32:
        """Points (N, 3) moved onto the zero set."""

    def eyeballs(self) -> tuple[Float32, Float32]:
        """Centres (2, 3) and radii (2,)."""

    def landmarks(self) -> Float32:
        """Landmarks (68, 3) on the surface."""

    def template_points(self, points: Float32, part: AnyInt) -> Float32:
        """Where points (N, 3) of moving parts (N,) lie on the mean head."""

    def surface_logits(self, points: Float32, part: AnyInt) -> Float32:
        """Logits (N, classes) of the surface classes."""


def build_canonical(
    shape: Shape,
    *,
    cell: float = 0.003,
    budget: tuple[int, int, int] = _BUDGET,
    seconds: float | None = None,
) -> CanonicalMesh:
    """Extract, simplify, label and paint the canonical mesh of an identity.

    Args:
        shape: the identity.
        cell: of the marching cubes, head units (0.003 = 0.75 mm).
        budget: faces kept at lips and lids, in the front of the face, elsewhere.
        seconds: time that it should take at most; where that is short, cells are two or four times as large.
    """
    with tqdm(
        total=_STAGES, desc="canonical mesh", unit="stage", delay=2.0, leave=False, disable=None
    ) as bar:
        return _build(shape, cell, budget, seconds, bar.update)


def _build(
    shape: Shape,
    cell: float,
    budget: tuple[int, int, int],
    seconds: float | None,
    done: Callable[[], object],
) -> CanonicalMesh:
    config, linear = shape.tables.config, shape.tables.linear
    low, high = (np.array(corner, np.float32) for corner in config["bounds"])
    vertices, faces = _extract_band(
        shape.distance, (low, high), cell=cell, levels=_LEVELS, seconds=seconds, done=done
    )
    vertices, faces = surgery.drop_small_pieces(vertices, faces)
    landmarks = shape.landmarks()
    # Zone borders stay as fine as they were, so a second pass with other borders thins out the first ones.
    for reach, spare in ((1.0, 1.6), (1.35, 1.0)):
        zone = _zones(vertices, landmarks, reach)
        targets = tuple(int(spare * faces_kept) for faces_kept in budget)
        vertices, faces = surgery.simplify_zones(vertices, faces, zone, targets)
        done()
    for _ in range(3):
        vertices = shape.project(surgery.relax(vertices, faces))
    done()
    vertices, faces = _cut_neck(vertices, faces, config["neck"])

    # The eyeballs are replaced by whole ones: the skin is cut along the lid margins and tucked in behind
    # them.
    centres, radii = shape.eyeballs()
    eye_logit = _eye_level(shape, vertices)
    eye_logit[np.linalg.norm(vertices[:, None] - centres, axis=2).min(1) > 1.5 * radii.max()] = -1.0
    vertices, faces, margin = surgery.cut_level(vertices, faces, eye_logit)
    vertices = surgery.smooth_rim(vertices, surgery.boundary_edges(faces, margin))
    lash = _lashes(vertices, vertices[margin], landmarks)
    vertices, faces = _tuck(vertices, faces, margin, centres, radii)
    lash = np.concatenate([lash, np.ones(len(vertices) - len(lash), np.float32)])

    done()
    classes = _classes(shape, vertices)
    classes[classes == SurfaceClass.EYEBALL] = SurfaceClass.SKIN
    classes = surgery.drop_islands(faces, classes, CLASS_PART)
    vertices, faces, kind, source = surgery.split_parts(vertices, faces, classes, CLASS_PART)
    part = CLASS_PART[kind]
    template = shape.template_points(vertices, part)
    colors = paint(template, kind, linear["landmarks_mean"], lash[source])
    skin = kind == SurfaceClass.SKIN
    colors[skin] = np.rint(with_hair(colors[skin].astype(np.float32), template[skin], PALETTE))
    done()
    blocks = [(vertices, faces, part, colors)]
    offset = len(vertices)
    for centre, radius, axis in zip(centres, radii, linear["eye_axes"], strict=True):
        x, f, color = eyeball(centre, float(radius), axis)
        blocks.append((x, f + offset, np.full(len(x), Part.EYEBALLS, np.uint8), color))
        offset += len(x)
    x, f, p, c = (np.concatenate(column) for column in zip(*blocks, strict=True))
    return CanonicalMesh(np.ascontiguousarray(x, np.float32), np.ascontiguousarray(f, np.int32), p, c)


def _extract_band(
    distance: Callable[[Float32], Float32],
    bounds: tuple[Float32, Float32],
    *,
    cell: float,
    levels: int,
    seconds: float | None = None,
    done: Callable[[], object] = lambda: None,
) -> tuple[Float32, Int32]:
    """Marching cubes at cell size ``cell``, evaluating only near the surface.

    A coarse grid of ``cell * 2**levels`` is refined ``levels`` times; new samples are taken where the
    interpolated distance is below 2.5 cells. That is exact for a distance field; the network's is close to
    one.

    Args:
        distance: (N, 3) float32 points to (N,) signed distances.
        bounds: low and high corner, head space.
        cell: head units.
        levels: refinements.
        seconds: there are fewer of them, one at least, where the whole mesh would take longer.
        done: called after each.

    Returns:
        Vertices in head space and faces.
    """
    low, high = (np.asarray(b, np.float32) for b in bounds)
    step = cell * 2**levels
    count = np.maximum(np.ceil((high - low) / step).astype(int), 2)
    axes = [low[i] + step * np.arange(count[i] + 1, dtype=np.float32) for i in range(3)]
    volume = distance(np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)).reshape(count + 1)
    begun = clock()
    for level in range(levels):
        volume = _double(volume)
        step /= 2
        index = np.argwhere(np.abs(volume) < 2.5 * step)
        before = clock()
        volume[tuple(index.T)] = distance((low + index * np.float32(step)).astype(np.float32))
        done()
        now = clock()
        # A surface has four times as many cells of half the size, and what follows takes about as long again.
        if seconds is not None and level + 1 < levels and (now - begun) + 2 * 4 * (now - before) > seconds:
            break
    top = low + step * (np.array(volume.shape, np.float32) - 1)
    vertices, faces = ops.marching_cubes(
        np.ascontiguousarray(volume, np.float32), 0.0, bounds=(low.tolist(), top.tolist())
    )
    return np.asarray(vertices, np.float32), np.asarray(faces, np.int32)


def _double(volume: Float32) -> Float32:
    """Linear interpolation to twice the resolution, samples kept."""
    shape = tuple(2 * n - 1 for n in volume.shape)
    out = np.zeros(shape, np.float32)
    out[::2, ::2, ::2] = volume
    kernel = np.array([0.5, 1.0, 0.5], np.float32)
    for axis in range(3):
        out = ndimage.correlate1d(out, kernel, axis=axis, mode="constant")
    return out


def _cut_neck(vertices: Float32, faces: Int32, neck: dict[str, list[float]]) -> tuple[Float32, Int32]:
    """Cut a little above the field's own cut, whose rim is rounded, and close the hole with a flat cap."""
    point, normal = (np.array(neck[key], np.float32) for key in ("point", "normal"))
    vertices, faces, rim = surgery.cut_level(vertices, faces, (point + 0.01 * normal - vertices) @ normal)
    edges = surgery.boundary_edges(faces, rim)
    if not len(edges):
        return vertices, faces
    ring = np.unique(edges)
    number = np.full(len(vertices), -1)
    number[ring] = len(vertices) + np.arange(len(ring))  # doubled, so that the rim stays sharp
    middle = len(vertices) + len(ring)
    cap = np.stack([number[edges[:, 1]], number[edges[:, 0]], np.full(len(edges), middle)], 1)
    centre = vertices[ring].mean(0, keepdims=True)
    return (
        np.concatenate([vertices, vertices[ring], centre]).astype(np.float32),
        np.concatenate([faces, cap]).astype(np.int32),
    )


def _zones(vertices: Float32, landmarks: Float32, reach: float) -> Int64:
    """0 at lips, lids and brows, 1 in the front of the face and at the ears, 2 elsewhere."""
    detail = np.full(len(vertices), np.inf)
    for ids, radius in ((slice(48, 68), 0.035), (slice(36, 48), 0.026), (slice(17, 27), 0.03)):
        for point in landmarks[ids]:
            detail = np.minimum(detail, np.linalg.norm(vertices - point, axis=1) / (radius * reach))
    front = (np.linalg.norm(vertices - landmarks[27:68].mean(0), axis=1) < 0.3 * reach) & (
        vertices[:, 2] > -0.02
    )
    # Ears: 4 cm behind the upper ends of the jaw line and 2 cm lower.
    for point in landmarks[[0, 16]] + np.array([0.0, -0.088, -0.166], np.float32):
        front |= np.linalg.norm((vertices - point) * np.array([0.6, 1, 1], np.float32), axis=1) < 0.15 * reach
    return np.where(detail < 1.0, 0, np.where(front, 1, 2))


def _classes(shape: Shape, vertices: Float32) -> UInt8:
    """Surface class of canonical vertices, in two rounds: template coordinates need the part."""
    part = classes = np.zeros(len(vertices), np.uint8)
    for _ in range(2):
        classes = shape.surface_logits(vertices, part).argmax(-1).astype(np.uint8)
        part = CLASS_PART[classes]
    return classes


def _eye_level(shape: Shape, vertices: Float32) -> Float32:
    """(V,) how much more eyeball than anything else, in logits."""
    logits = shape.surface_logits(vertices, np.zeros(len(vertices), np.uint8))
    eye = logits[:, SurfaceClass.EYEBALL].copy()
    logits[:, SurfaceClass.EYEBALL] = -np.inf
    return np.asarray(np.clip(eye - logits.max(-1), -20.0, 20.0))


def _lashes(vertices: Float32, margin: Float32, landmarks: Float32) -> Float32:
    """(V,) darkness of lash lines: along the cut of the upper lids, weaker along the lower ones."""
    dark = np.zeros(len(vertices), np.float32)
    near = np.linalg.norm(vertices[:, None] - landmarks[36:48], axis=2).min(1) < 0.03
    for outer, inner in ((36, 39), (45, 42)):
        a, b = landmarks[outer], landmarks[inner]
        middle = 0.5 * (a + b)
        mine = margin[np.linalg.norm(margin - middle, axis=1) < 0.09]
        if not len(mine):
            continue
        # Above or below the line between the corners of the eye.
        height = mine[:, 1] - (a[1] + (mine[:, 0] - a[0]) / (b[0] - a[0]) * (b[1] - a[1]))
        for chosen, amount, reach in ((height > 0, 0.9, 0.0045), (height <= 0, 0.45, 0.0025)):
            if chosen.any():
                distance = cKDTree(mine[chosen]).query(vertices[near])[0]
                # No lashes grow at the inner corner.
                fade = np.clip(np.linalg.norm(vertices[near] - b, axis=1) / 0.03 - 0.3, 0.0, 1.0)
                line = amount * fade * np.exp(-((distance / reach) ** 2))
                dark[near] = np.maximum(dark[near], line)
    return dark


def _tuck(
    vertices: Float32, faces: Int32, margin: Bool, centres: Float32, radii: Float32
) -> tuple[Float32, Int32]:
    """Add a skirt along the cut that goes into the eyeball, so that no gap opens between lid and eye."""
    edges = surgery.boundary_edges(faces, margin)
    rim = np.unique(edges)
    arm = vertices[rim][:, None] - centres
    eye = np.linalg.norm(arm, axis=2).argmin(1)
    arm = arm[np.arange(len(rim)), eye]
    length = np.linalg.norm(arm, axis=1)
    inner = centres[eye] + arm * (np.minimum(length - 0.004, 0.96 * radii[eye]) / length)[:, None]
    number = np.full(len(vertices), -1)
    number[rim] = len(vertices) + np.arange(len(rim))
    a, b = edges.T
    skirt = np.concatenate([np.stack([b, a, number[a]], 1), np.stack([b, number[a], number[b]], 1)])
    return (
        np.concatenate([vertices, inner]).astype(np.float32),
        np.concatenate([faces, skirt]).astype(np.int32),
    )
