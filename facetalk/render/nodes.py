"""The nodes of a glTF file and what animates them, each field checked when it is read."""

from __future__ import annotations

import dataclasses

import numpy as np

from facetalk.arrays import Float32, Float64
from facetalk.mesh.gltf_json import Fields
from facetalk.mesh.gltf_read import GlbFile

MAX_NODES = 100_000
"""Nodes of a file. A flip-book has one for each frame: this is more than an hour at 25 fps."""
MAX_KEYS = 10_000_000
"""Keys of an animated property: more than four days at 25 fps."""
MOST = 1e9
"""Largest number in a transform or a weight: products of a few fit float64, and of two float32."""

_LEAST_ROTATION = 1e-6  # length of a quaternion that has a direction
_WIDTHS = {"translation": 3, "rotation": 4, "scale": 3}


@dataclasses.dataclass(frozen=True)
class Node:
    """A node at rest.

    Attributes:
        mesh: number of its mesh, or None.
        children: numbers of its children.
        matrix: (4, 4) transform, or None where the three parts say it.
        translation, rotation, scale: parts of the transform; the rotation is a quaternion x, y, z, w.
        weights: (K,) of its mesh's morph targets.
    """

    mesh: int | None
    children: list[int]
    matrix: Float64 | None
    translation: Float64
    rotation: Float64
    scale: Float64
    weights: Float32


@dataclasses.dataclass(frozen=True)
class Track:
    """One animated property: keys over time."""

    times: Float64
    values: Float32  # (keys, width)
    step: bool
    rotation: bool

    def at(self, time: float) -> Float32:
        """(width,) value at a time in seconds."""
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


def target_count(mesh: Fields) -> int:
    """Morph targets of a mesh: as many as its first primitive has.

    Raises:
        InputError: its primitives do not agree.
    """
    counts = {len(primitive.children("targets")) for primitive in mesh.children("primitives")}
    if len(counts) > 1:
        raise mesh.wrong(f"has primitives of {sorted(counts)[:2]} morph targets; all need the same number")
    return counts.pop() if counts else 0


def read_nodes(file: GlbFile, targets: list[int]) -> list[Node]:
    """All nodes.

    Args:
        file: the file.
        targets: number of morph targets of each mesh.

    Raises:
        InputError: a field is wrong, or there are more than MAX_NODES.
    """
    entries = file.root.children("nodes")
    if len(entries) > MAX_NODES:
        raise file.root.wrong(f"has {len(entries)} nodes; at most {MAX_NODES} are read")
    meshes = file.root.children("meshes")
    nodes = []
    for entry in entries:
        mesh = None
        weights: tuple[float, ...] = ()
        if "mesh" in entry:
            mesh = entry.index("mesh", len(meshes))
            own = entry if "weights" in entry else meshes[mesh]
            weights = own.numbers("weights", targets[mesh], default=(0.0,) * targets[mesh], most=MOST)
        matrix = None
        if "matrix" in entry:
            matrix = np.array(entry.numbers("matrix", 16, most=MOST)).reshape(4, 4).T
        rotation = np.array(entry.numbers("rotation", 4, default=(0.0, 0.0, 0.0, 1.0), most=MOST))
        if np.linalg.norm(rotation) < _LEAST_ROTATION:
            raise entry.wrong("has a rotation of all zeros")
        nodes.append(
            Node(
                mesh,
                entry.integers("children", high=len(entries) - 1),
                matrix,
                np.array(entry.numbers("translation", 3, default=(0.0, 0.0, 0.0), most=MOST)),
                rotation,
                np.array(entry.numbers("scale", 3, default=(1.0, 1.0, 1.0), most=MOST)),
                np.array(weights, np.float32),
            )
        )
    return nodes


def parents_first(file: GlbFile, nodes: list[Node]) -> list[tuple[int, int | None]]:
    """(node, parent) of what the file's scene shows, parents before their children.

    Raises:
        InputError: the scene is wrong, or nodes have several parents.
    """
    scenes = file.root.children("scenes")
    if scenes:
        shown = scenes[file.root.index("scene", len(scenes), default=0)]
        roots = shown.integers("nodes", high=len(nodes) - 1)
    else:
        roots = list(range(len(nodes)))
    order: list[tuple[int, int | None]] = [(root, None) for root in roots]
    for node, _ in order:  # which grows meanwhile
        order += [(child, node) for child in nodes[node].children]
        if len(order) > len(nodes):
            raise file.root.wrong("has nodes that form a loop")
    return order


def read_tracks(file: GlbFile, nodes: list[Node]) -> dict[tuple[int, str], Track]:
    """What the first animation moves, by node and property.

    Raises:
        InputError: a field is wrong, keys are not in order, or a property has another number of values.
    """
    tracks: dict[tuple[int, str], Track] = {}
    known: dict[tuple[int, int, str], Track] = {}  # samplers are often shared
    for animation in file.root.children("animations")[:1]:
        samplers = animation.children("samplers")
        for channel in animation.children("channels"):
            target = channel.child("target")
            path = target.text("path", default="")
            if "node" not in target or path == "pointer":
                continue
            node = target.index("node", len(nodes))
            width = len(nodes[node].weights) if path == "weights" else _WIDTHS.get(path, 0)
            if width == 0:
                raise target.wrong("animates what its node does not have")
            number = channel.index("sampler", len(samplers))
            key = (number, width, path)
            if key not in known:
                known[key] = _track(file, samplers[number], width, rotation=path == "rotation")
            tracks[node, path] = known[key]
    return tracks


def _track(file: GlbFile, sampler: Fields, width: int, *, rotation: bool) -> Track:
    keys_at, values_at = (sampler.integer(name, high=2**31) for name in ("input", "output"))
    kind = sampler.text("interpolation", default="LINEAR")
    if kind not in ("LINEAR", "STEP", "CUBICSPLINE"):
        raise sampler.wrong("has an interpolation that glTF does not know")
    keys, columns = file.shape(keys_at)
    count, parts = file.shape(values_at)
    wanted = keys * width * (3 if kind == "CUBICSPLINE" else 1)
    if columns != 1 or not 1 <= keys <= MAX_KEYS or count * parts != wanted:
        raise sampler.wrong(f"has {keys} keys and {count * parts} values, of which it needs {wanted}")
    times = file.array(keys_at).astype(np.float64)
    if (np.diff(times) < 0.0).any():
        raise sampler.wrong("has keys that go back in time")
    values = file.array(values_at).astype(np.float32).reshape(keys, -1)
    if kind == "CUBICSPLINE":
        # In-tangent, value, out-tangent: straight lines between the values are close enough to draw.
        values = values[:, width : 2 * width]
    if np.abs(values).max() > MOST:
        raise sampler.wrong(f"has a value beyond {MOST:g}")
    if rotation and np.linalg.norm(values, axis=1).min() < _LEAST_ROTATION:
        raise sampler.wrong("has a rotation of all zeros")
    return Track(times, values, kind == "STEP", rotation)
