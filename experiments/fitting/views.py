"""Fits of landmarks that cameras saw: ``python -m experiments.fitting.views --json FILE``.

The built-in head speaks the demo's recording before sixteen cameras on an arc, whose pictures have 256 pixels
a side. Each of the 68 landmarks is seen with a pixel of noise; there are no points. Then two cameras are
missing and one stands elsewhere than it is said to. What is told: how far the true surface is from the fitted
one, how often lips that were shut are shut again, and which camera was found to be wrong.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from experiments.fitting.__main__ import FIRST, SHUT_MM, SPEECH, surface_mm
from facetalk.files import atomic_path
from facetalk.fitting import DifferentiableField, FitOptions, fit_sequence
from facetalk.fitting.cameras import Camera
from facetalk.fitting.triangulate import triangulate
from facetalk.metrics.lips import lip_gap
from facetalk.motion import Motion
from facetalk.pipeline import FaceTalk
from facetalk.posing import landmarks

CAMERAS, PIXELS, FOCAL, AWAY_M = 16, 256, 620.0, 0.9
NOISE_PX = 1.0
MISSING, WRONG, SHIFT_M = (3, 9), 5, 0.05


def arc(middle: np.ndarray) -> list[Camera]:
    """Cameras that look at a point, metres."""
    K = np.array([[FOCAL, 0.0, PIXELS / 2], [0.0, FOCAL, PIXELS / 2], [0.0, 0.0, 1.0]])
    found = []
    for angle in np.radians(np.linspace(-65.0, 65.0, CAMERAS)):
        eye = middle + AWAY_M * np.array([np.sin(angle), 0.2 * np.sin(3 * angle), np.cos(angle)])
        z = (middle - eye) / np.linalg.norm(middle - eye)
        x = np.cross(z, [0.0, 1.0, 0.0])
        x /= np.linalg.norm(x)
        R = np.stack([x, np.cross(z, x), z])
        found.append(Camera(K, R, -R @ eye))
    return found


def run(frames: int) -> dict[str, Any]:
    """Everything that the module's text names."""
    model = FaceTalk.from_pretrained(device="cpu")
    head = model.head
    field = DifferentiableField(head.nphm, head.default_identity)
    codes = model.generate(SPEECH, seed=0).expressions[FIRST : FIRST + frames].clip(0, 1)
    true = landmarks(head, Motion(codes, 25.0, head.default_identity), None).astype(np.float64)
    cameras = arc(true.mean((0, 1)))
    rng = np.random.default_rng(0)
    pixels = np.stack([np.stack([camera.project(frame)[0] for frame in true]) for camera in cameras])
    pixels += rng.normal(0.0, NOISE_PX, pixels.shape)
    names = [str(number) for number in range(CAMERAS)]

    def fitted(given: list[Camera], seen: np.ndarray) -> dict[str, Any]:
        begin = time.perf_counter()
        found = triangulate(given, seen, names)
        fit = fit_sequence(None, head, fps=25, marks=found.points, options=FitOptions())
        seconds = (time.perf_counter() - begin) / frames
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


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.fitting.views", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--frames", type=int, default=30, help="of the capture (default 30)")
    parser.add_argument("--json", type=Path, default=None, help="write the figures here")
    args = parser.parse_args()
    found = run(args.frames)
    text = json.dumps(found, indent=1) + "\n"
    print(text)
    if args.json is not None:
        with atomic_path(args.json) as temporary:
            temporary.write_text(text)


if __name__ == "__main__":
    main()
