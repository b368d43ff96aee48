"""A sheet of faces drawn for voices: two recordings of each, and other seeds."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from facetalk.arrays import UInt8
from facetalk.casting.draw import cast
from facetalk.casting.voice import Voice
from facetalk.mesh.export import export
from facetalk.motion import Motion
from facetalk.pipeline import FaceTalk
from facetalk.render.render import Renderer
from facetalk.render.scene import AnimatedScene
from facetalk.render.studio import Camera

__all__ = ["write_sheet"]

_CAMERA, _SIZE = Camera((0.0, -0.02, -0.03), 15.0, 0.0, 1.1), (160, 170)
_TEXTURE = 512  # pixels a side, of which a cell shows a few


def write_sheet(face: FaceTalk, heard: dict[str, list[Voice]], path: Path, seeds: int = 3) -> None:
    """Draw a row for each voice: its recordings by seed 0, then its first one by other seeds.

    Args:
        face: the model.
        heard: of each voice, by its name, two recordings.
        path: .png or .jpg to write.
        seeds: draws of the first recording.
    """
    rows = []
    for name, (one, two) in ((n, v) for n, v in heard.items() if len(v) == 2):
        draws = [(one, 0), (two, 0), *((one, seed) for seed in range(1, seeds))]
        cells = [_cell(face, voice, seed, f"{name}, {voice.f0:.0f} Hz" if seed == 0 else f"seed {seed}")
                 for voice, seed in draws]  # fmt: skip
        rows.append(np.concatenate(cells, axis=1))
    half = -(-len(rows) // 2)  # two columns of rows, so that a page shows them all
    rows += [np.zeros_like(rows[0])] * (2 * half - len(rows))
    columns = [np.concatenate(rows[:half], axis=0), np.concatenate(rows[half:], axis=0)]
    Image.fromarray(np.concatenate(columns, axis=1)).save(path, quality=88)


def _cell(face: FaceTalk, voice: Voice, seed: int, text: str) -> UInt8:
    still = np.zeros((1, face.head.expression_dim), np.float32)
    motion = Motion(still, 25.0, cast(voice, face.head, seed), {})
    # As people get it: hair and brows are in the pictures of a file, and hardly in the colours of vertices.
    with tempfile.TemporaryDirectory() as folder:
        glb = export(Path(folder) / "face.glb", face.decode(motion), fps=25.0, texture_size=_TEXTURE)
        image = Image.fromarray(Renderer(AnimatedScene(glb), _SIZE, camera=_CAMERA).picture(0.0))
    ImageDraw.Draw(image).text((6, 4), text, fill=(255, 255, 255))
    return np.asarray(image)
