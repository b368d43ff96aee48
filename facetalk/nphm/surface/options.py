"""What a frame's surface is asked for by, and what comes of it."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np
from torch import Tensor

from facetalk.errors import InputError
from facetalk.mesh.mesh import Mesh
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

    Raises:
        InputError: a tolerance that is none.
    """

    tolerance_mm: float = DEFAULT_TOLERANCE_MM
    exact: bool = False
    cache: bool | None = None
    coarse: bool = True

    def __post_init__(self) -> None:
        """Refuses a tolerance that is none."""
        if not (np.isfinite(self.tolerance_mm) and self.tolerance_mm >= 0):
            raise InputError(f"tolerance_mm: expected millimetres, 0 or more, got {self.tolerance_mm!r}")


@dataclasses.dataclass(frozen=True)
class ExtractionInfo:
    """How a frame was found.

    Attributes:
        method: "dense", "band" or "cache".
        points: samples of the lattice.
        counts: what the networks were asked, and what could not be certified; None for "dense".
        tolerance_mm: error that was accepted, millimetres; 0: the networks' values.
        cache_error_mm: largest error of the cached field at held-out points, millimetres; None without one.
    """

    method: Literal["dense", "band", "cache"]
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
