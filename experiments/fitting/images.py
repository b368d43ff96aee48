"""Fits of pictures alone: ``python -m experiments.fitting.images --json FILE``.

The built-in head speaks the demo's recording, with textured skin, before sixteen cameras on an arc, whose
pictures have 256 pixels a side and noise. Where its 68 landmarks are in each picture is known to a pixel;
there are no points. Then two cameras are missing and one stands elsewhere than it is said to; then one camera
is all there is, which gives landmarks alone. What is told: how far the skin that cameras saw is from the
fitted surface, what the lips do, which camera was found to be wrong.
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
from PIL import Image
from tqdm import tqdm

from experiments.fitting.__main__ import FIRST, SHUT_MM, SPEECH
from experiments.fitting.command import parser_of, told
from facetalk.fitting import DifferentiableField, FitOptions
from facetalk.fitting.cameras import Camera
from facetalk.fitting.options import MM
from facetalk.fitting.stage import Stage, arc
from facetalk.fitting.sweep import Picture, visible
from facetalk.fitting.views import Capture
from facetalk.metrics.lips import lip_gap
from facetalk.motion import Motion
from facetalk.nphm.head.parts import Part
from facetalk.ops.normals import vertex_normals
from facetalk.pipeline import FaceTalk
from facetalk.posing import landmarks, rigged
from facetalk.units import HEAD_UNIT_METRES

CAMERAS, PIXELS, FOCAL = 16, 256, 620.0
NOISE_PX = 1.0
MISSING, WRONG, SHIFT_M = (3, 9), 5, 0.05


def run(frames: int) -> dict[str, Any]:
    """Everything that the module's text names."""
    model = FaceTalk.from_pretrained(device="cpu")
    head = model.head
    field = DifferentiableField(head.nphm, head.default_identity)
    codes = model.generate(SPEECH, seed=0).expressions[FIRST : FIRST + frames].clip(0, 1)
    motion = Motion(codes, 25.0, head.default_identity)
    true = landmarks(head, motion, None).astype(np.float64)
    rig = rigged(head, motion, None, 0)
    cameras = arc(CAMERAS, true.mean((0, 1)), focal=FOCAL, size=PIXELS)
    seen = [skin_seen(rig[t].vertices, rig.base, cameras) for t in range(frames)]

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        taken = shoot(folder, rig, true, cameras)

        def fitted(given: dict[int, Camera]) -> dict[str, Any]:
            entries = [{**taken[v], "t": one.t.tolist()} for v, one in given.items()]
            (folder / "capture.json").write_text(json.dumps({"cameras": entries}))
            begin = time.process_time()
            capture = Capture([], folder / "capture.json", None)
            fit = capture.fit(
                head, fps=25.0, identity=None, options=FitOptions(), state=folder / "state",
                progress=lambda done: None,
            )  # fmt: skip
            seconds = (time.process_time() - begin) / frames
            gaps, shown = lip_gap(true), lip_gap(landmarks(head, fit.motion, None))
            shut = gaps < SHUT_MM
            off = []
            for t in range(frames):
                there = rig[t].vertices[seen[t]] @ fit.poses[t, :3, :3].T + fit.poses[t, :3, 3]
                code = torch.from_numpy(fit.motion.expressions[t])
                found = field.slopes(torch.from_numpy(there.astype(np.float32)), code)
                off.append(float(found.value.abs().mean()) / MM)
            assert capture.views is not None
            points = (
                [] if capture.views.seen is None else [len(capture.views.seen[t]) for t in (0, frames - 1)]
            )
            return {
                "surface_mm": float(np.mean(off)),
                "points": int(np.mean(points)) if points else 0,
                "point_mm": fit.report.as_json().get("mean_mm"),
                "shut_frames": int(shut.sum()),
                "shut_again": float((shown[shut] < SHUT_MM).mean()) if shut.any() else None,
                "gap_error_mm": float(np.abs(gaps - shown).mean()),
                "opening_r": float(np.corrcoef(gaps, shown)[0, 1]),
                "cameras_told_wrong": capture.views.wrong,
                "seconds_a_frame": seconds,
            }

        whole = dict(enumerate(cameras))
        there = cameras[WRONG]
        moved = {**whole, WRONG: Camera(there.K, there.R, there.t + np.array([SHIFT_M, 0.0, 0.0]))}
        found = {
            "frames": frames, "cameras": CAMERAS, "pixels": PIXELS, "noise_px": NOISE_PX,
            "true_codes_surface_mm": floor_mm(field, rig, codes, seen),
            "whole": fitted(whole),
            "alone": fitted({CAMERAS // 2: cameras[CAMERAS // 2]}),
            "spoilt": {
                "missing": [str(v) for v in MISSING], "wrong": str(WRONG),
                **fitted({v: one for v, one in moved.items() if v not in MISSING}),
            },
        }  # fmt: skip
    return found


def shoot(
    folder: Path, rig: Any, marks: np.ndarray, cameras: list[Camera], size: int = PIXELS, plain: bool = False
) -> list[dict[str, Any]]:
    """Take pictures and landmarks into a folder; a camera's entry of the ``capture.json`` each."""
    stage, rng, entries = Stage(rig.base, size), np.random.default_rng(0), []
    pixels = np.stack([np.stack([camera.project(frame)[0] for frame in marks]) for camera in cameras])
    pixels += rng.normal(0.0, NOISE_PX, pixels.shape)
    for v, camera in enumerate(tqdm(cameras, "cameras", disable=None)):
        (folder / f"{v}").mkdir()
        np.save(folder / f"{v}.npy", pixels[v])
        for t in range(len(marks)):
            picture = stage.picture(rig[t], camera, seed=1000 * v + t, plain=plain)
            Image.fromarray(picture).save(folder / f"{v}" / f"{t:04d}.png")
        told = {name: getattr(camera, name).tolist() for name in ("K", "R", "t")}
        entries.append(
            {"name": str(v), **told, "images": str(v), "landmarks": f"{v}.npy", "size": [size, size]}
        )
    return entries


def skin_seen(vertices: np.ndarray, base: Any, cameras: list[Camera]) -> np.ndarray:
    """Vertices of the skin that two cameras see."""
    points = vertices.astype(np.float64)
    normals = np.asarray(vertex_normals(vertices, base.faces), np.float64)
    blank = np.zeros((PIXELS, PIXELS), np.float32)
    count = sum(
        visible(Picture(camera, blank), points, normals, points, 0.4).astype(int) for camera in cameras
    )
    return np.flatnonzero((count >= 2) & (base.part == Part.SKIN))


def floor_mm(field: DifferentiableField, rig: Any, codes: np.ndarray, seen: list[np.ndarray]) -> float:
    """Distance of the drawn mesh from the field of the true codes: the two are not quite the same."""
    off = []
    for t, code in enumerate(codes):
        points = torch.from_numpy(rig[t].vertices[seen[t]] / np.float32(HEAD_UNIT_METRES))
        off.append(float(field.slopes(points, torch.from_numpy(code)).value.abs().mean()) / MM)
    return float(np.mean(off))


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module's text."""
    parser = parser_of("experiments.fitting.images", __doc__, 20)
    args = parser.parse_args(arguments)
    return told(lambda: run(args.frames), args)


if __name__ == "__main__":
    raise SystemExit(main())
