"""Spoilt .glb and .gltf files, read, posed and drawn."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mesh_scenes import sphere
from mutate import pick, spoil_bytes, spoil_json, to_json, values

from facetalk.mesh import Mesh, RiggedSequence
from facetalk.mesh.export import export
from facetalk.render.render import Renderer
from facetalk.render.scene import AnimatedScene

Run = Callable[[np.random.Generator], None]
Parts = tuple[Any, bytes]


def pack(text: bytes, binary: bytes) -> bytes:
    """A .glb of a document and a buffer."""
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    total = 12 + 8 + len(text) + 8 + len(binary)
    head = struct.pack("<III", 0x46546C67, 2, total) + struct.pack("<II", len(text), 0x4E4F534A)
    return head + text + struct.pack("<II", len(binary), 0x004E4942) + binary


def unpack(raw: bytes) -> Parts:
    """The document and the buffer of a sound .glb."""
    length = struct.unpack_from("<I", raw, 12)[0]
    return json.loads(raw[20 : 20 + length]), raw[28 + length :]


def by_hand() -> Parts:
    """A document with what our own files do not have: all transforms and interpolations, odd types."""
    points, faces = sphere(2, 3)
    binary, views, accessors = b"", [], []

    def add(array: np.ndarray, kind: str, **more: Any) -> int:
        nonlocal binary
        code = {"float32": 5126, "uint8": 5121, "uint16": 5123, "int16": 5122, "int8": 5120}[array.dtype.name]
        views.append({"buffer": 0, "byteOffset": len(binary), "byteLength": array.nbytes})
        binary += array.tobytes() + b"\0" * (-array.nbytes % 4)
        accessors.append(
            {"bufferView": len(views) - 1, "componentType": code, "count": len(array), "type": kind, **more}
        )
        return len(accessors) - 1

    count = len(points)
    attributes = {
        "POSITION": add(points, "VEC3"),
        "NORMAL": add((points * 1000).astype(np.int8), "VEC3", normalized=True),
        "COLOR_0": add(np.full((count, 4), 200, np.uint8), "VEC4", normalized=True),
    }
    indices = add(faces.reshape(-1).astype(np.uint16), "SCALAR")
    rows, change = add(np.array([1, 3], np.uint8), "SCALAR"), add(np.ones((2, 3), np.float32), "VEC3")
    sparse = {
        "count": 2,
        "indices": {"bufferView": accessors[rows]["bufferView"], "componentType": 5121},
        "values": {"bufferView": accessors[change]["bufferView"]},
    }
    accessors.append({"componentType": 5126, "count": count, "type": "VEC3", "sparse": sparse})
    target = len(accessors) - 1
    times = add(np.array([0.0, 0.5, 1.0], np.float32), "SCALAR")
    turn = np.array([[0, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 1]], np.float32)
    samplers = [
        {"input": times, "output": add(turn, "VEC4"), "interpolation": "LINEAR"},
        {"input": times, "output": add(np.ones((9, 3), np.float32), "VEC3"), "interpolation": "CUBICSPLINE"},
        {"input": times, "output": add(np.ones((3, 3), np.float32), "VEC3"), "interpolation": "STEP"},
        {"input": times, "output": add(np.array([0, 1, 0], np.float32), "SCALAR")},
    ]
    paths = [(0, "rotation"), (1, "translation"), (1, "scale"), (1, "weights")]
    channels = [{"sampler": i, "target": {"node": n, "path": p}} for i, (n, p) in enumerate(paths)]
    primitive = {"attributes": attributes, "indices": indices, "material": 0}
    document = {
        "asset": {"version": "2.0", "extras": {"fps": 25, "frames": 4, "audio": "a.wav"}},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [
            {"children": [1, 2], "rotation": [0, 0, 0, 1], "translation": [0, 0.1, 0]},
            {"mesh": 0, "scale": [1, 1, 1], "weights": [0.5]},
            {"mesh": 1, "matrix": [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]},
        ],
        "meshes": [
            {"primitives": [{**primitive, "targets": [{"POSITION": target}]}], "weights": [0.25]},
            {"primitives": [{"attributes": {"POSITION": attributes["POSITION"]}, "mode": 4}]},
        ],
        "materials": [
            {
                "name": "skin",
                "pbrMetallicRoughness": {"roughnessFactor": 0.5, "baseColorFactor": [1, 0.5, 0.5, 1]},
            }
        ],
        "animations": [{"samplers": samplers, "channels": channels}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(binary)}],
    }
    return document, binary


def seeds(folder: Path) -> list[Parts]:
    """Sound files of all kinds, small, so that an iteration takes a millisecond or two."""
    base = Mesh(*sphere(3, 4))
    rig = RiggedSequence(base, np.full((2, len(base), 3), 0.01, np.float32), np.eye(3, 2, dtype=np.float32))
    ball = Mesh(*sphere(3, 4))
    export(folder / "bits.glb", rig, fps=25, quantize=True)
    export(folder / "rig.glb", rig, fps=25)
    export(folder / "flip.glb", [ball, Mesh(*sphere(2, 3))], fps=25)
    files = ("bits.glb", "rig.glb", "flip.glb")
    return [by_hand(), *(unpack((folder / name).read_bytes()) for name in files)]


def look(path: Path, rng: np.random.Generator, *, allow_external: bool = False) -> None:
    """Read a file, pose it at a few times, and draw it once in a while."""
    scene = AnimatedScene(path, allow_external=allow_external)
    for time in (0.0, 0.3, scene.duration):
        scene.geometry(time)
    if rng.random() < 0.3:
        Renderer(scene, (16, 16), samples=1).picture(float(rng.random()))


def glb(folder: Path) -> Run:
    """Containers: the document, the buffer and the frame around them are spoilt."""
    sound, path = seeds(folder), folder / "x.glb"

    def run(rng: np.random.Generator) -> None:
        document, binary = pick(rng, sound)
        if rng.random() < 0.75:
            document = spoil_json(rng, document)
        text = to_json(document)
        if rng.random() < 0.4:
            if rng.random() < 0.5:
                binary = spoil_bytes(rng, binary)
            else:
                floats = np.frombuffer(binary[: len(binary) // 4 * 4], np.float32).copy()
                where = rng.integers(0, len(floats), 4)
                floats[where] = values(rng, (4,))
                binary = floats.tobytes()
        if rng.random() < 0.1:
            text = spoil_bytes(rng, text)
        raw = pack(text, binary)
        path.write_bytes(spoil_bytes(rng, raw) if rng.random() < 0.1 else raw)
        look(path, rng)

    return run


def gltf(folder: Path) -> Run:
    """Documents with buffers in data: addresses and in files beside them."""
    sound, path = seeds(folder), folder / "x.gltf"
    (folder / "x.bin").write_bytes(b"\0" * 1000)
    (folder / "inside").mkdir(exist_ok=True)
    for number, (_, binary) in enumerate(sound):
        (folder / "inside" / f"{number}.bin").write_bytes(binary)
    link = folder / "link.bin"
    if not link.is_symlink():
        link.symlink_to("/etc/passwd")
    names = ["x.bin", "inside/0.bin", "../x.bin", "/etc/passwd", "link.bin", "file:///etc/passwd", "x.gltf",
             "%2e%2e/x.bin", "inside/../../x.bin", "http://localhost/x.bin", "inside", "%00.bin", "%ff.bin",
             "data:,", "data:text/plain;base64,AAAA", "a" * 300 + ".bin"]  # fmt: skip

    def run(rng: np.random.Generator) -> None:
        number = int(rng.integers(len(sound)))
        document, binary = sound[number]
        document = json.loads(json.dumps(document))
        if rng.random() < 0.5:
            data = base64.b64encode(binary).decode()
            document["buffers"][0]["uri"] = f"data:application/octet-stream;base64,{data}"
        else:
            document["buffers"][0]["uri"] = f"inside/{number}.bin"
        if rng.random() < 0.3:
            document["buffers"][0]["uri"] = pick(rng, names)
        if rng.random() < 0.7:
            document = spoil_json(rng, document)
        text = to_json(document)
        path.write_bytes(spoil_bytes(rng, text) if rng.random() < 0.15 else text)
        look(path, rng, allow_external=bool(rng.random() < 0.7))

    return run


TARGETS = {"glb": glb, "gltf": gltf}
