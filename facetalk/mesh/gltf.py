"""Animated heads as binary glTF 2.0: morph targets for constant topology, a flip-book for a changing one.

Morph targets are sparse: only the vertices that a shape moves. They are floats, which every reader takes, or
16-bit (their normals 8-bit), which the ratified extension KHR_mesh_quantization allows; three.js, Babylon.js,
Blender, Unity (glTFast, UnityGLTF), Godot 4 and Filament read it. Lengths in the file are metres after the
node's scale, which is the size of the quantisation grid.

Eyes that turn are nodes of their own, with meshes around their centres and keys of rotation.

Every primitive has its own vertices: engines make a buffer of each primitive, with all the vertices and morph
targets that it names, used or not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetalk import version
from facetalk.arrays import Float32, Int32, Int64, UInt8
from facetalk.mesh.eyes import TurningEye, turn_quaternions, without_eyes
from facetalk.mesh.glb import INDEX_DATA, VERTEX_DATA, GlbWriter
from facetalk.mesh.gltf_json import Json
from facetalk.mesh.gltf_maps import add_maps
from facetalk.mesh.materials import MATERIAL_OF_PART, Material, srgb_to_linear
from facetalk.mesh.mesh import Mesh
from facetalk.mesh.morphs import MorphTargets
from facetalk.mesh.pose import NECK, quaternions, translations
from facetalk.mesh.sequence import RiggedSequence
from facetalk.mesh.textures import Maps
from facetalk.mesh.vrm import add_avatar

_QUANTIZATION = "KHR_mesh_quantization"

ROTATION_VECTORS = "rotationVectors"
"""In the extras of an eye's node: rotation vectors (axis times angle, radians) at a weight of 1, by the names
of morph targets. An eye is turned by the sum of weight times vector."""


def write_morphs(
    path: Path,
    targets: MorphTargets,
    *,
    fps: float,
    extras: Json,
    quantize: bool,
    avatar: bool = False,
    pose: Float32 | None = None,
    maps: Mapping[str, Maps] = MappingProxyType({}),
) -> None:
    """Write a sequence of constant topology.

    Args:
        path: .glb to write.
        targets: base mesh, shapes and weights.
        fps: frames per second; frame ``i`` stands for the time from ``i / fps`` to ``(i + 1) / fps``, and its
            key is in the middle: the sound that begins with the animation is in step with it.
        extras: notes that go into ``asset.extras``.
        quantize: 16-bit morph targets; False writes floats, which need no extension.
        avatar: add what makes it a VRM.
        pose: (T, 6) where the head is in each frame, or None.
        maps: pictures by material, of a base that has a texture.
    """
    base, balls = without_eyes(targets.base, targets.eyes)
    with GlbWriter(path) as glb:
        _asset(glb, extras)
        scale = targets.step * 32767.0 if quantize and targets.step > 0.0 else 1.0
        morphs = len(targets.shapes)
        if morphs:
            _view_of_zeros(glb, base)
        # The scale is a power of two: dividing by it loses nothing.
        mesh: Json = {"name": "head", "primitives": _primitives(glb, base, scale, targets, maps)}
        if morphs:
            mesh["weights"] = targets.rest.tolist()
            mesh["extras"] = {"targetNames": list(targets.names)}
        node: Json = {"name": "head", "mesh": glb.add("meshes", mesh)}
        if scale != 1.0:
            node["scale"] = [scale] * 3
        head = glb.add("nodes", node)
        scene = [head]
        if morphs and quantize:
            glb.document |= {"extensionsUsed": [_QUANTIZATION], "extensionsRequired": [_QUANTIZATION]}
        animation = _Animation(glb, fps, len(targets.weights))
        if morphs:
            animation.add(head, "weights", targets.weights.reshape(-1))
        neck = None
        # Bones are in metres; what hangs on the mesh's node has its scale.
        size = 1.0 if avatar else scale
        eyes = [_eye(glb, eye, ball, size, targets.names, maps) for eye, ball in balls]
        for number, (eye, _) in zip(eyes, balls, strict=True):
            animation.add(number, "rotation", turn_quaternions(eye.turns).astype(np.float32))
        if eyes and not avatar:
            node["children"] = eyes
        if avatar:
            scene, neck = add_avatar(glb, head, targets.names, eyes)
        elif pose is not None:
            neck = glb.add("nodes", {"name": "neck", "translation": list(NECK), "children": [head]})
            node["translation"] = [-value for value in NECK]
            scene = [neck]
        if neck is not None and pose is not None:
            rest = np.array(glb.document["nodes"][neck]["translation"])
            animation.add(neck, "rotation", quaternions(pose).astype(np.float32))
            animation.add(neck, "translation", (rest + translations(pose)).astype(np.float32))
        animation.finish()
        _scene(glb, scene)
        glb.finish()


def _eye(
    glb: GlbWriter,
    eye: TurningEye,
    ball: Mesh,
    scale: float,
    names: Sequence[str],
    maps: Mapping[str, Maps],
) -> int:
    """The node of an eye, below one of a scale; its extras say how weights turn it."""
    mesh = {"name": eye.name, "primitives": _primitives(glb, ball, scale, maps=maps)}
    place = [float(value) for value in eye.centre / scale]
    node: Json = {"name": eye.name, "translation": place, "mesh": glb.add("meshes", mesh)}
    if eye.rates is not None:
        pairs = zip(names, eye.rates, strict=True)
        node["extras"] = {ROTATION_VECTORS: {name: rate.tolist() for name, rate in pairs if rate.any()}}
    return glb.add("nodes", node)


class _Animation:
    """What moves over the frames of a document, with keys in their middles."""

    def __init__(self, glb: GlbWriter, fps: float, frames: int) -> None:
        self._glb, self._frames = glb, frames
        self._times = ((np.arange(frames) + 0.5) / fps).astype(np.float32)
        self._input = -1
        self._samplers: list[Json] = []
        self._channels: list[Json] = []

    def add(self, node: int, path: str, values: Float32) -> None:
        """Move a property of a node; without frames nothing moves."""
        if not self._frames:
            return
        if self._input < 0:
            self._input = self._glb.accessor(self._times, bounds=True)
        sampler = {"input": self._input, "output": self._glb.accessor(values), "interpolation": "LINEAR"}
        self._channels.append({"sampler": len(self._samplers), "target": {"node": node, "path": path}})
        self._samplers.append(sampler)

    def finish(self) -> None:
        """Add the animation, if there is any."""
        if self._channels:
            entry = {"name": "talk", "samplers": self._samplers, "channels": self._channels}
            self._glb.add("animations", entry)


def write_flipbook(path: Path, meshes: Iterable[Mesh], *, fps: float, extras: Json) -> int:
    """Write one mesh per frame, each shown for its time by a stepped animation of its node's scale.

    Stepped scale is what viewers show today; the extensions for visibility are read by few.

    Returns:
        The number of frames.
    """
    with GlbWriter(path) as glb:
        _asset(glb, extras)
        samplers: list[Json] = []
        channels: list[Json] = []
        count = 0
        for count, mesh in enumerate(meshes, 1):
            if not len(mesh) or not len(mesh.faces):
                continue  # glTF has no empty meshes; such a frame shows nothing
            index, name = count - 1, f"frame_{count - 1:05d}"
            entry: Json = {"name": name, "primitives": _primitives(glb, mesh, 1.0)}
            shown = 1.0 if index == 0 else 0.0
            node = {"name": name, "mesh": glb.add("meshes", entry), "scale": [shown] * 3}
            keys = [(index / fps, 1.0), ((index + 1) / fps, 0.0)]
            if index:
                keys.insert(0, (0.0, 0.0))
            times = np.array([k[0] for k in keys], np.float32)
            scales = np.repeat(np.array([k[1] for k in keys], np.float32), 3).reshape(-1, 3)
            sampler = {"input": glb.accessor(times, bounds=True), "output": glb.accessor(scales)}
            samplers.append({**sampler, "interpolation": "STEP"})
            target = {"node": glb.add("nodes", node), "path": "scale"}
            channels.append({"sampler": len(samplers) - 1, "target": target})
        extras["frames"] = count
        if channels:
            # The last frame stays: its closing key is dropped.
            last = glb.document["accessors"][samplers[-1]["input"]]
            last["count"] -= 1
            last["max"] = [float(np.float32((count - 1) / fps))]
            glb.document["accessors"][samplers[-1]["output"]]["count"] -= 1
            glb.add("animations", {"name": "talk", "samplers": samplers, "channels": channels})
        _scene(glb, list(range(len(channels))))
        glb.finish()
    return count


def _asset(glb: GlbWriter, extras: Json) -> None:
    glb.document["asset"].update(generator=f"facetalk {version.__version__}", extras=extras)


def _scene(glb: GlbWriter, nodes: list[int]) -> None:
    scene: Json = {"name": "talk"}
    if nodes:
        scene["nodes"] = nodes
    glb.add("scenes", scene)
    glb.document["scene"] = 0


def _primitives(
    glb: GlbWriter,
    mesh: Mesh,
    scale: float,
    targets: MorphTargets | None = None,
    maps: Mapping[str, Maps] = MappingProxyType({}),
) -> list[Json]:
    """One primitive per material, with the vertices that its faces use."""
    primitives = []
    for piece in split_by_material(mesh):
        rows = piece.rows
        attributes = {
            "POSITION": glb.accessor(
                mesh.vertices[rows] / np.float32(scale), target=VERTEX_DATA, bounds=True
            ),
            "NORMAL": glb.accessor(_unit(mesh.normals[rows]), target=VERTEX_DATA),
        }
        pictures = maps.get(piece.material.name)
        if piece.uv is not None and pictures is not None:
            # Instead of colours of vertices, by which readers would multiply. v counts downwards in glTF.
            flipped = np.stack([piece.uv[:, 0], 1.0 - piece.uv[:, 1]], axis=1).astype(np.float32)
            attributes["TEXCOORD_0"] = glb.accessor(flipped, target=VERTEX_DATA)
        elif mesh.colors is not None:
            attributes["COLOR_0"] = glb.accessor(
                _linear_colors(mesh.colors[rows]), target=VERTEX_DATA, normalized=True
            )
        dtype = np.uint16 if len(rows) <= 0xFFFF else np.uint32
        primitive: Json = {
            "attributes": attributes,
            "indices": glb.accessor(piece.faces.reshape(-1).astype(dtype), target=INDEX_DATA),
            "mode": 4,
            "material": _material(glb, piece.material, mesh.colors is None, pictures),
        }
        if targets is not None and len(targets.shapes):
            primitive["targets"] = _targets(glb, targets, rows, scale)
        primitives.append(primitive)
    return primitives


_ZEROS = 0
"""Number of the view of zeros.

