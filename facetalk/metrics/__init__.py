"""The ruler: figures about motions, as plain functions on arrays.

Lips against phones (:mod:`.lips`), against a reference (:mod:`.compare`, :mod:`.timing`), life
(:mod:`.dynamics`), differences between seeds (:mod:`.diversity`), distances of distributions
(:mod:`.distribution` on :mod:`.motion_features`). ``docs/metrics.md`` tells what each one means and what
deceives it.
"""

from facetalk.metrics.compare import compare
from facetalk.metrics.distribution import frechet_distance, kernel_distance
from facetalk.metrics.diversity import diversity
from facetalk.metrics.dynamics import dynamics
from facetalk.metrics.lips import LipFigures, lip_gap, measure
from facetalk.metrics.motion_features import WindowBasis, motion_windows

__all__ = [
    "LipFigures",
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
