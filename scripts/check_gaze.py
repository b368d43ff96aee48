"""Do the eyes of the built-in head turn as rigid bodies, and stay behind their lids? Prints by how much not.

    python scripts/check_gaze.py examples/demo.flac

Of each eye in each frame the largest distance of a vertex from the rigid motion that makes it least is found
(Lawson's reweighting of Kabsch's fit), and the same at weights of 1. Then how deep the skin of lids gets into
eyeballs at rest and at a full gaze each way. Exits with 1 where a vertex is farther off than --tolerance.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

import facetalk
from facetalk.arrays import Float64, Int64
from facetalk.mesh import RiggedSequence
from facetalk.motion import Motion
from facetalk.nphm.head.parts import Part
from facetalk.nphm.head.regions import Region
from facetalk.pipeline import FaceTalk

_ROUNDS = 60
_GAZES: dict[str, tuple[str, ...]] = {
    "at rest": (),
    "up": ("eyeLookUpLeft", "eyeLookUpRight"),
    "down": ("eyeLookDownLeft", "eyeLookDownRight"),
    "left": ("eyeLookOutLeft", "eyeLookInRight"),
    "right": ("eyeLookInLeft", "eyeLookOutRight"),
}


def nearest_rigid(still: Float64, moved: Float64) -> tuple[float, float]:
    """Angle in degrees and largest distance of the rigid motion of (V, 3) ``still`` nearest to ``moved``."""
    share = np.full(len(still), 1.0 / len(still))
    best = (0.0, np.inf)
    for _ in range(_ROUNDS):
        a, b = still - share @ still, moved - share @ moved
        left, _, right = np.linalg.svd((b * share[:, None]).T @ a)
        turn = left @ np.diag([1.0, 1.0, np.linalg.det(left @ right)]) @ right
        distance = np.linalg.norm(b - a @ turn.T, axis=1)
        if distance.max() < best[1]:
            angle = np.arccos(np.clip((np.trace(turn) - 1.0) / 2.0, -1.0, 1.0))
            best = (float(np.degrees(angle)), float(distance.max()))
        if distance.max() < 1e-8:  # what float32 vertices are rounded by
            break
        share = share * distance
        share /= share.sum()
    return best


def eyes(rig: RiggedSequence) -> dict[str, Int64]:
    """Numbers of the vertices of the left and the right eyeball."""
    assert rig.base.part is not None
    ball = rig.base.part == Part.EYEBALLS
    left = rig.base.vertices[:, 0] > 0.0
    return {"left": np.flatnonzero(ball & left), "right": np.flatnonzero(ball & ~left)}


def report(rig: RiggedSequence) -> tuple[Float64, Float64]:
    """(frames x eyes,) angles in degrees and distances in mm."""
    found = []
    for rows in eyes(rig).values():
        still = rig.base.vertices[rows].astype(np.float64)
        for frame in range(len(rig)):
            moved = rig.positions(slice(frame, frame + 1))[0, rows].astype(np.float64)
            found.append(nearest_rigid(still, moved))
    angles, distances = np.array(found).T
    return angles, 1e3 * distances


def full_gazes(model: FaceTalk) -> RiggedSequence:
    """The default identity, a frame for each of rest, up, down, left and right at weights of 1."""
    none = np.zeros((len(_GAZES), model.head.expression_dim), np.float32)
    rig = model.decode(Motion(none, 25.0, np.zeros(0, np.float32), {}))
    assert isinstance(rig, RiggedSequence) and rig.names is not None
    for frame, shapes in enumerate(_GAZES.values()):
        rig.weights[frame, [rig.names.index(shape) for shape in shapes]] = 1.0
    return rig


def depths(model: FaceTalk, rig: RiggedSequence) -> Float64:
    """(frames,) how deep in mm the skin of lids gets into the eyeball that its frame shows, at most."""
    mesh = model.head.tables.mesh
    assert mesh is not None
    lids = mesh.lid_vertices[mesh.region[mesh.lid_vertices] == Region.SKIN]
    out = []
    for points in rig.positions().astype(np.float64):
        worst = 0.0
        for eye in rig.eyes:
            ball, skin = points[eye.rows] - eye.centre, points[lids] - eye.centre
            skin = skin[(points[lids, 0] > 0.0) == (eye.centre[0] > 0.0)]
            size, away = np.linalg.norm(ball, axis=1), np.linalg.norm(skin, axis=1)
            # The eyeball's size in the direction of a vertex of the lid: of its three nearest vertices.
            apart, near = cKDTree(ball / size[:, None]).query(skin / away[:, None], k=3)
            share = 1.0 / (apart + 1e-9)
            worst = max(worst, float(((size[near] * share).sum(1) / share.sum(1) - away).max()))
        out.append(1e3 * worst)
    return np.array(out)


def main() -> int:
    """Generate, decode, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("audio", type=Path, help="recording")
    parser.add_argument("--tolerance", type=float, default=0.001, metavar="MM", help="default: 0.001")
    args = parser.parse_args()
    model = facetalk.FaceTalk.from_pretrained("default")
    motion = model.generate(args.audio, seed=0)
    rig = model.decode(motion)
    assert isinstance(rig, RiggedSequence)
    angles, distances = report(rig)
    print(f"{len(rig)} frames: eyes turn by up to {angles.max():.1f} degrees")
    print(f"largest distance from a rigid motion {distances.max():.6f} mm")
    full = full_gazes(model)
    angles, other = report(full)
    print(f"at weights of 1: {angles.max():.1f} degrees, {other.max():.6f} mm")
    for gaze, depth in zip(_GAZES, depths(model, full), strict=True):
        print(f"lids get {depth:.2f} mm into eyeballs that look {gaze}")
    return int(max(distances.max(), other.max()) > args.tolerance)


if __name__ == "__main__":
    sys.exit(main())
