"""A capture fitted window by window: points in, a motion and its poses out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from facetalk.ambient import plainly
from facetalk.arrays import Float32, Float64
from facetalk.errors import InputError
from facetalk.fitting.align import align, align_marks, along_rays, placed
from facetalk.fitting.differentiable import DifferentiableField
from facetalk.fitting.frame import Frame, Limits
from facetalk.fitting.marks import USED, across_rays, marks_of
from facetalk.fitting.options import FitOptions
from facetalk.fitting.pose import Pose
from facetalk.fitting.progress import Progress, key_of
from facetalk.fitting.report import Measurement, Report
from facetalk.fitting.window import follow, solve
from facetalk.metrics.lips import lip_gap
from facetalk.models.heads import mean_landmarks
from facetalk.motion import Motion
from facetalk.nphm.head.head import HeadModel
from facetalk.nphm.model import NPHM
from facetalk.nphm.plain_head import PlainHead, fingerprint
from facetalk.pipeline import FaceTalk
from facetalk.posing import landmarks
from facetalk.units import HEAD_UNIT_MM

__all__ = ["Fit", "as_head", "fit_points", "fit_sequence"]

_LEAST = 200  # points that a frame needs
Model = FaceTalk | HeadModel | PlainHead | NPHM
_SPARE = 20  # times as many points as a step draws are kept of a frame


@dataclasses.dataclass(frozen=True)
class Fit:
    """What was fitted to a capture.

    Attributes:
        motion: the codes.
        poses: (T, 4, 4) from the capture's points to head space.
        report: how well it explains the points.
    """

    motion: Motion
    poses: Float64
    report: Report


def fit_points(
    frames: Sequence[ArrayLike], model: Model, *, fps: float, identity: ArrayLike | None = None
) -> Motion:
    """Expression codes of a head whose surface passes through the points of every frame.

    Args:
        frames: (N, 3) points a frame, in metres, millimetres, centimetres or head units, with any axes; N may
            differ from frame to frame.
        model: whose codes are wanted.
        fps: frames per second.
        identity: (L,) code of the person, None for the head's default one.

    Returns:
        the motion; :func:`fit_sequence` gives the poses and how good it is as well.

    Raises:
        InputError: no frames, points that are not finite or too few, or points that do not lie on the head.
    """
    return fit_sequence(frames, model, fps=fps, identity=identity).motion


@plainly
def fit_sequence(
    frames: Sequence[ArrayLike] | None,
    model: Model,
    *,
    fps: float,
    identity: ArrayLike | None = None,
    options: FitOptions | None = None,
    unit: str | None = None,
    progress: Callable[[int], None] = lambda frames: None,
    names: Sequence[str] | None = None,
    state: Path | None = None,
    stamp: str = "",
    marks: ArrayLike | None = None,
    blind: bool = False,
    eye: ArrayLike | None = None,
) -> Fit:
    """Fit a capture, window after window.

    The first frame is aligned with the head (:func:`facetalk.fitting.align.align`); after that each window of
    frames goes on from the last two of the window before, and is solved with all of its points, its codes and
    its poses at once (:mod:`facetalk.fitting.window`). Weights of the built-in head stay within 0..1.

    Args:
        frames: see :func:`fit_points`. They are asked for one window at a time. None with landmarks alone.
        model: the head.
        fps: frames per second.
        identity: (L,) code, None for the head's default one.
        options: weights and limits.
        unit: "metres", "millimetres", "centimetres" or "head", None to find it.
        progress: called with how many frames are done.
        names: of the frames, for errors.
        state: file in which every window that is done is kept. Where one is there of the same head, person,
            options and frames, the fit goes on from it, to the same result; it is removed in the end.
        stamp: tells the frames' content apart from that of other ones with the same names.
        marks: (T, 68, 3) landmarks in Multi-PIE's order, in the points' space, NaN where there is none. They
            place the head, and decide lips and lids, where points are blind.
        blind: frames may have no points at all, and are fitted by their landmarks then.
        eye: (3,) where the only camera stands that saw the landmarks, in the points' space. They are any
            points on the rays to them then, and how far along is found by the head's size, so that `unit` has
            to be said.

    Raises:
        InputError: as :func:`fit_points`.
    """
    options = options or FitOptions()
    head, code, limits = _parts(model, identity)
    nphm = head.nphm
    seen = checked_marks(marks, frames, options)
    sight = None if eye is None else torch.from_numpy(np.array(eye, np.float64))
    count = len(frames) if frames is not None else 0 if seen is None else len(seen)
    if not count:
        raise InputError("frames: expected at least one frame of points, got none")
    field = DifferentiableField(nphm, code)
    generator = torch.Generator().manual_seed(options.seed)
    rest = torch.zeros(field.expression_dim, dtype=torch.float64)
    measured = Measurement(field, options.outlier_mm)
    window: list[Frame] = []  # the last of them stay for the next; points of the others are let go
    before: Frame | None = None

    def points_of(t: int) -> Tensor:
        if frames is None:
            return torch.zeros(0, 3, dtype=torch.float64)
        if blind and not len(points := np.asarray(frames[t], np.float64)):
            return torch.from_numpy(points.reshape(0, 3))
        return _fewer(checked(frames[t], names[t] if names else f"frame {t}"), options.points)

    def frame_of(t: int, code: Tensor, pose: Pose) -> Frame:
        return Frame(points_of(t), code, pose, None if seen is None else seen[t], sight)

    told = seen is not None or (options.method == "newton" and options.contact > 0)
    face = marks_of(head, code, field) if told else None

    key, done = "", 0
    mark = fingerprint(nphm)
    if state is not None:
        shown = np.zeros(0) if seen is None else seen.numpy()
        key = key_of(mark, code, options, unit, count, list(names or ()), stamp, shown)
        found = Progress.load(state, key)
        if found is not None:
            measured.restore(found.measured)
            generator.set_state(found.random)
            first = len(measured)
            window = [frame_of(first + i, *resting) for i, resting in enumerate(found.window)]
            if found.before is not None:
                before = Frame(torch.zeros(0, 3, dtype=torch.float64), *found.before)
            done = first + len(window)
            progress(done)
    while done < count:
        for t in range(done, min(done + options.stride - len(window), count)):
            if window or before is not None:  # before alone: windows that do not overlap
                last = window[-1] if window else before
                assert last is not None
                window.append(frame_of(t, last.code.clone(), last.pose))
                follow(field, window[-1], last, limits, options, generator, face)
                continue
            points = points_of(t)
            if options.aligned:
                pose = placed(unit)
            elif face is not None and seen is not None:
                # The first frame that shows most of a face; its points are known where it is this one.
                many = torch.isfinite(seen).all(dim=2).sum(1)
                start = int((many >= many.max().clamp(max=20)).nonzero()[0])
                there = points if start == t else points[:0]
                here = seen[start]
                if sight is not None:
                    here = along_rays(face.carried(rest)[0], here, sight, placed(unit).scale)
                pose = align_marks(field, face.carried(rest)[0], here, there, rest, unit)
            else:
                pose = align(field, points.numpy(), rest, unit)
            window = [frame_of(t, rest, pose)]
            # Alone at first, so that the others start near.
            solve(field, window, None, limits, options, generator, face)
        solve(field, window, before, limits, options, generator, face)
        done = len(measured) + len(window)
        kept = options.overlap if done < count else 0
        for frame in window[: len(window) - kept]:
            measured.add(frame)
            before = frame
        window = window[len(window) - kept :]
        if state is not None and done < count:
            resting = None if before is None else (before.code, before.pose)
            left = [(frame.code, frame.pose) for frame in window]
            Progress(measured.state(), left, resting, generator.get_state()).save(state, key)
        progress(done)
    motion = Motion(np.stack(measured.codes), fps, code, {"made_by": "fit", "head": mark})
    fitted, poses = landmarks(head, motion, None), np.stack(measured.poses)
    gaps = [round(float(gap), 4) for gap in lip_gap(fitted)]
    report = measured.report(gaps, [] if seen is None else _marks_off(seen, poses, fitted, sight))
    motion.provenance |= {"options": dataclasses.asdict(options), "flagged": report.flagged}
    if frames is not None and np.isfinite(report.median_mm).any():
        motion.provenance["median_mm"] = round(float(np.nanmedian(report.median_mm)), 4)
    if state is not None:
        state.unlink(missing_ok=True)
    return Fit(motion, poses, report)


def checked_marks(
    marks: ArrayLike | None, frames: Sequence[ArrayLike] | None, options: FitOptions
) -> Tensor | None:
    """(T, 51, 3) landmarks that are used."""
    if marks is None:
        return None
    array = np.asarray(marks, np.float64)
    if array.ndim != 3 or array.shape[1:] != (68, 3) or not np.isfinite(array).any():
        raise InputError(f"marks: expected landmarks (T, 68, 3), some of them seen, got {array.shape}")
    if frames is not None and len(array) != len(frames):
        raise InputError(f"marks: landmarks of {len(array)} frames, points of {len(frames)}")
    if options.method == "adam":
        raise InputError("landmarks are for the method newton; the paper's way knows of none")
    return torch.from_numpy(np.where(np.isfinite(array), array, np.nan)[:, USED].copy())


def _marks_off(seen: Tensor, poses: Float64, fitted: Float32, eye: Tensor | None) -> list[float]:
    """(T,) mean distance of captured landmarks from fitted ones (T, 68, 3), mm; NaN where there is none."""
    there = np.einsum("tij,tpj->tpi", poses[:, :3, :3], seen.numpy()) + poses[:, None, :3, 3]
    away = there * HEAD_UNIT_MM - 1000.0 * fitted[:, USED]
    if eye is not None:
        for t, pose in enumerate(poses):
            across = across_rays(
                torch.from_numpy(there[t]), torch.from_numpy(pose[:3, :3] @ eye.numpy() + pose[:3, 3])
            )
            away[t] = np.einsum("nab,nb->na", across.numpy(), away[t])
    off = np.linalg.norm(away, axis=2)
    return [round(float(np.nanmean(row)), 4) if np.isfinite(row).any() else np.nan for row in off]


def _fewer(points: Tensor, looked_at: int) -> Tensor:
    """At most so many points that random draws of them differ: memory does not grow with the scanner."""
    most = _SPARE * looked_at
    if len(points) <= most:
        return points
    return points[torch.randperm(len(points), generator=torch.Generator().manual_seed(0))[:most]]


def as_head(model: Model) -> HeadModel | PlainHead:
    """What of a model is fitted; of a bare NPHM, with the built-in mean head's landmarks.

    Raises:
        InputError: it is none.
    """
    if isinstance(model, FaceTalk):
        return model.any_head
    if isinstance(model, HeadModel | PlainHead):
        return model
    if not isinstance(model, NPHM):
        raise InputError(f"model: expected a FaceTalk, a head or an NPHM, got {type(model).__name__}")
    return PlainHead(model, mean_landmarks())


def _parts(model: Model, identity: ArrayLike | None) -> tuple[HeadModel | PlainHead, Float32, Limits]:
    """The head, the identity code, and the limits of the expression's numbers."""
    head = as_head(model)
    if isinstance(head, HeadModel):
        return head, head.bind(identity).identity, (0.0, 1.0)
    code = np.zeros(head.identity_dim, np.float32) if identity is None else np.asarray(identity, np.float32)
    if code.shape != (head.identity_dim,) or not np.isfinite(code).all():
        raise InputError(
            f"identity: expected {head.identity_dim} finite numbers, got an array of shape {code.shape}"
        )
    return head, code, None


def checked(points: ArrayLike, name: str) -> Tensor:
    """Points (N, 3) as float64.

    Raises:
        InputError: another shape, too few, or numbers that are not finite, with the name of the frame.
    """
    try:
        array = np.ascontiguousarray(points, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: expected points (N, 3), got {type(points).__name__}") from error
    if array.ndim != 2 or array.shape[1] != 3:
        raise InputError(f"{name}: expected points (N, 3), got shape {array.shape}")
    finite = np.isfinite(array).all(axis=1)
    if not finite.all():
        row = int(np.flatnonzero(~finite)[0])
        raise InputError(f"{name}: {np.count_nonzero(~finite)} points are not finite, the first is row {row}")
    if len(array) < _LEAST:
        raise InputError(f"{name}: {len(array)} points; at least {_LEAST} are needed to fit a face")
    return torch.from_numpy(array)
