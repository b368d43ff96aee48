"""Contact sheets of the head: mouths, blinks and identities, close up, to be looked at by people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from experiments.common.portrait import close, picture
from facetalk.arrays import Float32
from facetalk.motion import Motion
from facetalk.pipeline import FaceTalk
from facetalk.render.studio import Camera

__all__ = ["MOUTHS", "write_sheets"]

MOUTHS: dict[str, dict[str, float]] = {
    "rest": {},
    "a": {"jawOpen": 0.45},
    "e": {"jawOpen": 0.18, "mouthStretch": 0.4, "mouthLowerDown": 0.3, "mouthUpperUp": 0.2},
    "i": {"jawOpen": 0.1, "mouthSmile": 0.5, "mouthLowerDown": 0.3},
    "o": {"jawOpen": 0.28, "mouthFunnel": 0.6},
    "u": {"jawOpen": 0.1, "mouthPucker": 0.8},
    "f, v": {"jawOpen": 0.1, "mouthRollLower": 0.6, "mouthUpperUp": 0.3},
    "th": {"jawOpen": 0.14, "mouthLowerDown": 0.3, "mouthUpperUp": 0.2},
    "m": {"jawOpen": 0.1, "mouthClose": 0.1, "mouthPress": 0.2},
}
"""Weights of sounds; a name without side means both."""
_BLINK = (0.0, 0.3, 0.6, 0.85, 1.0)


def write_sheets(face: FaceTalk, folder: Path, codes: list[Float32]) -> list[Path]:
    """Draw mouths and a blink of the default identity, and the faces of ``codes``; return the files."""
    names = face.head.expression_names

    def weights(values: dict[str, float]) -> Float32:
        out = np.zeros(len(names), np.float32)
        for name, value in values.items():
            out[[known in (name, f"{name}_L", f"{name}_R") for known in names]] = value
        return out

    own = np.zeros(0, np.float32)
    codes_of = np.stack([weights(v) for v in MOUTHS.values()])
    reach = face.head.tables.reach
    touch = np.array([[0.0, float(sound == "th")] for sound in MOUTHS])
    tongue = None if reach is None else reach.weights(touch, codes_of)
    mouths = list(face.decode(Motion(codes_of, 25.0, own, {}, tongue=tongue)))
    blinks = list(face.decode(Motion(np.stack([weights({"eyeBlink": b}) for b in _BLINK]), 25.0, own, {})))
    heads = [
        list(face.decode(Motion(np.stack([weights({}), weights({"eyeBlink": 1.0})]), 25.0, code, {})))
        for code in codes
    ]
    mouth, eye = (0.0, -0.053, 0.045), (0.0325, 0.018, 0.035)
    sheets = {
        "mouths.png": [
            [picture(m, close(mouth, azimuth, elevation, 0.11), (300, 270)) for m in mouths]
            for azimuth, elevation in ((0.0, 0.0), (60.0, 0.0), (0.0, -35.0))
        ],
        "blink.png": [[picture(m, close(eye, 10.0, 0.0, 0.06), (360, 300)) for m in blinks]],
        "identities.png": [
            [picture(h[0], Camera((0.0, -0.02, -0.03), 15.0, 0.0, 1.25), (300, 340)) for h in heads],
            [picture(h[1], close(eye, 0.0, 0.0, 0.08), (300, 240)) for h in heads],
        ],
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in sheets.items():
        sheet = np.concatenate([np.concatenate(row, axis=1) for row in rows], axis=0)
        Image.fromarray(sheet).save(folder / name)
    return [folder / name for name in sheets]
