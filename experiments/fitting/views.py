"""Fits of landmarks that cameras saw: ``python -m experiments.fitting.views --json FILE``.

The built-in head speaks the demo's recording before sixteen cameras on an arc, whose pictures have 256 pixels
a side. Each of the 68 landmarks is seen with a pixel of noise; there are no points. Then two cameras are
missing and one stands elsewhere than it is said to. What is told: how far the true surface is from the fitted
one, how often lips that were shut are shut again, and which camera was found to be wrong.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.fitting.__main__ import FIRST, SHUT_MM, SPEECH, surface_mm
from experiments.fitting.command import parser_of, told
from facetalk.fitting import DifferentiableField, FitOptions, fit_sequence
from facetalk.fitting.cameras import Camera
from facetalk.fitting.stage import arc
from facetalk.fitting.triangulate import triangulate
from facetalk.metrics.lips import lip_gap
from facetalk.motion import Motion
from facetalk.pipeline import FaceTalk
from facetalk.posing import landmarks

CAMERAS, PIXELS, FOCAL = 16, 256, 620.0
NOISE_PX = 1.0
MISSING, WRONG, SHIFT_M = (3, 9), 5, 0.05


def run(frames: int) -> dict[str, Any]:
    """Everything that the module's text names."""
    model = FaceTalk.from_pretrained(device="cpu")
    head = model.head
    field = DifferentiableField(head.nphm, head.default_identity)
    codes = model.generate(SPEECH, seed=0).expressions[FIRST : FIRST + frames].clip(0, 1)
    true = landmarks(head, Motion(codes, 25.0, head.default_identity), None).astype(np.float64)
    cameras = arc(CAMERAS, true.mean((0, 1)), focal=FOCAL, size=PIXELS)
    rng = np.random.default_rng(0)
    pixels = np.stack([np.stack([camera.project(frame)[0] for frame in true]) for camera in cameras])
    pixels += rng.normal(0.0, NOISE_PX, pixels.shape)
    names = [str(number) for number in range(CAMERAS)]

    def fitted(given: list[Camera], seen: np.ndarray) -> dict[str, Any]:
        begin = time.process_time()
        found = triangulate(given, seen, names)
        fit = fit_sequence(None, head, fps=25, marks=found.points, options=FitOptions())
        seconds = (time.process_time() - begin) / frames
        mine = landmarks(head, fit.motion, None)
        gaps, shown = lip_gap(true), lip_gap(mine)
        shut = gaps < SHUT_MM
        return {
            "surface_mm": surface_mm(field, fit, codes, 16),
            "shut_frames": int(shut.sum()),
            "shut_again": float((shown[shut] < SHUT_MM).mean()) if shut.any() else None,
            "gap_error_mm": float(np.abs(gaps - shown).mean()),
            "opening_r": float(np.corrcoef(gaps, shown)[0, 1]),
            "cameras_told_wrong": [name for name in found.wrong if np.isfinite(seen[int(name)]).any()],
            "seconds_a_frame": seconds,
        }

    spoilt, moved = pixels.copy(), list(cameras)
    spoilt[list(MISSING)] = np.nan
    there = cameras[WRONG]
    moved[WRONG] = Camera(there.K, there.R, there.t + np.array([SHIFT_M, 0.0, 0.0]))
    return {
        "frames": frames, "cameras": CAMERAS, "pixels": PIXELS, "noise_px": NOISE_PX,
        "whole": fitted(cameras, pixels),
        "spoilt": {"missing": [names[i] for i in MISSING], "wrong": names[WRONG], **fitted(moved, spoilt)},
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module's text."""
    parser = parser_of("experiments.fitting.views", __doc__, 30)
    args = parser.parse_args(arguments)
    return told(lambda: run(args.frames), args)


if __name__ == "__main__":
    raise SystemExit(main())
