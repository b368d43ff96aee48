"""Cameras found in pictures: ``python -m experiments.fitting.structure --json FILE``.

The built-in head speaks before sixteen cameras on an arc, with textured skin or in its own plain colours, and
pictures of several sizes; where its 68 landmarks are is known to a pixel. COLMAP finds places and focal
length of the cameras in one moment, and once more places alone, the focal length being known; they are held
against the truth after a similarity of their centres. The fit with them is held against that with the true
cameras, by the surface of the codes in the head's own space, since the world that is found has axes and a
scale of its own.
"""

from __future__ import annotations

import contextlib
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
from experiments.fitting.images import CAMERAS, FOCAL, NOISE_PX, PIXELS, shoot, skin_seen
from facetalk.errors import InputError
from facetalk.fitting import DifferentiableField, FitOptions
from facetalk.fitting.cameras import Camera, View
from facetalk.fitting.options import MM
from facetalk.fitting.stage import arc
from facetalk.fitting.views import Capture
from facetalk.metrics.lips import lip_gap
from facetalk.motion import Motion
from facetalk.pipeline import FaceTalk
from facetalk.posing import landmarks, rigged
from facetalk.units import HEAD_UNIT_METRES

STAGES = {"textured_256": (256, False), "textured_512": (512, False), "plain_1024": (1024, True)}
"""Pixels a side, and whether skin has but the head's own colours."""
EVERY = 12  # frames of the demo between two of the capture


def run(frames: int) -> dict[str, Any]:
    """Everything that the module's text names."""
    model = FaceTalk.from_pretrained(device="cpu")
    codes = model.generate(SPEECH, seed=0).expressions[FIRST::EVERY][:frames].clip(0, 1)
    rows = {name: _stage(model.head, codes, *stage) for name, stage in STAGES.items()}
    return {"frames": frames, "cameras": CAMERAS, "noise_px": NOISE_PX, **rows}


def _stage(head: Any, codes: np.ndarray, size: int, plain: bool) -> dict[str, Any]:
    motion = Motion(codes, 25.0, head.default_identity)
    true = landmarks(head, motion, None).astype(np.float64)
    rig = rigged(head, motion, None, 0)
    cameras = arc(CAMERAS, true.mean((0, 1)), focal=FOCAL * size / PIXELS, size=size)
    # Which skin is seen does not depend on the pictures' size.
    small = arc(CAMERAS, true.mean((0, 1)), focal=FOCAL, size=PIXELS)
    seen = [skin_seen(rig[t].vertices, rig.base, small) for t in range(len(codes))]
    field = DifferentiableField(head.nphm, head.default_identity)

    def fitted(capture: Capture, state: Path) -> dict[str, float]:
        fit = capture.fit(
            head, fps=25.0, identity=None, options=FitOptions(), state=state, progress=lambda done: None
        )
        off = []
        for t, rows in enumerate(seen):
            points = torch.from_numpy(rig[t].vertices[rows] / np.float32(HEAD_UNIT_METRES))
            code = torch.from_numpy(fit.motion.expressions[t])
            off.append(float(field.slopes(points, code).value.abs().mean()) / MM)
        gaps, shown = lip_gap(true), lip_gap(landmarks(head, fit.motion, None))
        return {"surface_mm": float(np.mean(off)), "gap_error_mm": float(np.abs(gaps - shown).mean())}

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        taken = shoot(folder, rig, true, cameras, size, plain)
        (folder / "known.json").write_text(json.dumps({"cameras": taken}))
        bare = [{key: one[key] for key in ("name", "images", "landmarks", "size")} for one in taken]
        told: dict[str, Any] = {"known": fitted(Capture([], folder / "known.json", None), folder / "a")}
        for name, more in (("found", {}), ("focal_known", {"focal": FOCAL * size / PIXELS})):
            (folder / "bare.json").write_text(json.dumps({"cameras": bare, **more}))
            begin = time.perf_counter()
            row: dict[str, Any] = {"placed": 0}
            # A fit may refuse landmarks that cameras of wrong places give.
            with contextlib.suppress(InputError):
                capture = Capture([], folder / "bare.json", None)
                assert capture.views is not None
                row = {"seconds": time.perf_counter() - begin, **errors(capture.views.views, cameras)}
                row |= fitted(capture, folder / name)
            told[name] = row
        return told


def errors(found: list[View], cameras: list[Camera]) -> dict[str, float]:
    """Of places, orientations and focal lengths, after the similarity that lays the centres on the true ones
    (S. Umeyama, 1991). Names of cameras are their numbers."""
    true = [cameras[int(view.name)] for view in found]
    a, b = (np.stack([one.centre for one in some]) for some in ([view.camera for view in found], true))
    middle = a.mean(0), b.mean(0)
    a, b = a - middle[0], b - middle[1]
    u, s, vt = np.linalg.svd(b.T @ a)
    handed = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    turn, size = u @ handed @ vt, float((s * np.diag(handed)).sum() / (a**2).sum())
    off = 1000 * np.linalg.norm(size * a @ turn.T - b, axis=1)
    cosines = [
        (np.trace(view.camera.R @ turn.T @ one.R.T) - 1) / 2 for view, one in zip(found, true, strict=True)
    ]
    angles = np.degrees(np.arccos(np.clip(cosines, -1, 1)))
    focal = [view.camera.K[0, 0] / one.K[0, 0] - 1 for view, one in zip(found, true, strict=True)]
    return {
        "placed": len(found), "position_mm": float(off.mean()), "position_most_mm": float(off.max()),
        "rotation_deg": float(angles.mean()), "rotation_most_deg": float(angles.max()),
        "focal_off": float(np.mean(focal)),
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module's text."""
    args = parser_of("experiments.fitting.structure", __doc__, 3).parse_args(arguments)
    return told(lambda: run(args.frames), args)


if __name__ == "__main__":
    raise SystemExit(main())
