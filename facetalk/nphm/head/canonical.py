"""From a head model and an identity to its canonical mesh: zones, parts, eyes and colours put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from facetalk.mesh import surgery as mesher
from facetalk.mesh.surgery import CanonicalMesh
from facetalk.nphm.head.albedo import eyeball, paint
from facetalk.nphm.head.parts import CLASS_PART, Part, SurfaceClass

if TYPE_CHECKING:
    from facetalk.nphm.head.head import HeadModel

__all__ = ["build_canonical"]

Array = NDArray[np.float32]
# Face budgets of the zones: lips, lids and brows, front of the face with the inside of the mouth, the rest.
_BUDGET = (26000, 26000, 8000)


def build_canonical(
    head: HeadModel, identity: Array, *, cell: float = 0.003, budget: tuple[int, int, int] = _BUDGET
) -> CanonicalMesh:
    """Extract, simplify, label and paint the canonical mesh of an identity code.

    Args:
        head: the model.
        identity: (I,) identity code.
        cell: of the marching cubes, head units (0.003 = 0.75 mm).
        budget: faces kept at lips and lids, in the front of the face, elsewhere.
    """
    low, high = (np.array(corner, np.float32) for corner in head.config["bounds"])
    vertices, faces = mesher.extract_band(
        lambda x: head.distance(x, identity), (low, high), cell=cell, levels=3
    )
    vertices, faces = mesher.drop_small_pieces(vertices, faces)
    landmarks = head.landmarks(identity)
    # Zone borders stay as fine as they were, so a second pass with other borders thins out the first ones.
    for reach, spare in ((1.0, 1.6), (1.35, 1.0)):
        zone = _zones(vertices, landmarks, reach)
        targets = tuple(int(spare * faces_kept) for faces_kept in budget)
        vertices, faces = mesher.simplify_zones(vertices, faces, zone, targets)
    for _ in range(3):
        vertices = head.project(mesher.relax(vertices, faces), identity)
    vertices, faces = _cut_neck(head, vertices, faces)

    # The eyeballs are replaced by whole ones: the skin is cut along the lid margins and tucked in behind
    # them.
    centres, radii = head.eyeballs(identity)
    eye_logit = _eye_level(head, vertices, identity)
    eye_logit[np.linalg.norm(vertices[:, None] - centres, axis=2).min(1) > 1.5 * radii.max()] = -1.0
    vertices, faces, margin = mesher.cut_level(vertices, faces, eye_logit)
    vertices = mesher.smooth_rim(vertices, mesher.boundary_edges(faces, margin))
    lash = _lashes(vertices, vertices[margin], landmarks)
    vertices, faces = _tuck(vertices, faces, margin, centres, radii)
    lash = np.concatenate([lash, np.ones(len(vertices) - len(lash), np.float32)])

    classes = _classes(head, vertices, identity)
    classes[classes == SurfaceClass.EYEBALL] = SurfaceClass.SKIN
    classes = mesher.drop_islands(faces, classes, CLASS_PART)
    vertices, faces, kind, source = mesher.split_parts(vertices, faces, classes, CLASS_PART)
    part = CLASS_PART[kind]
    template = head.template_points(vertices, identity, part)
    colors = paint(template, kind, head.linear["landmarks_mean"].numpy(), lash[source])
    blocks = [(vertices, faces, part, colors)]
    offset = len(vertices)
    for centre, radius, axis in zip(centres, radii, head.linear["eye_axes"].numpy(), strict=True):
        x, f, color = eyeball(centre, float(radius), axis)
        blocks.append((x, f + offset, np.full(len(x), Part.EYEBALLS, np.uint8), color))
        offset += len(x)
    x, f, p, c = (np.concatenate(column) for column in zip(*blocks, strict=True))
    return CanonicalMesh(np.ascontiguousarray(x, np.float32), np.ascontiguousarray(f, np.int32), p, c)


def _cut_neck(head: HeadModel, vertices: Array, faces: NDArray[np.int32]) -> tuple[Array, NDArray[np.int32]]:
    """Cut a little above the field's own cut, whose rim is rounded, and close the hole with a flat cap."""
    point, normal = (np.array(head.config["neck"][key], np.float32) for key in ("point", "normal"))
    vertices, faces, rim = mesher.cut_level(vertices, faces, (point + 0.01 * normal - vertices) @ normal)
    edges = mesher.boundary_edges(faces, rim)
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


def _zones(vertices: Array, landmarks: Array, reach: float) -> NDArray[np.int64]:
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


@torch.inference_mode()
def _classes(head: HeadModel, vertices: Array, identity: Array) -> NDArray[np.uint8]:
    """Surface class of canonical vertices; template coordinates need the part, so it is found in two
    rounds."""
    part = np.zeros(len(vertices), np.uint8)
    classes = np.zeros(len(vertices), np.uint8)
    for _ in range(2):
        template = torch.from_numpy(head.template_points(vertices, identity, part))
        classes = (
            torch.cat([head.parts(block).argmax(-1) for block in template.split(16384)])
            .numpy()
            .astype(np.uint8)
        )
        part = CLASS_PART[classes]
    return classes


@torch.inference_mode()
def _eye_level(head: HeadModel, vertices: Array, identity: Array) -> Array:
    """(V,) how much more eyeball than anything else, in logits."""
    template = torch.from_numpy(head.template_points(vertices, identity, np.zeros(len(vertices), np.uint8)))
    logits = torch.cat([head.parts(block) for block in template.split(16384)])
    eye = logits[:, SurfaceClass.EYEBALL].clone()
    logits[:, SurfaceClass.EYEBALL] = -torch.inf
    return (eye - logits.max(-1).values).clamp(-20.0, 20.0).numpy()


def _lashes(vertices: Array, margin: Array, landmarks: Array) -> Array:
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
    vertices: Array, faces: NDArray[np.int32], margin: NDArray[np.bool_], centres: Array, radii: Array
) -> tuple[Array, NDArray[np.int32]]:
    """Add a skirt along the cut that goes into the eyeball, so that no gap opens between lid and eye."""
    edges = mesher.boundary_edges(faces, margin)
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
