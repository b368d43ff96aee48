"""What a fit aims at, and how long it tries."""

from __future__ import annotations

import dataclasses
from typing import Literal

from facetalk.errors import InputError
from facetalk.units import HEAD_UNIT_METRES

MM = 1e-3 / HEAD_UNIT_METRES
"""A millimetre in head units."""


@dataclasses.dataclass(frozen=True)
class FitOptions:
    """Weights and limits of :func:`facetalk.fitting.fit_sequence`.

    Attributes:
        method: "newton" solves each window by damped Gauss-Newton steps; "adam" is FaceTalk's way (CVPR 2024,
            supplementary): `adam_steps` of Adam on 10 |distance| + 0.1 Huber(change of the code) + 0.0025
            |code|^2, at a rate of 1e-3 and 1e-4 after three fifths of them.
        window: frames that are solved together; FaceTalk takes 10.
        overlap: frames of the window before that a window goes on from; FaceTalk takes 2.
        together: windows that follow each other and are solved at once, as one.
        points: of each frame, at most so many, drawn anew for each step; FaceTalk takes 5,000.
        steps: of Newton's method, at most.
        adam_steps: of Adam.
        point_share: of a point's say that it keeps, up to 1, where points are not independent of each other.
        code_spread: standard deviation that codes are expected to have.
        code_speed: the scale of Cauchy's distribution of their changes from frame to frame, in motion.
        still_speed: the least of this scale, where it does not; it is a quarter of the largest change. Frames
            with landmarks of the lips are not held still by it.
        contact: how much likelier lips are that touch than lips that are apart, in units of log-likelihood;
            it pulls on those that nearly touch, in frames without landmarks of the lips.
        pose: also fit a rigid pose of each frame.
        pose_speed_mm: standard deviation of a pose's change from frame to frame, at the face's surface.
        landmark_mm: standard deviation of landmarks, where there are any.
        aligned: the first frame's points lie on the head as they are, but for their unit, which is said.
        outlier_mm: points farther than this from the fitted surface count for nothing in the end.
        seed: of the points that are drawn.
    """

    method: Literal["newton", "adam"] = "newton"
    window: int = 10
    overlap: int = 2
    together: int = 4
    points: int = 5000
    steps: int = 20
    adam_steps: int = 500
    point_share: float = 1.0
    code_spread: float = 0.5
    code_speed: float = 0.01
    still_speed: float = 0.0025
    contact: float = 4.0
    pose: bool = True
    pose_speed_mm: float = 4.0
    landmark_mm: float = 1.0
    aligned: bool = False
    outlier_mm: float = 5.0
    seed: int = 0

    @property
    def stride(self) -> int:
        """Frames that are solved at once; the paper's way takes a window at a time."""
        if self.method == "adam":
            return self.window
        return self.window + (self.together - 1) * (self.window - self.overlap)

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.method not in ("newton", "adam"):
            raise InputError(f"method: expected newton or adam, got {self.method!r}")
        for name in ("window", "together", "points", "steps", "adam_steps"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if not 0 <= self.overlap < self.window:
            raise InputError(f"overlap: expected 0 to window - 1 = {self.window - 1}, got {self.overlap}")
        for name in (
            "point_share",
            "code_spread",
            "code_speed",
            "still_speed",
            "pose_speed_mm",
            "landmark_mm",
            "outlier_mm",
        ):
            if not getattr(self, name) > 0:
                raise InputError(f"{name}: expected a positive number, got {getattr(self, name)}")
        if not self.contact >= 0:
            raise InputError(f"contact: expected a number of at least 0, got {self.contact}")
