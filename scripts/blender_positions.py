"""What Blender makes of an animated .glb: the vertices of every frame.

Runs in a Python that has Blender's module (pip install bpy), and needs nothing of facetalk:

    python scripts/blender_positions.py talk.glb talk.npz

Frames are looked at in the middle of their time, where facetalk puts their keys.
"""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

import bpy
import numpy as np


def notes(path: Path) -> dict[str, float]:
    """What facetalk wrote into ``asset.extras``: frames and fps."""
    raw = path.read_bytes()
    (length,) = struct.unpack_from("<I", raw, 12)
    return dict(json.loads(raw[20 : 20 + length])["asset"]["extras"])


def _order(thing: bpy.types.Object) -> tuple[bool, str]:
    return thing.data.shape_keys is None, thing.name


def _shown(posed: bpy.types.Object) -> np.ndarray:
    """(V, 3) where the vertices of an evaluated mesh are."""
    flat = np.empty(3 * len(posed.data.vertices), np.float32)
    posed.data.vertices.foreach_get("co", flat)
    matrix = np.array(posed.matrix_world)
    x, y, z = (flat.reshape(-1, 3) @ matrix[:3, :3].T + matrix[:3, 3]).T
    return np.stack([x, z, -y], axis=1)  # in Blender z points up


def main(source: Path, target: Path) -> None:
    """Write ``positions`` (frames, V, 3) in metres and glTF's axes, ``names``, ``weights`` (frames, K)."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.import_scene.gltf(filepath=str(source))
    scene = bpy.context.scene
    # The head's mesh, then what hangs on it: the left eye, the right eye.
    meshes = sorted((thing for thing in scene.objects if thing.type == "MESH"), key=_order)
    head = meshes[0]
    blocks = [] if head.data.shape_keys is None else head.data.shape_keys.key_blocks[1:]
    said, positions, weights = notes(source), [], []
    for frame in range(int(said["frames"])):
        at = (frame + 0.5) / said["fps"] * scene.render.fps / scene.render.fps_base
        scene.frame_set(int(at), subframe=at - int(at))
        graph = bpy.context.evaluated_depsgraph_get()
        positions.append(np.concatenate([_shown(mesh.evaluated_get(graph)) for mesh in meshes]))
        weights.append([block.value for block in blocks])
    np.savez(target, positions=np.array(positions, np.float32), weights=np.array(weights, np.float32),
             names=np.array([block.name for block in blocks], dtype=str))  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
