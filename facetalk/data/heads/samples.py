"""Training samples from a morphable head: where people look gets the points.

Two kinds: signed distances around canonical heads (for the identity network), kept in one file because
they take a minute of ray-free geometry to make, and surface correspondences between expressions (for the
deformations), which are cheap and drawn while training.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from tqdm import tqdm

from facetalk.arrays import Float32, Int64, UInt8
from facetalk.data.heads.ict import NO_PART, MorphableHead
from facetalk.files import atomic_path
from facetalk.nphm.head.parts import Part
from facetalk.reading import read_arrays, usable

__all__ = ["DistancePool", "SurfaceSampler", "random_identities", "speech_expressions"]


# Weights that speech uses, with the largest value drawn; all others are drawn rarely (see
# ``speech_expressions``).
_SPEECH = {
    "jawOpen": 0.6, "mouthFunnel": 0.8, "mouthPucker": 0.9, "mouthPress": 0.6, "mouthRollLower": 0.6,
    "mouthRollUpper": 0.5, "mouthUpperUp": 0.5, "mouthLowerDown": 0.6, "mouthStretch": 0.5, "mouthSmile": 0.6,
    "mouthShrugLower": 0.4, "mouthShrugUpper": 0.3, "mouthDimple": 0.4, "mouthFrown": 0.4,
}  # fmt: skip


def random_identities(head: MorphableHead, count: int, seed: int, *, scale: float = 0.8) -> Float32:
    """(count, I) identity coefficients: standard normal, clipped at 2, scaled.

    Clipped and scaled, because long necks and squints are rare.
    """
    rng = np.random.default_rng(seed)
    drawn = np.clip(rng.standard_normal((count, head.identity_dim)), -2.0, 2.0)
    return (scale * drawn).astype(np.float32)


def speech_expressions(head: MorphableHead, count: int, rng: np.random.Generator) -> Float32:
    """(count, E) expression weights as speech has them.

    Few shapes at a time, often closed lips and blinks, and now and then a little of everything else.
    """
    names = head.expression_names
    out = np.zeros((count, head.expression_dim), np.float32)
    column = {
        name: [i for i, n in enumerate(names) if n in (name, name + "_L", name + "_R")] for name in _SPEECH
    }
    for row in out:
        for name in rng.permutation(list(_SPEECH))[: rng.integers(0, 4)]:
            if column[name]:
                row[column[name]] = rng.random() * _SPEECH[name] * (0.8 + 0.4 * rng.random(len(column[name])))
        jaw = names.index("jawOpen")
        row[jaw] = rng.choice([0.0, rng.random() * 0.5, head.canonical_jaw * rng.random(), row[jaw]])
        if "mouthClose" in names and rng.random() < 0.25:  # lips meet at about 0.8 of the jaw's weight
            row[names.index("mouthClose")] = (0.02 + 0.8 * row[jaw]) * rng.choice([1.0, rng.random()])
        if rng.random() < 0.4:
            amount = rng.choice([1.0, rng.random()])
            row[[i for i, n in enumerate(names) if n.startswith("eyeBlink")]] = amount
        if rng.random() < 0.5:  # brows, gaze, nose, cheeks
            chosen = rng.choice(len(names), 3)
            keep = [i for i in chosen if names[i] not in ("mouthClose", "jawOpen")]
            row[keep] = 0.6 * rng.random(len(keep))
    return out


@dataclass(frozen=True)
class SurfacePoints:
    """Points on triangles.

    Attributes:
        corners: (N, 3) vertices of the triangle that each lies on.
        weights: (N, 3) barycentric coordinates there.
        part: (N,) :class:`facetalk.nphm.head.parts.Part` of the triangle.
    """

    corners: Int64
    weights: Float32
    part: UInt8

    def of(self, values: Float32) -> Float32:
        """Interpolate a per-vertex array (V, ...) to (N, ...)."""
        weights = self.weights.reshape(*self.weights.shape, *([1] * (values.ndim - 1)))
        return (values[self.corners] * weights).sum(1)


class SurfaceSampler:
    """Draws points on the surface of the solid head, densest at lips, lids, teeth and eyes.

    Args:
        head: the morphable head.
        focus: how much denser still, of the density that there is, at the very edges of lips and lids.

    Attributes:
        importance: (F,) density of a triangle relative to the back of the head; 0 where nothing is drawn.
    """

    def __init__(self, head: MorphableHead, *, focus: float = 0.0) -> None:
        self.head = head
        edges = np.maximum(self.lips, self.lids) ** 3
        self.importance = self._importance() * (1.0 + focus * edges[head.faces].mean(1))
        corners = head.canonical()[head.faces]
        area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
        total = np.cumsum((area * self.importance).astype(np.float64))
        self._cumulative = total / total[-1]

    def draw(self, count: int, rng: np.random.Generator) -> SurfacePoints:
        """``count`` points, independent of the head's current shape."""
        chosen = np.searchsorted(self._cumulative, rng.random(count)).clip(0, len(self.importance) - 1)
        root, second = np.sqrt(rng.random(count)), rng.random(count)
        weights = np.stack([1 - root, root * (1 - second), root * second], axis=1).astype(np.float32)
        return SurfacePoints(self.head.faces[chosen], weights, self.head.face_part[chosen])

    @cached_property
    def lips(self) -> Float32:
        """(V,) closeness to the lips on the canonical mean: 1 at the inner lip line, 0 from 2.5 cm on."""
        return self._closeness(self.head.landmark_ids[48:68], 0.1)

    @cached_property
    def lids(self) -> Float32:
        """(V,) closeness to the lid margins: 1 there, 0 from 1.5 cm on."""
        return self._closeness(self.head.landmark_ids[36:48], 0.06)

    def _closeness(self, landmarks: Int64, reach: float) -> Float32:
        shape = self.head.canonical()
        distance = np.full(len(shape), np.inf)
        for position in shape[landmarks]:
            distance = np.minimum(distance, np.linalg.norm(shape - position, axis=1))
        return np.clip(1.0 - distance / reach, 0.0, 1.0).astype(np.float32)

    def _importance(self) -> Float32:
        head = self.head
        shape = head.canonical()
        nose = self._closeness(head.landmark_ids[27:36], 0.12)
        front = np.clip(shape[:, 2] / 0.1, 0.0, 1.0)
        vertex = 1.0 + 3.0 * front + 4.0 * nose
        vertex += 26.0 * np.sqrt(self.lips) + 36.0 * np.sqrt(self.lids)
        for ear in head.anchor_ids[[20, 21]]:  # thin folds
            arm = (shape - shape[ear] - np.array([0.0, 0.01, -0.03])) * np.array([0.3, 1.0, 1.0])
            outer = np.abs(shape[:, 0]) > np.abs(shape[ear, 0]) - 0.02
            vertex += 20.0 * (np.linalg.norm(arm, axis=1) < 0.13) * outer
        weight = vertex[head.faces].mean(1)
        seen = (head.visibility & 6) > 0
        teeth = np.zeros(len(weight), bool)
        teeth[head.part_faces("teeth")] = True
        weight = np.where(teeth & seen, 24.0, weight)
        inner = np.zeros(len(weight), bool)
        inner[head.part_faces("mouth_socket")] = inner[head.part_faces("gums_and_tongue")] = True
        weight = np.where(inner, np.where(seen, 0.6 * weight + 2.0, 0.25 * weight), weight)
        weight = np.where(teeth & ~seen, 2.0, weight)
        # Eye sockets and the back of the eyeballs are inside the solid.
        for name in ("eye_socket_left", "eye_socket_right"):
            span = head.part_faces(name)
            weight[span] = np.where(seen[span], 10.0, 1.0)
        for name in ("sclera_left", "sclera_right"):
            span = head.part_faces(name)
            centre = shape[head.part_vertices(name)].mean(0)
            weight[span] = np.where(shape[head.faces[span]].mean(1)[:, 2] > centre[2], 24.0, 0.0)
        weight[head.face_part == NO_PART] = 0.0
        below = (shape[head.faces].mean(1) - head.neck_point) @ head.neck_normal < -0.02
        weight[below] = 0.0
        return weight.astype(np.float32)


