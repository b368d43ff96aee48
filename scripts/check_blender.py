"""Does Blender play a .glb as facetalk decoded it? Prints the largest distance of a vertex over all frames.

    python scripts/check_blender.py examples/demo.flac --python VENV/bin/python

``VENV`` is any environment with Blender's module (pip install bpy==4.2.0 for Python 3.11); without --python
it has to be in this one. Exits with 1 where a vertex is farther off than --tolerance.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import facetalk
from facetalk.arrays import Float32
from facetalk.mesh import RiggedSequence
from facetalk.mesh.gltf import rows_in_file
from facetalk.mesh.morphs import BASES

SCRIPT = Path(__file__).with_name("blender_positions.py")


def blender(glb: Path, python: str) -> tuple[Float32, Float32, list[str]]:
    """Positions (T, V, 3), weights (T, K) and names of the shape keys, as Blender has them."""
    target = glb.with_suffix(".npz")
    done = subprocess.run([python, str(SCRIPT), str(glb), str(target)], capture_output=True, text=True)
    if not target.is_file():  # bpy may crash when it is unloaded, after its work
        raise RuntimeError(f"{python} could not run {SCRIPT.name}: {done.stderr.strip()[-500:]}")
    with np.load(target) as arrays:
        return arrays["positions"], arrays["weights"], [str(name) for name in arrays["names"]]


def largest_distance(positions: Float32, rig: RiggedSequence) -> float:
    """Largest distance in mm between a file's vertices, piece by piece, and those of the frames."""
    rows = rows_in_file(rig)
    if positions.shape != (len(rig), len(rows), 3):
        raise ValueError(f"expected {len(rig)} frames of {len(rows)} vertices, got {positions.shape[:2]}")
    return 1e3 * max(
        float(np.linalg.norm(found - rig.placed(frame).vertices[rows], axis=1).max())
        for frame, found in enumerate(positions)
    )


def main() -> int:
    """Generate, write, let Blender read, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("audio", type=Path, help="recording")
    parser.add_argument("--python", default=sys.executable, help="a Python that has bpy")
    parser.add_argument("--basis", choices=BASES, default=None, help="as in facetalk export")
    parser.add_argument("--tolerance", type=float, default=0.1, metavar="MM", help="default: 0.1")
    args = parser.parse_args()
    model = facetalk.FaceTalk.from_pretrained("default")
    motion = model.generate(args.audio, seed=0)
    rig = model.decode(motion)
    assert isinstance(rig, RiggedSequence)
    with tempfile.TemporaryDirectory() as folder:
        glb = facetalk.export(Path(folder) / "talk.glb", rig, fps=motion.fps, basis=args.basis)
        size = glb.stat().st_size
        positions, weights, names = blender(glb, args.python)
    distance = largest_distance(positions, rig)
    print(f"{len(rig)} frames, {positions.shape[1]} vertices, {len(names)} shape keys from {names[0]}")
    print(f"weights {weights.min():.2f} to {weights.max():.2f}, {size / 1e6:.2f} MB")
    print(f"largest distance {distance:.4f} mm")
    return int(not distance <= args.tolerance)


if __name__ == "__main__":
    sys.exit(main())
