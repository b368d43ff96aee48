"""From captures to codes: scans in, expressions and poses out."""

from __future__ import annotations

from facetalk.fitting.differentiable import DifferentiableField, Slopes
from facetalk.fitting.options import FitOptions
from facetalk.fitting.report import Report
from facetalk.fitting.sequence import Fit, fit_points, fit_sequence

__all__ = [
    "DifferentiableField",
    "Fit",
    "FitOptions",
    "Report",
    "Slopes",
    "fit_points",
    "fit_sequence",
]
