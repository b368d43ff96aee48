"""What a frame's surface is asked for by, and what comes of it."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np
from torch import Tensor

from facetalk.errors import InputError
from facetalk.mesh.mesh import Mesh
from facetalk.nphm.config import Direction
from facetalk.ops.field.kernels import ExtractionCounts
from facetalk.ops.normals import vertex_normals

DEFAULT_TOLERANCE_MM = 0.05


@dataclasses.dataclass(frozen=True)
class ExtractionOptions:
    """Which short cuts may be used; :meth:`facetalk.nphm.Field.extract` says what each rests on.

    Attributes:
        tolerance_mm: how far the mesh may be from that of the dense volume, millimetres.
        exact: evaluate every sample of the volume.
        cache: bake the identity once and look it up; None decides by cost.
        coarse: with a cache, interpolate the deformation where it is smooth.
        posed: of a forward model, whether the surface is that of the posed field instead of the neutral one
            moved; None: moved. Backward models have the posed field alone.

    Raises:
        InputError: a tolerance that is none.
    """

    tolerance_mm: float = DEFAULT_TOLERANCE_MM
    exact: bool = False
    cache: bool | None = None
    coarse: bool = True
    posed: bool | None = None

    def __post_init__(self) -> None:
        """Refuses a tolerance that is none."""
        if not (np.isfinite(self.tolerance_mm) and self.tolerance_mm >= 0):
            raise InputError(f"tolerance_mm: expected millimetres, 0 or more, got {self.tolerance_mm!r}")

    def check(self, direction: Direction, *, frames: bool) -> None:
        """Refuses options that would do nothing for models of this direction, or without frames.

        Raises:
            InputError: such an option; the message says which and why.
        """
        if self.posed is not None and not frames:
            raise InputError("posed: the canonical head has no pose; leave it out or give expressions")
        if direction == "backward" and self.posed is False:
            raise InputError("posed: a backward model moves no vertices; leave it out, or use track")
        if direction == "forward" and frames and self.cache:
            raise InputError("cache: for backward models; a forward model meshes its neutral head once")


@dataclasses.dataclass(frozen=True)
class ExtractionInfo:
    """How a frame was found.

    Attributes:
        method: "dense", "band" or "cache"; of a forward model "moved" (the neutral surface), or "posed"
            (samples near it).
        points: samples of the lattice.
        counts: what the networks were asked, and what could not be certified; None for "dense", but by the
            posed field of a forward model.
        tolerance_mm: error that was accepted, millimetres; 0: the networks' values.
        cache_error_mm: largest error of the cached field at held-out points, millimetres; None without one.
    """

    method: Literal["dense", "band", "cache", "moved", "posed"]
    points: int
    counts: ExtractionCounts | None = None
    tolerance_mm: float = 0.0
    cache_error_mm: float | None = None

    @property
    def uncertified(self) -> int:
        """Cells whose sign rests on a bound that evaluated samples contradict."""
        return 0 if self.counts is None else self.counts.uncertified


@dataclasses.dataclass(frozen=True)
class Surface:
    """One frame: vertices (V, 3) float32, head space, faces (F, 3) int32, and how they were found.

    The arrays are NumPy's, or torch's on the CUDA device of the field.
    """

    vertices: Any
    faces: Any
    info: ExtractionInfo


def mesh_of(surface: Surface, scale: np.float32) -> Mesh:
    """A surface, wherever it lies, as a mesh in the CPU's memory; `scale` is metres per head unit, or 1."""
    vertices = surface.vertices
    if not isinstance(vertices, Tensor):
        return Mesh(vertices * scale, surface.faces)
    scaled = vertices * float(scale)
    normals = vertex_normals(scaled, surface.faces)  # the CPU's bits, made before the copy
    return Mesh(scaled.cpu().numpy(), surface.faces.cpu().numpy(), normals.cpu().numpy())