_BLOCK, _SHORT_BLOCK = 20_000, 2_000
"""Points that are measured between two looks at the clock."""


@dataclass
class DistancePool:
    """Signed distances around canonical heads.

    Attributes:
        coefficients: (N, I) identities; row 0 is the mean head.
        points: one (M_n, 3) float32 array an identity, in head space.
        distances: one (M_n,) float32 array an identity.
    """

    coefficients: Float32
    points: list[Float32]
    distances: list[Float32]

    @classmethod
    def make(
        cls, head: MorphableHead, *, mean_points: int, identities: int, points: int, seed: int,
        seconds: float | None = None,
    ) -> DistancePool:  # fmt: skip
        """Draw identities and measure distances, block by block under a progress bar.

        Args:
            head: the morphable head.
            mean_points: points around the mean head.
            identities: heads besides the mean one.
            points: points around each of these.
            seed: of identities and points.
            seconds: stop after so long with what there is, the mean head and one other at least; None: all.
        """
        begun = time.monotonic()
        coefficients = np.concatenate(
            [np.zeros((1, head.identity_dim), np.float32), random_identities(head, identities, seed)]
        )
        sampler = SurfaceSampler(head)
        # Small blocks where time is short: a limit is looked at between two of them.
        block = _BLOCK if seconds is None or seconds > 60.0 else _SHORT_BLOCK
        found: dict[int, list[tuple[Float32, Float32]]] = {}
        with tqdm(
            total=mean_points + identities * points, desc="signed distances", unit="point", unit_scale=True,
            mininterval=1.0,
        ) as bar:  # fmt: skip
            for index, number, count in _blocks(identities, mean_points, points, block):
                late = seconds is not None and time.monotonic() - begun > seconds
                if late and {0, 1} <= set(found):
                    bar.write(f"signed distances: stopped by the time limit at {bar.n} points", sys.stderr)
                    break
                if late and found.get(index):
                    continue
                rng = np.random.default_rng((seed, index, number))
                found.setdefault(index, []).append(
                    sample_distances(head, sampler, coefficients[index], count, rng)
                )
                bar.update(count)
        kept = sorted(found)
        return cls(
            coefficients[kept],
            [np.concatenate([x for x, _ in found[index]]) for index in kept],
            [np.concatenate([d for _, d in found[index]]) for index in kept],
        )

    def save(self, path: Path) -> None:
        """Write one uncompressed ``.npz``."""
        counts = np.array([len(x) for x in self.points])
        with atomic_path(path) as scratch, scratch.open("wb") as out:
            np.savez(
                out, coefficients=self.coefficients, counts=counts,
                points=np.concatenate(self.points), distances=np.concatenate(self.distances),
            )  # fmt: skip

    @classmethod
    def load(cls, path: Path) -> DistancePool:
        """Read what ``save`` wrote.

        Raises:
            InputError: the file is damaged.
        """
        with usable(path, "remove it, and it is made again"):
            archive = read_arrays(path)
            ends = np.cumsum(archive["counts"])[:-1]
            points = np.split(archive["points"], ends)
            return cls(archive["coefficients"], points, np.split(archive["distances"], ends))


