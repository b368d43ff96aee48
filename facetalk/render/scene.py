"""Reading animated glTF files back: what a talking head uses, and others that use the same features."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetalk.arrays import Float32, Int32, UInt8
from facetalk.errors import InputError
from facetalk.mesh.glb import GlbFile, Json
from facetalk.mesh.materials import MATERIALS, Material
from facetalk.mesh.mesh import vertex_normals
from facetalk.units import DEFAULT_FPS

_UNDERSTOOD = {"KHR_mesh_quantization", "KHR_materials_specular", "KHR_materials_ior", "KHR_materials_unlit"}
_TRIANGLES = 4


@dataclasses.dataclass
class Geometry:
    """Everything that is visible at one time.

    Attributes:
        positions: (V, 3) world, metres.
        normals: (V, 3) unit.
        colors: (V, 3) linear RGB.
        faces: (F, 3) int32.
        materials: (F,) uint8 numbers of the scene's materials.
    """

    positions: Float32
    normals: Float32
    colors: Float32
    faces: Int32
    materials: UInt8


@dataclasses.dataclass
class _Surface:
    """Vertices that one or more primitives share."""

    positions: Float32
    normals: Float32
    colors: Float32
    moved: NDArray[np.int64]  # rows that any morph target changes
    shapes: Float32  # (K, 6 * moved) positions, then normals
    faces: list[Int32]
    materials: list[int]


@dataclasses.dataclass
class _Track:
    """One animated property: keys over time."""

    times: NDArray[np.float64]
    values: Float32  # (keys, width)
    step: bool
    rotation: bool

    def at(self, time: float) -> Float32:
        after = int(np.searchsorted(self.times, time, side="right"))
        if after == 0 or after == len(self.times) or self.step:
            return self.values[max(0, min(after, len(self.times)) - 1)]
        start, end = self.times[after - 1], self.times[after]
        share = np.float32((time - start) / (end - start))
        a, b = self.values[after - 1], self.values[after]
        if self.rotation and float(a @ b) < 0.0:
            b = -b  # the short way round
        value = a + (b - a) * share
        return value / np.linalg.norm(value) if self.rotation else value


class AnimatedScene:
    """A glTF file that can be asked for its geometry at any time.

    Attributes:
        materials: materials by number.
        fps: frame rate of the animation, from the file's notes or its keys.
        frames: number of frames.
        audio: recording beside the file, or None.
        duration: seconds, frames / fps.

    Raises:
        InputError: the file cannot be read, or needs features that are not read here (skins, compression).
    """

    def __init__(self, path: Path) -> None:
        self._file = file = GlbFile(path)
        self.path = path
        self._nodes, self._meshes = file.list("nodes"), file.list("meshes")
        missing = set(file.document.get("extensionsRequired", [])) - _UNDERSTOOD
        if missing or any("skin" in node for node in self._nodes):
            what = ", ".join(sorted(missing)) or "skins"
            raise InputError(f"{path} needs {what}, which facetalk does not draw")
        self.materials = [_material(m) for m in file.list("materials")] + [Material("plain")]
        try:
            self._tints = [_tint(m) for m in file.list("materials")] + [np.full(3, 0.6, np.float32)]
            self._tracks = self._read_tracks()
            scenes = file.list("scenes")
            roots = (
                scenes[file.document.get("scene", 0)].get("nodes", []) if scenes else range(len(self._nodes))
            )
            self._order = self._flatten(list(roots))
            self._surfaces: dict[int, list[_Surface]] = {}
            for number in {self._nodes[n]["mesh"] for n, _ in self._order if "mesh" in self._nodes[n]}:
                self._surfaces[number] = self._read_mesh(self._meshes[number])
        except (KeyError, IndexError, TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path} is damaged: {type(error).__name__} {error}") from error
        if not any(self._surfaces.values()):
            raise InputError(f"{path} has no triangles to draw")
        notes = file.document["asset"].get("extras", {})
        notes = notes if isinstance(notes, dict) else {}
        self.fps, self.frames = self._timing(notes)
        self.duration = self.frames / self.fps
        self.audio = self._find_audio(notes)

    def geometry(self, time: float) -> Geometry:
        """What is visible ``time`` seconds into the animation."""
        parts: list[Geometry] = []
        world: dict[int, NDArray[Any]] = {}
        for node, parent in self._order:
            matrix = self._matrix(node, time)
            world[node] = matrix if parent is None else world[parent] @ matrix
            if "mesh" not in self._nodes[node] or abs(np.linalg.det(world[node][:3, :3])) < 1e-18:
                continue
            weights = self._weights(node, time)
            parts += [_place(s, weights, world[node]) for s in self._surfaces[self._nodes[node]["mesh"]]]
        return _join(parts)

    def _weights(self, node: int, time: float) -> Float32:
        track = self._tracks.get((node, "weights"))
        if track is not None:
            return track.at(time)
        entry = self._nodes[node]
        values = entry.get("weights", self._meshes[entry["mesh"]].get("weights", []))
        return np.asarray(values, dtype=np.float32)

    def _matrix(self, node: int, time: float) -> NDArray[Any]:
        entry = self._nodes[node]
        if "matrix" in entry:
            return np.asarray(entry["matrix"], dtype=np.float64).reshape(4, 4).T

        def value(path: str, rest: list[float]) -> NDArray[Any]:
            track = self._tracks.get((node, path))
            return np.asarray(entry.get(path, rest) if track is None else track.at(time), dtype=np.float64)

        matrix = np.eye(4)
        matrix[:3, :3] = _rotation(value("rotation", [0, 0, 0, 1])) * value("scale", [1, 1, 1])
        matrix[:3, 3] = value("translation", [0, 0, 0])
        return matrix

    def _flatten(self, roots: list[int]) -> list[tuple[int, int | None]]:
        """(node, parent) with parents first."""
        order: list[tuple[int, int | None]] = []
        queue: list[tuple[int, int | None]] = [(n, None) for n in roots]
        while queue:
            node, parent = queue.pop(0)
            order.append((node, parent))
            if len(order) > len(self._nodes):
                raise ValueError("its nodes form a loop")
            queue += [(child, node) for child in self._nodes[node].get("children", [])]
        return order

    def _read_tracks(self) -> dict[tuple[int, str], _Track]:
        tracks = {}
        for animation in self._file.list("animations")[:1]:
            for channel in animation["channels"]:
                sampler = animation["samplers"][channel["sampler"]]
                path, node = channel["target"]["path"], channel["target"].get("node")
                if node is None or path == "pointer":
                    continue
                times = self._file.array(sampler["input"]).astype(np.float64)
                values = self._file.array(sampler["output"]).astype(np.float32).reshape(len(times), -1)
                kind = sampler.get("interpolation", "LINEAR")
                if kind == "CUBICSPLINE":
                    # In-tangent, value, out-tangent: straight lines between the values are close enough to
                    # draw.
                    third = values.shape[1] // 3
                    values = values[:, third : 2 * third]
                tracks[node, path] = _Track(times, values, kind == "STEP", path == "rotation")
        return tracks

    def _read_mesh(self, mesh: Json) -> list[_Surface]:
        shared: dict[str, _Surface] = {}
        for primitive in mesh["primitives"]:
            if primitive.get("mode", _TRIANGLES) != _TRIANGLES or "POSITION" not in primitive["attributes"]:
                continue
            number = primitive.get("material", len(self.materials) - 1)
            key = f"{primitive['attributes']} {primitive.get('targets')} {self._tints[number].tolist()}"
            if key not in shared:
                shared[key] = self._read_surface(primitive, self._tints[number])
            surface = shared[key]
            count = len(surface.positions)
            indices = self._file.array(primitive["indices"]) if "indices" in primitive else np.arange(count)
            faces = indices[: len(indices) // 3 * 3].reshape(-1, 3).astype(np.int32)
            if faces.size and faces.max() >= count:
                raise ValueError(f"a face names vertex {faces.max()} of {count}")
            surface.faces.append(faces)
            surface.materials.append(number)
        for surface in shared.values():
            if not surface.normals.size:
                surface.normals = vertex_normals(surface.positions, np.concatenate(surface.faces))
        return list(shared.values())

    def _read_surface(self, primitive: Json, tint: Float32) -> _Surface:
        attributes, read = primitive["attributes"], self._file.array
        positions = read(attributes["POSITION"]).astype(np.float32)
        normals = (
            read(attributes["NORMAL"]).astype(np.float32)
            if "NORMAL" in attributes
            else np.zeros(0, np.float32)
        )
        colors = np.ones_like(positions)
        if "COLOR_0" in attributes:
            colors = read(attributes["COLOR_0"])[:, :3].astype(np.float32)
        targets = primitive.get("targets", [])
        moved = np.zeros(len(positions), bool)
        for target in targets:
            for name in ("POSITION", "NORMAL"):
                if name in target:
                    moved |= read(target[name]).any(axis=1)
        rows = np.flatnonzero(moved)
        # Only the rows that move, positions and normals side by side: posing is one small product a frame.
        shapes = np.zeros((len(targets), 2, len(rows), 3), np.float32)
        for number, target in enumerate(targets):
            for place, name in enumerate(("POSITION", "NORMAL")):
                if name in target:
                    shapes[number, place] = read(target[name])[rows]
        return _Surface(
            positions, normals, colors * tint, rows, shapes.reshape(len(targets), 6 * len(rows)), [], []
        )

    def _timing(self, notes: Json) -> tuple[float, int]:
        fps, frames = notes.get("fps"), notes.get("frames")
        times = [t.times for t in self._tracks.values() if len(t.times) > 1]
        end = max((float(t[-1]) for t in times), default=0.0)
        if not isinstance(fps, (int, float)) or not 0.0 < fps <= 1000.0:
            steps = np.concatenate([np.diff(t) for t in times]) if times else np.zeros(0)
            steps = steps[steps > 1e-4]
            fps = float(np.clip(1.0 / np.median(steps), 1.0, 120.0)) if len(steps) else DEFAULT_FPS
        if not isinstance(frames, int) or frames < 1:
            frames = round(end * fps) + 1
        return float(fps), frames

    def _find_audio(self, notes: Json) -> Path | None:
        name = notes.get("audio")
        if isinstance(name, str) and (beside := self.path.parent / Path(name).name).is_file():
            return beside
        return None


def _place(surface: _Surface, weights: Float32, matrix: NDArray[Any]) -> Geometry:
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
    return Geometry(positions, normals, surface.colors, np.concatenate(surface.faces), np.concatenate(kinds))


def _join(parts: list[Geometry]) -> Geometry:
    if len(parts) == 1:
        return parts[0]
    if not parts:
        none, empty = np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32)
        return Geometry(none, none, none, empty, np.zeros(0, np.uint8))
    starts = np.cumsum([0] + [len(p.positions) for p in parts[:-1]])
    faces = [p.faces + np.int32(start) for p, start in zip(parts, starts, strict=True)]
    return Geometry(
        np.concatenate([p.positions for p in parts]),
        np.concatenate([p.normals for p in parts]),
        np.concatenate([p.colors for p in parts]),
        np.concatenate(faces),
        np.concatenate([p.materials for p in parts]),
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


def _material(entry: Json) -> Material:
    known = MATERIALS.get(entry.get("name", ""))
    roughness = float(entry.get("pbrMetallicRoughness", {}).get("roughnessFactor", 1.0))
    if known is not None and abs(known.roughness - roughness) < 1e-3:
        return known
    return Material(entry.get("name", "plain"), roughness=roughness)


def _tint(entry: Json) -> Float32:
    factor = entry.get("pbrMetallicRoughness", {}).get("baseColorFactor", [1.0, 1.0, 1.0, 1.0])
    return np.asarray(factor[:3], dtype=np.float32)
