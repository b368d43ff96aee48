"""Bounds on how fast a field changes, by which a value keeps space free of surface."""

from __future__ import annotations

import dataclasses
from typing import Any

from facetalk.arrays import Float32
from facetalk.ops._extension import load


@dataclasses.dataclass(frozen=True)
class LocalBounds:
    """Greatest slopes by place.

    Attributes:
        origin: (3,) corner of the lattice, head space.
        spacing: (3,) sizes of its cells, head units.
        reach: per level, growing: how far around any point of a cell its bound holds, head units.
        values: (levels, nx, ny, nz) float32, above 0.
    """

    origin: tuple[float, float, float]
    spacing: tuple[float, float, float]
    reach: tuple[float, ...]
    values: Float32

    def packed(self) -> tuple[Any, ...]:
        """The bounds as the extension takes them."""
        return self.origin, self.spacing, list(self.reach), self.values


@dataclasses.dataclass(frozen=True)
class SlopeBounds:
    """Bounds on how fast a field changes, so that a value says how far away the surface is.

    Attributes:
        everywhere: greatest slope of the canonical field.
        slope: the same by canonical place.
        raw: whether they are of the values without NPHM's far-away shrinkage ("raw_sdf") or of "sdf".
        stretch: greatest |y(a) - y(b)| / |a - b| of the deformation.
        stretches: the same by posed place.
    """

    everywhere: float
    slope: LocalBounds | None = None
    raw: bool = False
    stretch: float = 1.0
    stretches: LocalBounds | None = None

    def packed(self) -> Any:
        """The bounds as the extension takes them."""
        return load().SlopeBounds(
            raw=self.raw, everywhere=self.everywhere, stretch=self.stretch,
            slope=None if self.slope is None else self.slope.packed(),
            stretches=None if self.stretches is None else self.stretches.packed(),
        )  # fmt: skip
