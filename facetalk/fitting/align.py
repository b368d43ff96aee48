"""Where a scan lies: its unit, its axes and its place, by the distance field of the head itself."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from torch import Tensor

from facetalk.arrays import Float64
from facetalk.errors import InputError
from facetalk.fitting.differentiable import DifferentiableField
from facetalk.fitting.options import MM
from facetalk.fitting.pose import Pose, pose_slopes
from facetalk.fitting.robust import even
from facetalk.units import HEAD_UNIT_METRES

UNITS = {"metres": 1.0, "millimetres": 1e-3, "centimetres": 1e-2, "head": HEAD_UNIT_METRES}
"""Units that points may have, in metres."""

_RADIUS = (0.06, 0.24)  # metres; of nine tenths of the points of a face or a head about their middle
_FEW, _MORE = 300, 1500  # points that orientations are tried with, and that the best one is refined with
_GOOD_MM, _USABLE_MM = 3.0, 6.0  # mean distance, capped: taken without more ado; refused above
_CAP_MM = 12.0
_STILL = 31  # of the landmarks in use, above the mouth
_FEWEST = 8  # landmarks that a head is placed by
_TURNS = 200  # of laying a head on rays; each costs next to nothing
_FACE_MM = 12.0  # median distance of landmarks of any face, laid on the head
_SIZE = 0.05  # standard deviation of a head's size about its unit's


def align(field: DifferentiableField, scan: Float64, code: Tensor, unit: str | None = None) -> Pose:
    """Find the similarity that lays points on the head.

    The unit is one of :data:`UNITS` that makes a head of the points; the axes are tried in all 24 ways that
    right-handed axes can be exchanged; each start is refined by Gauss-Newton steps on the distance field. A
    head's size may differ from its unit's by a few per cent.

    Args:
        field: of the identity.
        scan: (N, 3) points in any unit and axes.
        code: (E,) expression that the scan is near.
        unit: one of `UNITS`, None to find it.

    Raises:
        InputError: the points are no head's in any unit, or lie on the head in no orientation.
    """
    generator = np.random.default_rng(0)
    middle = np.median(scan, axis=0)
    radius = float(np.quantile(np.linalg.norm(scan - middle, axis=1), 0.9))
    units = _units(radius, unit)
    few = torch.from_numpy(scan[generator.permutation(len(scan))[:_FEW]] - middle)
    more = torch.from_numpy(scan[generator.permutation(len(scan))[:_MORE]] - middle)
    centre = field.bound.source.anchors.double().mean(0)
    best: tuple[float, Pose] | None = None
    for factor, turn in itertools.product(units, _axes()):
        start = Pose(turn, centre, factor)
        pose, error = _refine(field, few, code, start, 10)
        if best is None or error < best[0]:
            best = (error, pose)
        if error < _GOOD_MM:
            break
    assert best is not None
    pose, error = _refine(field, more, code, best[1], 15)
    if error > _USABLE_MM:
        raise InputError(
            f"the points do not lie on the head in any orientation: their mean distance is {error:.1f} mm at "
            f"best; give points of one head without its surroundings, or its pose"
        )
    return Pose(pose.turn, pose.shift - pose.scale * (pose.turn @ torch.from_numpy(middle)), pose.scale)


def align_marks(
    field: DifferentiableField,
    face: Tensor,
    marks: Tensor,
    points: Tensor,
    code: Tensor,
    unit: str | None = None,
) -> Pose:
    """The similarity that lays landmarks on the head's, refined by points where there are any.

    S. Umeyama, "Least-squares estimation of transformation parameters between two point patterns", 1991; once
    more without those that lie far off.

    Args:
        field: of the identity.
        face: (P, 3) landmarks of the head.
        marks: (P, 3) captured ones, NaN where there is none.
        points: (N, 3) of the same frame, perhaps none.
        code: (E,) expression that the frame is near.
        unit: one of `UNITS`, None to find the size by the landmarks.

    Raises:
        InputError: too few landmarks, or they are no face's.
    """
    scale = None if unit is None else placed(unit).scale
    seen = torch.isfinite(marks).all(dim=1)
    # A mouth that is open makes a head look larger.
    still = seen & (torch.arange(len(seen)) < _STILL)
    seen = still if int(still.sum()) >= _FEWEST else seen
    for _ in range(2):
        if int(seen.sum()) < _FEWEST:
            raise InputError(
                f"{int(seen.sum())} landmarks of the first frame with any; at least {_FEWEST} are needed to "
                f"place a head"
            )
        pose = _similarity(marks[seen], face[seen], scale)
        off = (pose.apply(marks) - face.float()).norm(dim=1)
        error = float(off[seen].median()) / MM
        seen = torch.isfinite(off) & (off <= 3 * max(float(off[seen].median()), MM))
    if error > _FACE_MM:
        raise InputError(
            f"the landmarks are no face's: laid on the head, half of them are {error:.0f} mm off or more; "
            f"expected Multi-PIE's 68 in their order"
        )
    if len(points) and scale is None:
        chosen = points[torch.randperm(len(points), generator=torch.Generator().manual_seed(0))[:_MORE]]
        middle = chosen.median(dim=0).values
        start = Pose(pose.turn, pose.shift + pose.scale * (pose.turn @ middle), pose.scale)
        found, error = _refine(field, chosen - middle, code, start, 15)
        if error < _USABLE_MM:
            return Pose(found.turn, found.shift - found.scale * (found.turn @ middle), found.scale)
    return pose


def along_rays(face: Tensor, marks: Tensor, eye: Tensor, scale: float) -> Tensor:
    """Landmarks (P, 3) on the rays of one camera, as far along as a head of known size says.

    The head is laid on the points, and the points are put where their rays come nearest to it, in turn (C.-P.
    Lu, G. D. Hager, E. Mjolsness, "Fast and globally convergent pose estimation from video images", 2000).

    Args:
        face: (P, 3) landmarks of the head.
        marks: (P, 3) any points on the rays, NaN where there is none.
        eye: (3,) where the rays begin.
        scale: head units per unit of the marks.
    """
    way = torch.nn.functional.normalize(marks - eye, dim=1)
    seen = torch.isfinite(way).all(dim=1)
    if int(seen.sum()) < _FEWEST:
        return marks
    flat, solid = way[seen] - way[seen].mean(0), face[seen] - face[seen].mean(0)
    # As far as a face is that is seen from the front, whose width is its width.
    far = float(solid[:, :2].norm() / flat.norm()) / scale
    found = eye + far * way
    for _ in range(_TURNS):
        pose = _similarity(found[seen], face[seen], scale)
        there = (face - pose.shift) @ pose.turn / pose.scale - eye
        ahead = (there * way).sum(1).clamp(min=0.1 * far)
        found = eye + ahead[:, None] * way
    return found


def _similarity(source: Tensor, target: Tensor, scale: float | None) -> Pose:
    """Least squares over rotation, shift and, where it is None, scale."""
    a, b = source - source.mean(0), target - target.mean(0)
    u, s, vt = torch.linalg.svd(b.T @ a)
    handed = torch.ones(3, dtype=torch.float64)
    handed[2] = torch.sign(torch.linalg.det(u @ vt))
    turn = u @ torch.diag(handed) @ vt
    size = float((s * handed).sum() / a.square().sum()) if scale is None else scale
    return Pose(turn, target.mean(0) - size * (turn @ source.mean(0)), size)


def placed(unit: str | None) -> Pose:
    """The pose of points that lie on the head as they are.

    Raises:
        InputError: the unit is not said, or is none.
    """
    if unit not in UNITS:
        raise InputError(
            f"points that are aligned already need their unit, one of {', '.join(UNITS)}; got {unit!r}"
        )
    eye, zero = torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    return Pose(eye, zero, UNITS[unit] / HEAD_UNIT_METRES)


def _units(radius: float, unit: str | None) -> list[float]:
    """Head units per unit of the points, of the units that come into question."""
    if unit is not None:
        if unit not in UNITS:
            raise InputError(f"unit: expected one of {', '.join(UNITS)}, got {unit!r}")
        return [UNITS[unit] / HEAD_UNIT_METRES]
    low, high = _RADIUS
    fitting = [metres for metres in UNITS.values() if low <= radius * metres <= high]
    if not fitting:
        raise InputError(
            f"nine tenths of the points lie within {radius:.4g} of their middle: in no unit of "
            f"{', '.join(UNITS)} is that a head; give points of a head alone, or say the unit"
        )
    # The one that comes nearest to a head's 0.12 m first.
    return [m / HEAD_UNIT_METRES for m in sorted(fitting, key=lambda m: abs(math.log(radius * m / 0.12)))]


def _axes() -> list[Tensor]:
    """The 24 rotations that exchange axes, the identity first."""
    found = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            turn = torch.zeros(3, 3, dtype=torch.float64)
            for row, (column, sign) in enumerate(zip(order, signs, strict=True)):
                turn[row, column] = sign
            if torch.linalg.det(turn) > 0:
                found.append(turn)
    return found


def _refine(
    field: DifferentiableField, points: Tensor, code: Tensor, pose: Pose, steps: int
) -> tuple[Pose, float]:
    """The pose after so many damped steps, and the mean distance, capped, in millimetres."""
    nominal = pose.scale
    for step in range(steps):
        moved = pose.apply(points)
        found = field.slopes(moved, code)
        slopes = pose_slopes(moved, found.by_point).double()
        residual = found.value.double()
        # Wide at first, so that far points pull; then near ones decide.
        knee = MM * max(1.5, 20.0 * 0.6**step)
        weight = even(residual, knee) * (residual.abs() <= max(4 * knee, 8 * MM))
        matrix = slopes.T @ (weight[:, None] * slopes)
        vector = slopes.T @ (weight * residual)
        noise = knee**2 / max(float(weight.sum()), 1.0) ** 0.5
        size = math.log(pose.scale / nominal)
        matrix[6, 6] += noise / _SIZE**2 + 1e-9
        vector[6] += noise * size / _SIZE**2
        matrix += 1e-3 * torch.diag(matrix.diag()) + 1e-9 * torch.eye(7, dtype=torch.float64)
        change = -torch.linalg.solve(matrix, vector).clamp(-0.3, 0.3)
        stretch = float(change[6].clamp(-0.05, 0.05))
        pose = pose.moved(change[:3], change[3:6], stretch)
        if not 0.8 < pose.scale / nominal < 1.25:
            return pose, math.inf
    error = field.slopes(pose.apply(points), code).value.abs() / MM
    return pose, float(error.clamp(max=_CAP_MM).mean())
