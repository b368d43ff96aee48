"""Fits of made captures against their truth: ``python -m experiments.fitting --json FILE``.

The built-in head speaks the demo's recording; sixteen scanners see it with 1 mm of noise and a fifth of the
points elsewhere (:mod:`facetalk.fitting.synthetic`). What is told: how far the true surface is from the
fitted one, where scanners saw it and beyond; how often lips that were shut are shut again; how still a face
that does not move stays; what becomes of a head that drifts; how a wrong person shows; a core's seconds a
frame beside the plain formula, which is Adam through the torch networks, in the same run.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from experiments.fitting.command import parser_of, told
from facetalk.fitting import DifferentiableField, Fit, FitOptions, fit_sequence
from facetalk.fitting.options import MM
from facetalk.fitting.synthetic import scan
from facetalk.motion import Motion
from facetalk.multi_pie import LOWER_LIP, UPPER_LIP
from facetalk.pipeline import FaceTalk

SPEECH = Path(__file__).parents[2] / "examples" / "demo.flac"
FIRST = 60  # frame of the demo at which the capture begins: the lips shut there, and open wide
SHUT_MM = 1.5
PAPER_STEPS = 500


def capture(field: DifferentiableField, codes: np.ndarray, points: int) -> list[np.ndarray]:
    """Noisy scans of a motion, metres."""
    return [
        0.25 * scan(field, code, points=points, noise_mm=1.0, outliers=0.2, seed=t)
        for t, code in enumerate(tqdm(codes, "scans", disable=None))
    ]


def surface_mm(field: DifferentiableField, fit: Fit, codes: np.ndarray, views: int) -> float:
    """Mean distance of points of the true surface from the fitted one; points that nobody saw before."""
    found = []
    for t, code in enumerate(codes):
        points = 0.25 * scan(field, code, points=2000, views=views, seed=10_000 + t)
        there = (np.c_[points, np.ones(len(points))] @ fit.poses[t].T)[:, :3].astype(np.float32)
        slopes = field.slopes(torch.from_numpy(there), torch.from_numpy(fit.motion.expressions[t]))
        found.append(float(slopes.value.abs().mean()) / MM)
    return float(np.mean(found))


def gaps_mm(model: FaceTalk, codes: np.ndarray) -> np.ndarray:
    """Gap between the inner lips in millimetres, a frame."""
    marks = model.landmarks(Motion(codes, 25.0, model.head.default_identity))
    gaps = np.linalg.norm(marks[:, UPPER_LIP] - marks[:, LOWER_LIP], axis=2)
    return 1000 * gaps.mean(axis=1)


def plain_seconds(model: FaceTalk, frame: np.ndarray, steps: int = 3) -> float:
    """A core's seconds of the paper's steps for one frame through the torch networks, by the first few."""
    head = model.head
    points = torch.from_numpy((4 * frame[:5000]).astype(np.float32))
    code = torch.zeros(head.expression_dim, requires_grad=True)
    optimizer = torch.optim.Adam([code], lr=1e-3)
    identity = torch.from_numpy(head.default_identity)
    begin = time.process_time()
    for _ in range(steps):
        optimizer.zero_grad()
        (10 * head.nphm.sdf(points, identity, code).abs().mean()).backward()
        optimizer.step()
    return (time.process_time() - begin) / steps * PAPER_STEPS


def pass_seconds(field: DifferentiableField, frame: np.ndarray, times: int = 5) -> float:
    """A core's seconds of one linearisation of a frame, without which there is no step: the floor."""
    points = torch.from_numpy((4 * frame[:5000]).astype(np.float32))
    code = torch.zeros(field.expression_dim)
    field.slopes(points, code)
    begin = time.process_time()
    for _ in range(times):
        field.slopes(points, code)
    return (time.process_time() - begin) / times


def run(frames: int, points: int) -> dict[str, Any]:
    """Everything that the module's text names."""
    model = FaceTalk.from_pretrained(device="cpu")
    head = model.head
    field = DifferentiableField(head.nphm, head.default_identity)
    codes = model.generate(SPEECH, seed=0).expressions[FIRST : FIRST + frames].clip(0, 1)
    scans = capture(field, codes, points)

    def fitted(of: list[np.ndarray], **options: Any) -> tuple[Fit, float]:
        begin = time.process_time()
        fit = fit_sequence(of, model, fps=25, options=FitOptions(**options))
        return fit, (time.process_time() - begin) / len(of)

    true = gaps_mm(model, codes)

    def lips(found: Fit) -> dict[str, Any]:
        mine, shut = gaps_mm(model, found.motion.expressions), true < SHUT_MM
        return {
            "shut_frames": int(shut.sum()),
            "shut_again": float((mine[shut] < SHUT_MM).mean()) if shut.any() else None,
            "gap_error_mm": float(np.abs(true - mine).mean()),
            "opening_r": float(np.corrcoef(true, mine)[0, 1]),
        }

    fit, seconds = fitted(scans)
    alone, alone_seconds = fitted(scans, together=1)
    still = [0.25 * scan(field, codes[0], points=points, noise_mm=1.0, outliers=0.2, seed=900 + t)
             for t in range(10)]  # fmt: skip
    resting = fitted(still)[0]
    jitter = np.diff(model.landmarks(resting.motion), axis=0)
    drift = np.linspace(0, 0.01, len(scans))[:, None] * np.array([1.0, 0.0, 0.0])
    drifted = fitted([frame + by for frame, by in zip(scans, drift, strict=True)])[0]
    moved = (drifted.poses[:, :3, 3] - fit.poses[:, :3, 3]) / 4 + drift
    other = head.encode_identity(np.random.default_rng(3).normal(0, 1.0, head.coefficient_dim))
    wrong = fit_sequence(scans[:3], model, fps=25, identity=other)
    paper, paper_seconds = fitted(scans[:3], method="adam", adam_steps=PAPER_STEPS)
    plain = plain_seconds(model, scans[0])
    return {
        "frames": len(scans),
        "points": int(np.mean([len(frame) for frame in scans])),
        "surface_mm": {
            "seen": surface_mm(field, fit, codes, 16),
            "from_the_front": surface_mm(field, fit, codes, 1),
        },
        "lips": lips(fit),
        "a_window_at_a_time": {
            "surface_mm": surface_mm(field, alone, codes, 16), "lips": lips(alone), "seconds": alone_seconds,
        },
        "still_jitter_mm": float(1000 * np.linalg.norm(jitter, axis=2).mean()),
        "drift_error_mm": float(1000 * np.linalg.norm(moved, axis=1).max()),
        "median_mm": {
            "right_person": float(np.mean(fit.report.median_mm[:3])),
            "wrong_person": float(np.mean(wrong.report.median_mm)),
        },
        "paper": {"frames": 3, "mean_mm": float(np.mean(paper.report.mean_mm)),
                  "ours_mean_mm": float(np.mean(fit.report.mean_mm[:3]))},
        "seconds_a_frame": {
            "newton": seconds, "adam_on_the_compiled_core": paper_seconds, "plain_torch": plain,
            "plain_over_newton": plain / seconds, "one_pass": pass_seconds(field, scans[0]),
        },
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module's text."""
    parser = parser_of("experiments.fitting", __doc__, 30)
    parser.add_argument("--points", type=int, default=8000, help="rays a frame (default 8000)")
    args = parser.parse_args(arguments)
    return told(lambda: run(args.frames, args.points), args)


if __name__ == "__main__":
    raise SystemExit(main())
