"""The frames of `Field.iterate` as lists."""

from __future__ import annotations

from typing import Any

from facetalk.mesh import Mesh
from facetalk.nphm import Field
from facetalk.nphm.lattice import DEFAULT_BOUNDS
from facetalk.nphm.surface.options import ExtractionInfo, ExtractionOptions


def told(
    field: Field,
    codes: Any,
    resolution: Any,
    bounds: Any = DEFAULT_BOUNDS,
    *,
    units: Any = "metres",
    **options: Any,
) -> tuple[list[Mesh], list[ExtractionInfo]]:
    """The meshes of `Field.extract` with these options, and how each was found."""
    found = field.iterate(codes, resolution, bounds, options=ExtractionOptions(**options), units=units)
    frames = list(found)
    return [mesh for mesh, _ in frames], [info for _, info in frames]
