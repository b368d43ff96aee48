"""Reading animated glTF files back: what a talking head uses, and others that use the same features."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetalk.arrays import Float32, Int32, UInt8
from facetalk.errors import InputError
from facetalk.mesh.gltf_json import Fields
from facetalk.mesh.gltf_read import GlbFile
from facetalk.render.nodes import parents_first, read_nodes, read_tracks, target_count
from facetalk.render.surfaces import Surface, SurfaceReader
from facetalk.units import DEFAULT_FPS

MAX_FRAMES = 2_000_000
"""Frames of an animation: 22 hours at 25 fps."""
MAX_VISIBLE = 2**23
"""Vertices at one time; a scanned head of film quality has a hundredth."""
FARTHEST = 1e6
"""Coordinates that can be drawn, metres: float32 still tells the wheel of a truck from its cab there."""

_UNDERSTOOD = {"KHR_mesh_quantization", "KHR_materials_specular", "KHR_materials_ior", "KHR_materials_unlit"}
_MIDDLE = 0.01  # of a frame: how far from its middle a key may be
_NO_VOLUME = 1e-18  # determinant of a transform that shows nothing, as flip-books use it


@dataclasses.dataclass
class Geometry:
    """Everything that is visible at one time.

    Attributes:
        positions: (V, 3) world, metres.
        normals: (V, 3) unit.
        colors: (V, 3) linear RGB.
        faces: (F, 3) int32.
        materials: (F,) uint8 numbers of the scene's materials.
        uv: (V, 2) places on the pictures of the materials.
    """

    positions: Float32
    normals: Float32
    colors: Float32
    faces: Int32
    materials: UInt8
    uv: Float32


class AnimatedScene:
    """A glTF file that can be asked for its geometry at any time.

    Args:
        path: the file.
        allow_external: read buffers from files of its own folder, or below it.

    Attributes:
        materials: materials by number.
        pictures: of each of them, not yet decoded.
        fps: frame rate of the animation, from the file's notes or its keys.
        frames: number of frames.
        start: seconds of frame 0: half a frame where keys are in the middle of their frames, else 0.
        audio: recording beside the file, or None.
        missing_audio: name of the recording that ought to lie there, and does not; None where it does.
        duration: seconds, frames / fps.

    Raises:
        InputError: the file cannot be read, is damaged, or needs features that are not read here (skins,
            compression, buffers in other files without `allow_external`).
    """

    def __init__(self, path: Path, *, allow_external: bool = False) -> None:
        file = GlbFile(path, allow_external=allow_external)
        self.path = path
        missing = set(file.root.texts("extensionsRequired")) - _UNDERSTOOD
        if missing or any("skin" in node for node in file.root.children("nodes")):
            what = ", ".join(sorted(missing)) or "skins"
            raise InputError(f"{path} needs {what}, which facetalk does not draw")
        reader = SurfaceReader(file)
        self.materials, self.pictures = reader.materials, reader.pictures
        meshes = file.root.children("meshes")
        self._nodes = read_nodes(file, [target_count(mesh) for mesh in meshes])
        self._order = parents_first(file, self._nodes)
        self._tracks = read_tracks(file, self._nodes)
        self._surfaces: dict[int, list[Surface]] = {}
        for node, _ in self._order:
            mesh = self._nodes[node].mesh
            if mesh is not None and mesh not in self._surfaces:
                self._surfaces[mesh] = reader.mesh(meshes[mesh])
        if not any(self._surfaces.values()):
            raise InputError(f"{path} has no triangles to draw")
        asset = file.root.child("asset")
        notes = asset.child("extras") if isinstance(asset.get("extras"), dict) else Fields({}, "", path)
        self.fps, self.frames, self.start = self._timing(notes)
        self.duration = self.frames / self.fps
        self.audio = self._find_audio(notes)
        name = notes.get("audio")
        self.missing_audio = name if isinstance(name, str) and self.audio is None else None

    def geometry(self, time: float) -> Geometry:
        """What is visible ``time`` seconds into the animation.

        Raises:
            InputError: more than MAX_VISIBLE vertices, or some farther than FARTHEST.
        """
        parts: list[Geometry] = []
        world: dict[int, NDArray[Any]] = {}
        count = 0
        # Numbers that overflow are looked for at the end, once.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            for number, parent in self._order:
                matrix = self._matrix(number, time)
                matrix = matrix if parent is None else world[parent] @ matrix
                world[number] = matrix
                mesh = self._nodes[number].mesh
                if mesh is None:
                    continue
                if not np.isfinite(matrix).all():
                    raise self._overflow(time)
                if abs(np.linalg.det(matrix[:3, :3])) < _NO_VOLUME:
                    continue
                count += sum(len(surface.positions) for surface in self._surfaces[mesh])
                if count > MAX_VISIBLE:
                    raise InputError(
                        f"{self.path} shows {count} vertices or more at {time:.3f} s; at most {MAX_VISIBLE} "
                        "are drawn"
                    )
                weights = self._weights(number, time)
                parts += [_place(surface, weights, matrix) for surface in self._surfaces[mesh]]
            for part in parts:
                # False for NaN as well.
                if not (np.abs(part.positions) <= FARTHEST).all() or not np.isfinite(part.normals).all():
                    raise self._overflow(time)
        return _join(parts)

    def _overflow(self, time: float) -> InputError:
        return InputError(
            f"{self.path} is damaged: at {time:.3f} s a vertex lies more than {FARTHEST / 1000:g} km away"
        )

    def _weights(self, node: int, time: float) -> Float32:
        track = self._tracks.get((node, "weights"))
        return self._nodes[node].weights if track is None else track.at(time)

    def _matrix(self, number: int, time: float) -> NDArray[Any]:
        node = self._nodes[number]
        if node.matrix is not None:
            return node.matrix

        def value(path: str, rest: NDArray[Any]) -> NDArray[Any]:
            track = self._tracks.get((number, path))
            return rest if track is None else np.asarray(track.at(time), dtype=np.float64)

        matrix = np.eye(4)
        matrix[:3, :3] = _rotation(value("rotation", node.rotation)) * value("scale", node.scale)
        matrix[:3, 3] = value("translation", node.translation)
        return matrix

    def _timing(self, notes: Fields) -> tuple[float, int, float]:
        """(frames per second, number of frames, time of the first)."""
        tracks = [t for t in self._tracks.values() if len(t.times) > 1]
        times = [t.times for t in tracks]
        end = max((float(t[-1]) for t in times), default=0.0)
        first = min((float(t.times[0]) for t in self._tracks.values()), default=0.0)
        fps, frames = notes.get("fps"), notes.get("frames")
        if not isinstance(fps, (int, float)) or isinstance(fps, bool) or not 0.0 < fps <= 1000.0:
            steps = np.concatenate([np.diff(t) for t in times]) if times else np.zeros(0)
            steps = steps[steps > 1e-4]
            fps = float(np.clip(1.0 / np.median(steps), 1.0, 120.0)) if len(steps) else DEFAULT_FPS
        # Older files of facetalk have their keys at the beginning of frames, as most others do. A frame of a
        # stepped animation is safely hit in its middle.
        middle = abs(first * fps - 0.5) < _MIDDLE or (bool(tracks) and all(t.step for t in tracks))
        start = 0.5 / fps if middle else 0.0
        if isinstance(frames, (int, float)) and not isinstance(frames, bool):
            return float(fps), notes.integer("frames", low=1, high=MAX_FRAMES), start
        if not 0.0 <= end * fps < MAX_FRAMES:
            raise InputError(f"{self.path} is damaged: its animation ends at {end:g} s")
        # A key in the middle of the last frame, or at its beginning.
        return float(fps), int(end * fps + (0.5 if start == 0.0 else 0.0)) + 1, start

    def _find_audio(self, notes: Fields) -> Path | None:
        name = notes.get("audio")
        try:
            if isinstance(name, str) and (beside := self.path.parent / Path(name).name).is_file():
                return beside
        except (OSError, ValueError):  # longer than a name can be, or with a null character in it
            pass
        return None


def _place(surface: Surface, weights: Float32, matrix: NDArray[Any]) -> Geometry:
    positions, normals = surface.positions, surface.normals
    active = np.flatnonzero(weights[: len(surface.shapes)])
    if len(active) and len(surface.moved):
        # Row by row instead of a matrix product: pictures are posed side by side, and BLAS would start
        # threads of its own in each of them.
        change = surface.shapes[active[0]] * weights[active[0]]
        term = np.empty_like(change)
        for number in active[1:]:
            change += np.multiply(surface.shapes[number], weights[number], out=term)
        change = change.reshape(2, -1, 3)
        positions, normals = positions.copy(), normals.copy()
        positions[surface.moved] += change[0]
        normals[surface.moved] += change[1]
    turn = np.linalg.inv(matrix[:3, :3]).T
    positions = (positions @ matrix[:3, :3].T + matrix[:3, 3]).astype(np.float32)
    normals = (normals @ (turn / np.abs(turn).max()).T).astype(np.float32)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), np.float32(1e-12))
    kinds = [np.full(len(f), m, np.uint8) for f, m in zip(surface.faces, surface.materials, strict=True)]
    faces = np.concatenate(surface.faces)
    return Geometry(positions, normals, surface.colors, faces, np.concatenate(kinds), surface.uv)


def _join(parts: list[Geometry]) -> Geometry:
    if len(parts) == 1:
        return parts[0]
    if not parts:
        none, empty = np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32)
        return Geometry(none, none, none, empty, np.zeros(0, np.uint8), none[:, :2])
    starts = np.cumsum([0] + [len(p.positions) for p in parts[:-1]])
    faces = [p.faces + np.int32(start) for p, start in zip(parts, starts, strict=True)]
    return Geometry(
        np.concatenate([p.positions for p in parts]),
        np.concatenate([p.normals for p in parts]),
        np.concatenate([p.colors for p in parts]),
        np.concatenate(faces),
        np.concatenate([p.materials for p in parts]),
        np.concatenate([p.uv for p in parts]),
    )


def _rotation(quaternion: NDArray[Any]) -> NDArray[Any]:
    x, y, z, w = quaternion / max(float(np.linalg.norm(quaternion)), 1e-12)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
