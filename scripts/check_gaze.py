"""Do the eyes of the built-in head turn as rigid bodies? Prints how far frames are from the nearest that do.

    python scripts/check_gaze.py examples/demo.flac

An eye that were a glTF node of its own could only turn and move; the rig displaces its vertices in proportion
to the weights of eyeLook*. Of each eye in each frame the largest distance of a vertex from the rigid motion
that makes it least is found (Lawson's reweighting of Kabsch's fit), and the same at a weight of 1.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

import facetalk
from facetalk.arrays import Float64, Int64
from facetalk.mesh import RiggedSequence
from facetalk.motion import Motion
from facetalk.nphm.head.parts import Part

_ROUNDS = 60


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
        if distance.max() < 1e-9:
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


def main() -> int:
    """Generate, decode, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("audio", type=Path, help="recording")
    parser.add_argument("--tolerance", type=float, default=0.1, metavar="MM", help="default: 0.1")
    args = parser.parse_args()
    model = facetalk.FaceTalk.from_pretrained("default")
    motion = model.generate(args.audio, seed=0)
    rig = model.decode(motion)
    assert isinstance(rig, RiggedSequence) and rig.names is not None
    angles, distances = report(rig)
    high = int((distances > args.tolerance).sum())
    print(f"{len(rig)} frames: eyes turn by up to {angles.max():.1f} degrees")
    median = np.median(distances)
    print(f"largest distance from a rigid motion {distances.max():.3f} mm, median {median:.3f} mm")
    print(f"above {args.tolerance:g} mm: {high} of {len(distances)}")
    one = np.zeros((1, len(rig.names)), np.float32)
    one[0, [rig.names.index(f"eyeLookUp{side}") for side in ("Left", "Right")]] = 1.0
    full = model.decode(Motion(one, motion.fps, motion.identity, {}), temporal_sigma=0.0)
    assert isinstance(full, RiggedSequence)
    angles, distances = report(full)
    print(f"at a weight of 1: {angles.max():.1f} degrees, {distances.max():.2f} mm")
    return int(high > 0)


if __name__ == "__main__":
    sys.exit(main())
