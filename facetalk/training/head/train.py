"""``facetalk train nphm``: from a morphable head to a head folder.

Stages, each resumable in its own sub-folder of the output: signed distances, identity network, blendshape
field, template map, part field, backward deformation; then the canonical mesh is made and the folder ``head``
written.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from facetalk.arrays import Float32
from facetalk.data.heads.ict import MorphableHead
from facetalk.data.heads.ict_uv import TextureLayout
from facetalk.data.heads.samples import DistancePool, SurfaceSampler
from facetalk.errors import InputError
from facetalk.nphm.head.canonical import build_canonical
from facetalk.nphm.head.checks import is_head_folder
from facetalk.nphm.head.files import HeadContent
from facetalk.nphm.head.head import HeadModel
from facetalk.nphm.head.rig import BlendshapeField, ForwardConfig, PartField, TemplateMap
from facetalk.nphm.networks import DeformationConfig, DeformationNetwork, IdentityConfig, IdentityNetwork
from facetalk.training.checkpoint import make_out
from facetalk.training.head.backward import Budget, initialise_backward, train_backward, train_identity
from facetalk.training.head.forward import surface_pool, train_blendshapes, train_parts, train_template
from facetalk.training.head.identity import LEAST_POINTS, Encoder, recode, train_identity_anew
from facetalk.training.head.identity_codes import HeadCodes, build_codes, initialise
from facetalk.training.head.seam_units import SEAM_CODES, Seams, plant
from facetalk.training.head.template import build_template
from facetalk.training.head.widen import widen
from facetalk.training.processes import is_main_process
from facetalk.training.resume import check_resume

__all__ = ["DEFAULT_MINUTES", "SHARES", "HeadTraining", "train_head"]

DEFAULT_MINUTES = 90.0
"""Limit of a training for which nobody named one: enough for a good head on two cores."""
_MESH_SHARE = 0.05
"""Part of the time that is kept for the canonical mesh; a coarser one is made where that is too short."""
_DISTANCE_SHARE = 0.25
"""Largest share of the time for signed distances; what they leave goes to the stages."""
_LEAST_POINTS, _POOLED_POINTS = 2000, 5000
_NEAR_EDGES = 2.0
_EDGES = 8.0
"""How much denser identities drawn anew, and the backward stage, look at the edges of lips and lids."""

# Share of the time or steps that each stage gets: the identity network is the slow one.
SHARES = {"identity": 0.62, "blendshapes": 0.12, "template": 0.07, "parts": 0.04, "backward": 0.15}
BOUNDS = ((-0.46, -0.62, -0.72), (0.46, 0.60, 0.36))
"""Box of the canonical mesh: the mean head above the neck cut, with room for other identities."""


@dataclass(frozen=True)
class HeadTraining:
    """A training of a head.

    Attributes:
        data: packed morphable head (``.npz``).
        out: output folder; the model is ``out/head``.
        minutes: total training time, signed distances included; None for no limit.
        steps: total steps over all stages, None for no limit but ``minutes``.
        seed: of everything drawn.
        resume: continue what is in ``out``.
        global_dim, local_dim: sizes of the identity codes.
        hidden, layers: of the identity members.
        deformation_hidden, deformation_layers, deformation_compressed: of the backward deformation.
        forward: sizes of the forward networks other than the data's.
        identities: random heads in the pool of signed distances.
        mean_points, points: distances at the mean head and at each other head.
        surface_points: size of the pool of surface points.
        identity_batch: rows of the mean head, rows of others, points a row.
        fresh_batch: heads drawn anew in each step, and points on each, on which the identity network and its
            local codes learn on from those of ``start``; None: from the pool alone, with the codes as they
            are.
        backward_batch: heads with an expression, points on each; more of them keep a GPU busy.
        cell: cell of the canonical mesh, head units.
        stages: which stages to train; the others are taken from ``out`` as they are.
        start: head folder that all networks begin as, of the same data and sizes, but that the backward
            deformation may be wider; ``stages`` that are not trained are taken from it, not from ``out``.
    """

    data: Path
    out: Path
    minutes: float | None = None
    steps: int | None = None
    seed: int = 0
    resume: bool = False
    global_dim: int = 16
    local_dim: int = 8
    hidden: int = 48
    layers: int = 4
    deformation_hidden: int = 256
    deformation_compressed: int = 32 + SEAM_CODES
    deformation_layers: int = 4
    forward: dict[str, int] = field(default_factory=dict)
    identities: int = 80
    mean_points: int = 800_000
    points: int = 20_000
    surface_points: int = 200_000
    identity_batch: tuple[int, int, int] = (2, 4, 600)
    fresh_batch: tuple[int, int] | None = None
    backward_batch: tuple[int, int] = (24, 128)
    cell: float = 0.003
    stages: Sequence[str] = tuple(SHARES)
    start: Path | None = None

    def budget(self, stage: str) -> Budget:
        """A stage's part of time and steps."""
        share = SHARES[stage]
        if self.start is not None:
            share /= sum(SHARES[name] for name in self.stages)
        steps = 10**9 if self.steps is None else max(1, round(self.steps * share))
        minutes = None if self.minutes is None else self.minutes * share
        return Budget(steps, minutes, self.seed, True)  # whether there may be a checkpoint is decided before

    def pool_sizes(self) -> tuple[int, int, int]:
        """Points of the mean head, other heads and points of each: no more than so many steps look at."""
        steps, (of_mean, of_others, count) = self.budget("identity").steps, self.identity_batch
        if self.fresh_batch is not None:  # the pool is for the depth of the mouth alone
            return _LEAST_POINTS, min(self.identities, steps), min(self.points, _POOLED_POINTS)
        identities = min(self.identities, max(1, steps * of_others))
        each = -(-steps * of_others * count // identities)
        return (
            min(self.mean_points, max(_LEAST_POINTS, steps * of_mean * count)),
            identities,
            min(self.points, max(_LEAST_POINTS // 4, each)),
        )


def linear_part(head: MorphableHead, codes: HeadCodes) -> dict[str, torch.Tensor]:
    """Landmarks and eyeballs as linear functions of the coefficients, and the encoder of codes."""
    shape, count = head.canonical(), head.identity_dim

    def eyes(coefficients: Float32) -> Float32:
        centres, radii = head.eyeballs(head.canonical(coefficients))
        return np.concatenate([centres, radii[:, None]], axis=1)

    mean = eyes(np.zeros(count, np.float32))
    # A sphere fit is not quite linear; the slope over half a deviation is what counts.
    slopes = np.stack([(eyes(row) - eyes(-row)) for row in 0.5 * np.eye(count, dtype=np.float32)])
    axes = []
    for name, centre, radius in zip(("sclera_left", "sclera_right"), mean[:, :3], mean[:, 3], strict=True):
        arm = shape[head.part_vertices(name)] - centre
        bulge = np.maximum(np.linalg.norm(arm, axis=1) - 1.02 * radius, 0.0) + 1e-6 * np.maximum(
            arm[:, 2], 0.0
        )
        axis = (arm * bulge[:, None]).sum(0)
        axes.append(axis / np.linalg.norm(axis))
    values = {
        "encoder": codes.encoder,
        "landmarks_mean": shape[head.landmark_ids],
        "landmarks_basis": head.identity_basis[:, head.landmark_ids],
        "eyes_mean": mean,
        "eyes_basis": slopes,
        "eye_axes": np.stack(axes),
    }
    return {name: torch.from_numpy(np.ascontiguousarray(value, np.float32)) for name, value in values.items()}


def give_mesh(
    model: HeadModel, head: MorphableHead, *, cell: float = 0.003, seconds: float | None = None
) -> None:
    """Give a head what it shows: ICT-FaceKit's own mesh, or marching cubes where the data has another one.

    Args:
        model: changed in place.
        head: the data that it was trained on.
        cell, seconds: of marching cubes, see :func:`facetalk.nphm.head.canonical.build_canonical`.
    """
    if is_main_process():
        print("making the mesh of the trained head", file=sys.stderr)
    layout = TextureLayout.load()
    if layout.fits(head):
        linear = model.content.linear
        model.content.mesh = build_template(
            head, layout, linear["eyes_mean"].numpy(), linear["eye_axes"].numpy()
        )
        model.content.canonical = None
    else:
        model.content.canonical = build_canonical(model.bind(), cell=cell, seconds=seconds)


def begin(
    start: Path,
    head: MorphableHead,
    codes: HeadCodes,
    identity: IdentityNetwork,
    backward: DeformationNetwork,
    blendshapes: BlendshapeField,
    template: TemplateMap,
    parts: PartField,
) -> HeadCodes:
    """Let networks begin as those of a head folder.

    Returns:
        The codes with the encoder of that folder, whose local part may have been learned.

    Raises:
        InputError: no such head, one of other data, or of other sizes.
    """
    content = HeadModel.load(start).content
    known, basis = (content.linear[name].numpy() for name in ("encoder", "landmarks_basis"))
    ours, fixed = head.identity_basis[:, head.landmark_ids], identity.config.global_dim
    same = known.shape == codes.encoder.shape and basis.shape == ours.shape
    if not (
        same
        and np.allclose(basis, ours, atol=1e-4)
        and np.allclose(known[:fixed], codes.encoder[:fixed], atol=1e-4)
    ):
        raise InputError(f"{start} was trained on other data, whose codes mean something else")
    alike = (
        (identity, content.identity), (blendshapes, content.blendshapes), (template, content.template),
        (parts, content.parts),
    )  # fmt: skip
    for network, trained in alike:
        if {k: v.shape for k, v in network.state_dict().items()} != {
            k: v.shape for k, v in trained.state_dict().items()
        }:
            raise InputError(
                f"{start}: its {type(trained).__name__} has other sizes than those to be trained"
            )
        network.load_state_dict(trained.state_dict())
    widen(content.deformation, backward)
    return dataclasses.replace(codes, encoder=known)


def _check_others(config: HeadTraining, out: Path) -> None:
    """Refuse to take stages from where they are not: they would be networks that nobody trained.

    Raises:
        InputError: a stage is neither to be trained nor in ``out`` nor in ``start``.
    """
    if config.start is not None:
        return
    others = [stage for stage in SHARES if stage not in config.stages]
    kept = ("checkpoint", "checkpoint.old")
    missing = [stage for stage in others if not any((out / stage / name).exists() for name in kept)]
    if missing:
        raise InputError(
            f"--stages takes {', '.join(missing)} from {out}, and no such training is there; train all "
            f"stages first, or name a head that has them by --start"
        )


def train_head(config: HeadTraining) -> HeadModel:
    """Train all stages, write ``out/head`` and return it.

    Raises:
        InputError: the data cannot be used, no limit was given, ``out`` holds another training, or a stage
            that is not to be trained is nowhere.
    """
    if config.minutes is None and config.steps is None:
        raise InputError("give the training a limit: --minutes or --steps")
    unknown = set(config.stages) - set(SHARES)
    if unknown:
        raise InputError(f"unknown stage {', '.join(sorted(unknown))}; known are {', '.join(SHARES)}")
    if min(config.backward_batch) < 1:
        raise InputError(
            "a batch of the stage backward has one head and one point on it at least, not {} and {}".format(
                *config.backward_batch
            )
        )
    if config.fresh_batch is not None:
        if config.start is None:
            raise InputError("heads drawn anew teach a network that was trained before; name --start")
        if config.fresh_batch[0] < 2 or config.fresh_batch[1] < LEAST_POINTS:
            raise InputError(
                "a batch of the stage identity has two heads and {} points at least, not {} and {}".format(
                    LEAST_POINTS, *config.fresh_batch
                )
            )
    out = Path(config.out)
    _check_others(config, out)
    check_resume(out, config.resume, marks=("distances.npz", *(f"{stage}/checkpoint" for stage in SHARES)))
    head = MorphableHead.load(config.data)
    make_out(out, "head", is_head_folder)
    # A head of few shapes needs no longer code than it has coefficients.
    config = dataclasses.replace(config, global_dim=min(config.global_dim, head.identity_dim))
    torch.manual_seed(config.seed)
    codes = build_codes(head, global_dim=config.global_dim, local_dim=config.local_dim)
    sampler = SurfaceSampler(head)
    identity = IdentityNetwork(
        IdentityConfig(
            anchors=codes.anchors, pairs=codes.pairs, global_dim=config.global_dim,
            local_dim=config.local_dim,
            hidden=config.hidden, layers=config.layers, anchor_hidden=max(64, 2 * config.global_dim),
        ),
        torch.from_numpy(codes.anchors_mean),
    )  # fmt: skip
    initialise(identity, codes)
    backward = DeformationNetwork(
        DeformationConfig(
            code_dim=len(codes.encoder), anchors=codes.anchors, expression_dim=head.expression_dim,
            hidden=config.deformation_hidden, layers=config.deformation_layers,
            compressed_dim=config.deformation_compressed,
        )
    )  # fmt: skip
    initialise_backward(backward)
    plant(backward, Seams.of(head, codes.encoder))
    sizes = ForwardConfig(code_dim=len(codes.encoder), expressions=head.expression_dim, **config.forward)
    blendshapes, template, parts = BlendshapeField(sizes), TemplateMap(sizes), PartField(sizes)
    if config.start is not None:
        codes = begin(config.start, head, codes, identity, backward, blendshapes, template, parts)
    needed = set(SHARES) if config.start is None else set(config.stages)

    def place(stage: str) -> dict[str, Any]:
        budget = config.budget(stage)
        if stage not in config.stages:  # as trained before: nothing is left to do, the checkpoint is read
            budget = Budget(1, None, config.seed, True)
        return {"out": out / stage, "budget": budget}

    seconds, spent = None, 0.0
    if "identity" in needed:
        pool, spent = _distances(config, head, out / "distances.npz")
    if config.minutes is not None:  # the stages share what is left, the same when they are resumed
        seconds = 60.0 * _MESH_SHARE * config.minutes
        left = max(config.minutes * (1.0 - _MESH_SHARE) - spent, 0.5 * config.minutes)
        config = dataclasses.replace(config, minutes=left)
    if "identity" in needed and config.fresh_batch is None:
        train_identity(identity, pool, codes, **place("identity"), batch=config.identity_batch)
    elif "identity" in needed:
        assert config.fresh_batch is not None
        encoder = Encoder(codes.encoder, config.global_dim)
        train_identity_anew(
            identity, encoder, pool, head, SurfaceSampler(head, focus=_NEAR_EDGES), **place("identity"),
            batch=config.fresh_batch,
        )  # fmt: skip
        learned = encoder.matrix().detach().cpu().numpy()
        recode(learned, codes.encoder, backward, template)
        codes = dataclasses.replace(codes, encoder=learned)
    if needed & {"blendshapes", "template", "parts"}:
        rng = np.random.default_rng(config.seed)
        surface, classes = surface_pool(head, sampler, config.surface_points, rng)
    if "blendshapes" in needed:
        train_blendshapes(blendshapes, head, sampler, surface, **place("blendshapes"))
    if "template" in needed:
        train_template(template, identity, head, sampler, surface, codes, **place("template"))
    if "parts" in needed:
        train_parts(parts, head, surface, classes, **place("parts"))
    if "backward" in needed:
        edges = SurfaceSampler(head, focus=_EDGES)
        train_backward(
            backward, identity, head, edges, codes, **place("backward"), batch=config.backward_batch
        )

    for network in (identity, backward, blendshapes, template, parts):
        network.to("cpu")  # from where the stages had them
    settings = {
        "expression_names": list(head.expression_names),
        "rest_expression": head.canonical_expression.tolist(),
        "bounds": [list(corner) for corner in BOUNDS],
        "neck": {"point": head.neck_point.tolist(), "normal": head.neck_normal.tolist()},
    }
    linear = linear_part(head, codes)
    model = HeadModel(HeadContent(settings, identity, backward, template, blendshapes, parts, linear))
    give_mesh(model, head, cell=config.cell, seconds=seconds)
    if is_main_process():
        model.save(out / "head")
    return model


def _distances(config: HeadTraining, head: MorphableHead, path: Path) -> tuple[DistancePool, float]:
    """The pool, made or read again, and the minutes that it took to make."""
    note = path.with_suffix(".json")
    if config.resume and path.is_file():
        spent = float(json.loads(note.read_text())["minutes"]) if note.is_file() else 0.0
        return DistancePool.load(path), spent
    begun = time.monotonic()
    mean_points, identities, points = config.pool_sizes()
    pool = DistancePool.make(
        head,
        mean_points=mean_points,
        identities=identities,
        points=points,
        seed=config.seed,
        seconds=None if config.minutes is None else 60.0 * _DISTANCE_SHARE * config.minutes,
    )
    spent = (time.monotonic() - begun) / 60.0
    note.write_text(json.dumps({"minutes": round(spent, 3)}) + "\n")
    pool.save(path)
    return pool, spent
