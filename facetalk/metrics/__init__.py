"""The ruler: figures about motions, as plain functions on arrays.

Lips against phones (:mod:`.lips`), against a reference (:mod:`.compare`, :mod:`.timing`), life
(:mod:`.dynamics`), differences between seeds (:mod:`.diversity`), distances of distributions
(:mod:`.distribution` on :mod:`.motion_features`), lips against sound (:mod:`.sync`), pictures
(:mod:`.images`). ``docs/metrics.md`` and ``docs/metrics-sync.md`` tell what each one means and what deceives
it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from facetalk.metrics.compare import compare
from facetalk.metrics.distribution import frechet_distance, kernel_distance
from facetalk.metrics.diversity import diversity
from facetalk.metrics.dynamics import dynamics
from facetalk.metrics.lips import LipFigures, lip_gap, measure
from facetalk.metrics.motion_features import WindowBasis, motion_windows
from facetalk.optional import names_of

if TYPE_CHECKING:
    from facetalk.metrics.sync import SyncExpert

__all__ = [
    "LipFigures",
    "SyncExpert",
    "WindowBasis",
    "compare",
    "diversity",
    "dynamics",
    "frechet_distance",
    "kernel_distance",
    "lip_gap",
    "measure",
    "motion_windows",
]

# The expert needs torch, whose import takes longer than all other figures.
__getattr__ = names_of(__name__, {"SyncExpert": "facetalk.metrics.sync"})