def _blocks(identities: int, mean_points: int, points: int, size: int) -> list[tuple[int, int, int]]:
    """Work as (head, number of the block, points), so ordered that any beginning of it is a fair pool."""
    blocks = []
    for index in range(1 + identities):
        total = mean_points if index == 0 else points
        pieces = -(-total // size)
        for number in range(pieces):
            count = min(size, total - number * size)
            # The mean head's blocks spread over the whole; the others' first ones come head by head.
            when = number / pieces if index == 0 else (number + (index - 1) / identities) / pieces
            blocks.append((when, index, number, count))
    return [(index, number, count) for _, index, number, count in sorted(blocks)]


def sample_distances(
    head: MorphableHead, sampler: SurfaceSampler, identity: Float32, count: int, rng: np.random.Generator
) -> tuple[Float32, Float32]:
    """Points (count, 3) around the canonical head of an identity and their signed distances (count,).

    About 85 % lie around the surface (0.5, 2 and 7 mm off it), 5 % on the neck's cut, the rest anywhere.
    """
    shape = head.canonical(identity)
    near = int(0.85 * count)
    surface = sampler.draw(int(near * 1.6), rng).of(shape)
    # Surface points inside another part, or below the cut, are not on the union's surface.
    depth = head.signed_distance(surface, shape)
    surface = surface[np.abs(depth) < 2e-4][:near]
    sigma = rng.choice([0.002, 0.008, 0.028], len(surface), p=[0.45, 0.38, 0.17])
    blocks = [surface + sigma[:, None] * rng.standard_normal(surface.shape) / np.sqrt(1.5)]
    cut = int(0.05 * count)
    disc = np.stack([rng.uniform(-0.4, 0.4, cut), np.zeros(cut), rng.uniform(-0.65, 0.25, cut)], axis=1)
    disc[:, 1] = (
        head.neck_point[1] - (disc - head.neck_point)[:, 2] * head.neck_normal[2] / head.neck_normal[1]
    )
    blocks.append(disc + 0.01 * rng.standard_normal((cut, 1)) * head.neck_normal)
    rest = count - len(surface) - cut
    low, high = shape[head.vertex_part == Part.SKIN].min(0) - 0.1, shape.max(0) + 0.1
    low[1] = max(low[1], head.neck_point[1] - 0.15)
    blocks.append(rng.uniform(low, high, (rest, 3)))
    points = np.concatenate(blocks).astype(np.float32)
    return points, head.signed_distance(points, shape)
