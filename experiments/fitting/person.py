"""Somebody else in pictures: ``python -m experiments.fitting.person --json FILE``.

People drawn from the built-in head's morphable model say what the demo says, with textured skin, before the
sixteen cameras of :mod:`experiments.fitting.images`, with landmarks known to a pixel and no points.
``--identity fit`` looks for each of them. What is told, beside the same for the head's own identity and for
the person's true code: how far the skin that cameras saw is from the fitted surface, how far the neutral
landmarks are from the person's, and what the lips do.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.fitting.__main__ import FIRST, SPEECH
from experiments.fitting.command import parser_of, told
from experiments.fitting.images import CAMERAS, FOCAL, NOISE_PX, PIXELS, floor_mm, shoot, skin_seen
from facetalk.fitting import DifferentiableField, FitOptions
from facetalk.fitting.capture_identity import find_person
from facetalk.fitting.marks import USED
from facetalk.fitting.options import MM
from facetalk.fitting.stage import arc
from facetalk.fitting.views import Capture
from facetalk.metrics.lips import lip_gap
from facetalk.motion import Motion
from facetalk.pipeline import FaceTalk
from facetalk.posing import landmarks, rigged
from facetalk.units import HEAD_UNIT_MM

PEOPLE = (5, 6)
EVERY = 12  # frames of the demo between two of the capture, so that a few show it


def run(frames: int) -> dict[str, Any]:
    """Everything that the module's text names."""
    model = FaceTalk.from_pretrained(device="cpu")
    codes = model.generate(SPEECH, seed=0).expressions[FIRST::EVERY][:frames].clip(0, 1)
    people = [_person(model.head, seed, codes) for seed in PEOPLE]
    rows = {
        name: {key: float(np.mean([one[name][key] for one in people])) for key in people[0][name]}
        for name in people[0]
    }
    return {"people": len(people), "frames": frames, "cameras": CAMERAS, "pixels": PIXELS,
            "noise_px": NOISE_PX, **rows}  # fmt: skip


def _person(head: Any, seed: int, codes: np.ndarray) -> dict[str, dict[str, float]]:
    """Figures of one person: with nobody looked for, with the person found, and with the person known."""
    code = head.encode_identity(np.random.default_rng(seed).normal(0, 1.0, head.coefficient_dim))
    motion = Motion(codes, 25.0, code)
    true = landmarks(head, motion, None).astype(np.float64)
    rig = rigged(head, motion, None, 0)
    cameras = arc(CAMERAS, true.mean((0, 1)), focal=FOCAL, size=PIXELS)
    seen = [skin_seen(rig[t].vertices, rig.base, cameras) for t in range(len(codes))]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "capture.json").write_text(json.dumps({"cameras": shoot(folder, rig, true, cameras)}))

        def fitted(identity: np.ndarray | None) -> dict[str, float]:
            capture = Capture([], folder / "capture.json", None)
            fit = capture.fit(
                head, fps=25.0, identity=identity, options=FitOptions(), state=folder / "state",
                progress=lambda done: None,
            )  # fmt: skip
            field, off = DifferentiableField(head.nphm, fit.motion.identity), []
            for t, rows in enumerate(seen):
                there = rig[t].vertices[rows] @ fit.poses[t, :3, :3].T + fit.poses[t, :3, 3]
                expression = torch.from_numpy(fit.motion.expressions[t])
                slopes = field.slopes(torch.from_numpy(there.astype(np.float32)), expression)
                off.append(float(slopes.value.abs().mean()) / MM)
            gaps, shown = lip_gap(true), lip_gap(landmarks(head, fit.motion, None))
            return {
                "surface_mm": float(np.mean(off)),
                "neutral_landmarks_mm": _apart_mm(head, fit.motion.identity, code),
                "gap_error_mm": float(np.abs(gaps - shown).mean()),
            }

        begin = time.process_time()
        found = find_person(Capture([], folder / "capture.json", None), head, 25.0, FitOptions())
        seconds = time.process_time() - begin
        return {
            "unknown": fitted(None),
            "found": {**fitted(found), "seconds": seconds},
            "known": {**fitted(code), "drawn_from_field_mm": floor_mm(
                DifferentiableField(head.nphm, code), rig, codes, seen
            )},
        }  # fmt: skip


def _apart_mm(head: Any, one: np.ndarray, other: np.ndarray) -> float:
    """Mean distance of neutral landmarks of two people, laid on each other without a change of size."""
    a, b = (head.bind(code).landmarks()[USED].astype(np.float64) for code in (one, other))
    a, b = a - a.mean(0), b - b.mean(0)
    u, _, vt = np.linalg.svd(b.T @ a)
    turn = u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt
    return float(HEAD_UNIT_MM * np.linalg.norm(a @ turn.T - b, axis=1).mean())


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module's text."""
    args = parser_of("experiments.fitting.person", __doc__, 6).parse_args(arguments)
    return told(lambda: run(args.frames), args)


if __name__ == "__main__":
    raise SystemExit(main())
