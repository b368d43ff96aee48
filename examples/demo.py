"""Speech in, talking head out: the shortest program that does the whole job and times it.

python examples/demo.py examples/demo.flac build/demo
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

start = time.perf_counter()
import facetalk  # noqa: E402
from facetalk.render.render import render  # noqa: E402


def main(speech: Path, out: Path) -> None:
    """Write talk.glb, talk.mp4 and talk.png into ``out`` and print where the time went."""
    out.mkdir(parents=True, exist_ok=True)
    seconds: dict[str, float] = {}

    def stage(name: str, since: float) -> float:
        now = time.perf_counter()
        seconds[name] = now - since
        return now

    model = facetalk.FaceTalk.from_pretrained("default", encoder="auto")
    model.native_model, model.head  # noqa: B018  (loaded on first use: load now, to time it)
    mark = stage("load", start)
    motion = model.generate(speech, seed=0)
    mark = stage("generate", mark)
    meshes = model.decode(motion)
    mark = stage("decode", mark)
    facetalk.export(out / "talk.glb", meshes, fps=motion.fps, audio=speech)
    mark = stage("export", mark)
    render(out / "talk.glb", out / "talk.mp4")
    render(out / "talk.glb", out / "talk.png")
    stage("render", mark)

    for name, value in seconds.items():
        print(f"  {name:<9}{value:8.2f} s")
    work = seconds["generate"] + seconds["decode"] + seconds["export"]
    factor = work / motion.duration
    print(f"  clip {motion.duration:.2f} s; speech to animated mesh takes {factor:.3f} of real time")
    for name in ("talk.glb", "talk.mp4", "talk.png"):
        print(out / name)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: demo.py SPEECH OUT_FOLDER")
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except facetalk.InputError as error:
        sys.exit(f"error: {error}")