A sparse accessor need not name a view: what it does not list is zero. Godot before 4.1 takes the first view
of the file for that (github.com/godotengine/godot/pull/76875), so the first one has nothing but zeros. That
the accessors name it would be no better: Babylon.js writes what they list into the view that they share.
"""


def _view_of_zeros(glb: GlbWriter, mesh: Mesh) -> None:
    """Begin the file with zeros enough for the morph targets of any primitive."""
    most = max((len(piece.rows) for piece in split_by_material(mesh)), default=1)
    view = glb.view(np.zeros((most, 3), np.float32), target=VERTEX_DATA, stride=12)
    assert view == _ZEROS


def _targets(glb: GlbWriter, targets: MorphTargets, rows: Int64, scale: float) -> list[dict[str, int]]:
    """Accessors of all morph targets of the vertices ``rows``."""
    quantized = targets.step > 0.0
    still: int | None = None  # one accessor of zeros serves every shape that leaves these vertices alone
    found = []
    for shape, normal, touched in zip(targets.shapes, targets.normals, targets.touched, strict=True):
        moved = np.flatnonzero(touched[rows])
        place, turn = shape[rows] / np.float32(scale), normal[rows]
        if quantized:
            place = np.rint(place * np.float32(32767.0)).astype(np.int16)
            turn = np.rint(turn * np.float32(127.0)).astype(np.int8)  # half a degree, which nobody sees
        if not len(moved):
            if still is None:
                # An accessor without any data is legal, but some importers trip over it.
                still = glb.zeros(place, _ZEROS, normalized=quantized)
            found.append({"POSITION": still, "NORMAL": still})
        elif len(moved) > 0.95 * len(rows):
            # Row numbers cost less than the padding of dense targets, but for (nearly) full ones.
            found.append(
                {
                    "POSITION": glb.accessor(place, target=VERTEX_DATA, normalized=quantized, bounds=True),
                    "NORMAL": glb.accessor(turn, target=VERTEX_DATA, normalized=quantized),
                }
            )
        else:
            view = glb.row_numbers(moved, len(rows))
            found.append(
                {
                    "POSITION": glb.sparse(place, moved, view, normalized=quantized, bounds=True),
                    "NORMAL": glb.sparse(turn, moved, view, normalized=quantized),
                }
            )
    return found


@dataclasses.dataclass(frozen=True)
class Piece:
    """The part of a mesh that is of one material.

    Attributes:
        material: of its faces.
        rows: (v,) numbers of the vertices of the mesh that its faces use: rising, but of a mesh with a
            texture, where a vertex is there once for each of its places on the picture.
        faces: (f, 3) vertex numbers among ``rows``.
        uv: (v, 2) places on the material's picture, v upwards, or None.
    """

    material: Material
    rows: Int64
    faces: Int32
    uv: Float32 | None = None


def split_by_material(mesh: Mesh) -> list[Piece]:
    """A mesh in pieces of one material each; a face on a border belongs to the part with the lower number.

    Vertices on a border are in each of the pieces beside it; vertices of no face are in none.
    """
    part = np.zeros(len(mesh), np.int64) if mesh.part is None else mesh.part.astype(np.int64)
    part = np.where(part < len(MATERIAL_OF_PART), part, 0)
    of_face = part[mesh.faces].min(axis=1) if len(mesh.faces) else np.zeros(0, np.int64)
    names = np.array([m.name for m in MATERIAL_OF_PART])[of_face]
    pieces = []
    for material in dict.fromkeys(MATERIAL_OF_PART):
        mine, uv = names == material.name, None
        faces = mesh.faces[mine] if mesh.texture is None else mesh.texture.corners[mine]
        if len(faces):
            rows, local = np.unique(faces, return_inverse=True)
            if mesh.texture is not None:
                rows, uv = mesh.texture.vertex[rows], mesh.texture.uv[rows]
            pieces.append(Piece(material, rows.astype(np.int64), local.reshape(-1, 3).astype(np.int32), uv))
    return pieces


def rows_in_file(sequence: RiggedSequence) -> Int64:
    """(N,) which vertex of a rig each vertex of its file is, in the order of nodes and primitives."""
    face, balls = without_eyes(sequence.base, sequence.eyes)
    meshes = [face, *(ball for _, ball in balls)]
    return np.concatenate([piece.rows for mesh in meshes for piece in split_by_material(mesh)])


def _material(glb: GlbWriter, material: Material, paint: bool, maps: Maps | None) -> int:
    for number, known in enumerate(glb.document.get("materials", [])):
        if known["name"] == material.name:
            return number
    shine: dict[str, Any] = {"metallicFactor": 0.0, "roughnessFactor": material.roughness}
    if paint:
        shine["baseColorFactor"] = [*srgb_to_linear(np.rint(material.color)).tolist(), 1.0]
    entry: Json = {"name": material.name, "pbrMetallicRoughness": shine, "doubleSided": True}
    if maps is not None:
        add_maps(glb, entry, maps)
    return glb.add("materials", entry)


def _linear_colors(colors: UInt8) -> NDArray[np.uint16]:
    """(V, 4) linear colours in 16 bits: in 8 bits, dark colours would show steps."""
    linear = np.ones((len(colors), 4), np.float32)
    linear[:, :3] = srgb_to_linear(colors)
    return np.rint(linear * 65535.0).astype(np.uint16)


def _unit(normals: Float32) -> Float32:
    """Normals of length 1 as exactly as float32 can; upwards where there is none."""
    length = np.linalg.norm(normals.astype(np.float64), axis=1, keepdims=True)
    up = np.array([0.0, 1.0, 0.0])
    return np.where(length > 1e-6, normals / np.maximum(length, 1e-12), up).astype(np.float32)
