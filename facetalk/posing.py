"""A motion on a head, in metres: one mesh that moves, meshes extracted anew, landmarks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from facetalk.ambient import plainly
from facetalk.arrays import Bool, Float32
from facetalk.data.expressions import arkit_name
from facetalk.mesh import Mesh, RiggedSequence
from facetalk.mesh.cover import covered
from facetalk.mesh.smoothing import FacialSmoothing
from facetalk.mesh.tongue import TONGUE_NAMES
from facetalk.motion import Motion
from facetalk.nphm.head.head import HeadModel
from facetalk.nphm.head.parts import Part
from facetalk.nphm.head.regions import Region
from facetalk.optional import needed_for
from facetalk.units import HEAD_UNIT_METRES

if TYPE_CHECKING:
    import torch

    from facetalk.nphm.head.template_mesh import TemplateMesh
    from facetalk.nphm.lattice import Bounds
    from facetalk.nphm.plain_head import PlainHead
    from facetalk.nphm.surface.options import ExtractionOptions

EYES_AND_LIPS = (slice(48, 68), slice(36, 42), slice(42, 48))
"""Of the Multi-PIE landmarks."""
_OPEN_M, _DEEP_M = 0.001, 0.0175
"""Gap of lips that one sees between, and how far behind their corners teeth and tongue lie that one sees."""
_IN_THE_MOUTH = (
    Region.MOUTH, Region.UPPER_GUM, Region.LOWER_GUM, Region.TONGUE, Region.UPPER_TEETH, Region.LOWER_TEETH
)  # fmt: skip
_ALONE = (Region.EYEBALL, Region.UPPER_TEETH, Region.LOWER_TEETH, Region.TONGUE)
_SHUT_M, _BESIDE_M = 0.0005, 0.03
"""Gap of lids that nothing is seen between, and within what an eyeball lies around its marks."""
_LIDS_M = 0.006
"""How far in front of an eyeball a lid may be."""


def rigged(
    head: HeadModel, motion: Motion, smoothing: FacialSmoothing | None, level: int = 0
) -> RiggedSequence:
    """The canonical mesh carried to every frame, at a level of detail, 0 the finest."""
    person = head.bind(motion.identity)
    canonical, basis = person.rig(level)
    basis = _weighted(basis, canonical.vertices, smoothing)
    tongue = person.tongue(level)
    # At zero weights the rig shows the neutral face, not the canonical shape with its slightly open jaw.
    neutral = canonical.vertices - np.tensordot(head.rest_expression, basis, axes=1)
    eyes = person.eyes(canonical)
    for eye in eyes:
        neutral[eye.rows] = eye.turned(neutral[eye.rows], -head.rest_expression[None])[0]
    base = Mesh(
        neutral.astype(np.float32) * np.float32(HEAD_UNIT_METRES),
        canonical.faces,
        colors=canonical.colors,
        part=canonical.part,
        texture=canonical.texture,
    )
    names, weights = [arkit_name(name) for name in head.expression_names], motion.expressions
    if tongue is not None:
        # Whether this motion moves it or not, so that all clips of a head have the same shapes.
        still = np.zeros((len(motion), len(TONGUE_NAMES)), np.float32)
        names += TONGUE_NAMES
        weights = np.concatenate([weights, still if motion.tongue is None else motion.tongue], axis=1)
        basis = np.concatenate([basis, _weighted(tongue, canonical.vertices, smoothing)])
        more = ((0, len(TONGUE_NAMES)), (0, 0))
        eyes = tuple(dataclasses.replace(eye, rates=np.pad(eye.rates, more)) for eye in eyes)
    return RiggedSequence(
        base,
        basis * np.float32(HEAD_UNIT_METRES),
        weights,
        names=names,
        pose=motion.pose,
        eyes=[eye.scaled(HEAD_UNIT_METRES) for eye in eyes],
    )


@plainly
def tracked(
    head: PlainHead, motion: Motion, smoothing: FacialSmoothing | None, level: int, bounds: Bounds
) -> Iterator[Mesh]:
    """The neutral surface of a head without a rig, carried to every frame: meshes with the same faces."""
    field = head.field(motion.identity, smoothing)
    vertices, faces = head.surface(field, level, bounds)
    for frames in head.track(field, motion.expressions, vertices, faces):
        for points in frames:
            yield Mesh(points * np.float32(HEAD_UNIT_METRES), faces)


@plainly
def extracted(
    head: HeadModel | PlainHead,
    motion: Motion,
    smoothing: FacialSmoothing | None,
    resolution: int,
    bounds: Bounds,
    options: ExtractionOptions,
    device: torch.device,
) -> Iterator[Mesh]:
    """Every frame's surface by marching cubes, with the rig's colours and closed lips and lids."""
    with needed_for("extracting a head by marching cubes"):
        from facetalk.mesh.borrow import Paint, painted
        from facetalk.nphm.head.closing import closed
        from facetalk.nphm.surface.close_up import refine, settle
        from facetalk.nphm.surface.strays import without_strays
        from facetalk.ops._device import with_kernels
    field = head.nphm.bind(motion.identity, facial_smoothing=smoothing, device=with_kernels(device))
    if not isinstance(head, HeadModel):
        frames = field.iterate(motion.expressions, resolution, bounds, options=options)
        yield from (mesh for mesh, _ in frames)
        return
    # The field knows of no tongue that moves, so one that did would lend its colours to what is behind it.
    rig = rigged(head, dataclasses.replace(motion, tongue=None), smoothing)
    person, worn = head.bind(motion.identity), head.tables.mesh
    shown, (lift, more) = person.lenders(), person.closing()
    more = _weighted(more, person.canonical().vertices, smoothing)
    # Who asks for the lattice's own mesh gets its surface; only vertices are added to it.
    as_sampled = options.exact or options.tolerance_mm == 0.0
    marks = None if worn is None or as_sampled else [worn.landmarks[place] for place in EYES_AND_LIPS]
    alone = np.zeros(0, bool) if worn is None else np.isin(worn.region, _ALONE)
    frames = field.iterate(motion.expressions, resolution, bounds, options=options)
    for frame, (mesh, how) in enumerate(frames):
        # An extraction knows no parts; the rig stands in the same place and lends its colours.
        shut, code = rig[frame], motion.expressions[frame]
        moves = lift + np.tensordot(code - head.rest_expression, more, axes=1)
        moves *= np.float32(HEAD_UNIT_METRES)
        posed, hidden = dataclasses.replace(shut, vertices=shut.vertices - moves), _hidden(shut, worn)
        paint = Paint(posed, shown, hidden)
        unseen = None
        if marks is not None:
            places = [posed.vertices[rows] for rows in marks]
            again = dataclasses.replace(options, cache=how.method == "cache")
            looked = [_with_inside(places[0]), *places[1:]]
            mesh, unseen = refine(mesh, field, code, looked, (resolution, bounds), again)
            inner = places[0][12:] if _open(places[0]) else None
            mesh, number = without_strays(mesh, posed, alone, inner)
            unseen = number[unseen]
        fine = painted(mesh, paint, always=Part.EYEBALLS, unseen=unseen)
        if worn is not None and marks is not None:
            fine = settle(fine, len(mesh), field, code, np.concatenate(places), paint)
            lids = (worn.lid_left, worn.lid_right)
            fine = closed(fine, shut, moves, paint, Paint(shut, shown, hidden), worn.lips, lids)
        yield fine


def _hidden(posed: Mesh, worn: TemplateMesh | None) -> Bool:
    """(F,) faces that lids or shut lips cover.

    Both are thinner than an extraction may be off: what they cover must not be drawn on them.
    """
    assert posed.part is not None
    faces = posed.faces
    ball = (posed.part[faces] == Part.EYEBALLS).all(axis=1)
    if worn is None:
        return covered(posed, ball, (posed.part[faces] == Part.SKIN).all(axis=1), _LIDS_M)
    lid = np.isin(worn.region, (Region.SKIN, Region.EYE_SOCKET))
    hidden = covered(posed, ball, np.asarray(lid[faces].all(axis=1)), _LIDS_M)
    lips, *eyes = (posed.vertices[worn.landmarks[rows]] for rows in EYES_AND_LIPS)
    for marks in eyes:
        if (marks[1:3, 1] - marks[[5, 4], 1]).mean() < _SHUT_M:
            near = np.linalg.norm(posed.vertices[faces[:, 0]] - marks.mean(axis=0), axis=1) < _BESIDE_M
            hidden |= ball & near
    if not _open(lips):
        hidden |= np.isin(worn.region, _IN_THE_MOUTH)[faces].all(axis=1)
    return hidden


def _open(lips: Float32) -> bool:
    return bool((lips[13:16, 1] - lips[[19, 18, 17], 1]).mean() > _OPEN_M)


def _with_inside(lips: Float32) -> Float32:
    """Marks of lips (20, 3) and, where they are open, a place in the mouth, as deep as one sees into it."""
    if not _open(lips):
        return lips
    inside = np.array([*lips[:, :2].mean(axis=0), lips[:, 2].min() - _DEEP_M], np.float32)
    return np.concatenate([lips, inside[None]])


def landmarks(head: HeadModel | PlainHead, motion: Motion, smoothing: FacialSmoothing | None) -> Float32:
    """The 68 Multi-PIE landmarks of every frame (T, 68, 3), carried by the deformation of the mesh."""
    if not isinstance(head, HeadModel):
        field = head.field(motion.identity, smoothing)
        marks = head.neutral_landmarks(field)
        found = [np.zeros((0, 68, 3), np.float32), *head.track(field, motion.expressions, marks)]
        return np.concatenate(found) * np.float32(HEAD_UNIT_METRES)
    person = head.bind(motion.identity)
    points = person.landmarks()
    basis = _weighted(person.forward_basis(points, np.zeros(len(points), np.uint8)), points, smoothing)
    # The canonical shape has weights of its own (the jaw slightly open); the motion's count from zero.
    posed = np.tensordot(motion.expressions - head.rest_expression, basis, axes=1) + points
    return np.asarray(posed * HEAD_UNIT_METRES, dtype=np.float32)


def _weighted(basis: Float32, points: Float32, smoothing: FacialSmoothing | None) -> Float32:
    if smoothing is None:
        return basis
    return basis * smoothing.weight(points)[None, :, None].astype(np.float32)
