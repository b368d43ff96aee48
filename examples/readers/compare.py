"""How far is what a reader shows from what was decoded? Prints the largest distance of a vertex.

    python examples/readers/compare.py talk.safetensors positions.txt

``talk.safetensors`` is the motion that was exported, ``positions.txt`` what positions.gd (Godot) or
positions.cpp (assimp) printed. Exits with 1 where a vertex is farther off than --tolerance.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

import facetalk
from facetalk.arrays import Float64
from facetalk.mesh import RiggedSequence
from facetalk.mesh.gltf import rows_in_file


def read(lines: Iterable[str]) -> dict[float, Float64]:
    """(V, 3) positions by their time in seconds: lines of three numbers after each ``frame SECONDS``."""
    found: dict[float, list[list[float]]] = {}
    rows: list[list[float]] | None = None
    for line in lines:
        words = line.split()
        if words[:1] == ["frame"]:
            rows = found.setdefault(float(words[1]), [])
        elif rows is not None and len(words) == 3:
            rows.append([float(word) for word in words])
    return {time: np.array(rows) for time, rows in found.items()}


def largest_distance(found: dict[float, Float64], rig: RiggedSequence, fps: float) -> float:
    """Largest distance in mm over all vertices of the frames whose middles are at the times of ``found``.

    Raises:
        ValueError: there are no frames, or they have another number of vertices.
    """
    rows = rows_in_file(rig)
    if not found or any(len(positions) != len(rows) for positions in found.values()):
        raise ValueError(f"expected frames of {len(rows)} vertices, got {[len(p) for p in found.values()]}")
    distances = [
        np.linalg.norm(positions - rig.placed(round(time * fps - 0.5)).vertices[rows], axis=1).max()
        for time, positions in found.items()
    ]
    return 1e3 * float(max(distances))


def main() -> int:
    """Decode, read, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("motion", type=Path, help="the motion, .safetensors")
    parser.add_argument("positions", type=Path, help="what the reader printed")
    parser.add_argument("--tolerance", type=float, default=0.1, metavar="MM", help="default: 0.1")
    args = parser.parse_args()
    motion = facetalk.Motion.load(args.motion)
    rig = facetalk.FaceTalk.from_pretrained("default").decode(motion)
    assert isinstance(rig, RiggedSequence)
    found = read(args.positions.read_text().splitlines())
    distance = largest_distance(found, rig, motion.fps)
    print(f"{len(found)} frames: largest distance {distance:.4f} mm")
    return int(not distance <= args.tolerance)


if __name__ == "__main__":
    sys.exit(main())
