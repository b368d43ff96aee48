"""The page of ``facetalk live --preview``: the head itself, moved by the frames that go to WebSocket clients.

``preview.html`` draws it by WebGL; nothing is fetched from elsewhere.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from facetalk.data.arkit import ArkitFace
from facetalk.live.websocket import Page
from facetalk.mesh import RiggedSequence

PATH = "/preview"
"""Where the page is on the server."""


def pages(rig: RiggedSequence, face: ArkitFace) -> dict[str, Page]:
    """The page and the head that it draws, by their paths.

    Args:
        rig: the head, of any frames.
        face: ARKit's names for its expressions.
    """
    text = (Path(__file__).parent / "preview.html").read_bytes()
    return {
        PATH: Page("text/html; charset=utf-8", text),
        "/rig.bin": Page("application/octet-stream", pack(rig, face)),
    }


def pack(rig: RiggedSequence, face: ArkitFace) -> bytes:
    """A head and its 52 shapes, little-endian.

    u32 vertices V, faces F, shapes S, eyes E; f32 positions (V, 3) in metres; u32 faces (F, 3); f32 unit (S,)
    of each shape; f32 centres (E, 3) of eyes in metres, and rotation vectors (E, S, 3) by which shapes turn
    them; i16 displacements (S, V, 3) in their unit; u8 sRGB colours (V, 3); u8 eye (V,) of each vertex, from
    1 on, 0 for none.
    """
    base = rig.base
    shapes = face.shapes(rig.basis)
    unit = np.maximum(np.abs(shapes).max(axis=(1, 2)), 1e-9) / np.iinfo(np.int16).max
    colours = np.full(base.vertices.shape, 200, np.uint8) if base.colors is None else base.colors
    centres, rates = np.zeros((len(rig.eyes), 3)), np.zeros((len(rig.eyes), len(shapes), 3))
    eye_of = np.zeros(len(base.vertices), np.uint8)
    for number, eye in enumerate(rig.eyes):
        centres[number], eye_of[eye.rows] = eye.centre, number + 1
        rates[number] = face.shapes(eye.rates[:, None].astype(np.float32))[:, 0]
    parts = (
        base.vertices.astype("<f4"), base.faces.astype("<u4"), unit.astype("<f4"),
        centres.astype("<f4"), rates.astype("<f4"), np.rint(shapes / unit[:, None, None]).astype("<i2"),
        colours, eye_of,
    )  # fmt: skip
    sizes = struct.pack("<4I", len(base.vertices), len(base.faces), len(shapes), len(rig.eyes))
    return sizes + b"".join(part.tobytes() for part in parts)
