"""A distillation in two processes: one folder of trajectories, which both make and both learn from."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import soundfile
import torch

from facetalk.diffusion import MotionModel
from tests.helpers.launch import launch

STEPS, BATCH, CROP, CLIPS, CLIP, USES, KEEP = 60, 2, 12, 2, 16, 10, 3
PROGRAM = """
import sys
from pathlib import Path

import numpy as np

from facetalk.training.motion.distill_cache import Cache
from facetalk.training.processes import process_index

# What each process has to learn from at each step.
seen = open(f"{sys.argv.pop(1)}/seen{process_index()}.txt", "w")
crops = Cache.crops
def watched(self, rng, count, length):
    print(sorted(self._live), self.frames_made, file=seen, flush=True)
    return crops(self, rng, count, length)
Cache.crops = watched

from facetalk.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_two_processes_make_and_use_the_same_trajectories(tmp_path: Path) -> None:
    for index in range(2):
        rng = np.random.default_rng(index)
        (tmp_path / "audio").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "audio" / f"{index}.wav", 0.1 * rng.normal(size=32000), 16000)
    program = tmp_path / "distill.py"
    program.write_text(PROGRAM)
    options = {
        "--steps": STEPS, "--batch": BATCH, "--crop": CROP, "--clips": CLIPS, "--clip": CLIP, "--uses": USES,
        "--keep": KEEP, "--variants": 1, "--between": 1, "--last": 2, "--audio": tmp_path / "audio",
        "--out": tmp_path / "out",
    }  # fmt: skip
    words = [str(word) for pair in options.items() for word in pair]
    done = launch(str(program), str(tmp_path), "distill", *words)

    # At every step both learn from the same trajectories, three or four of them, and none is used too often.
    first, second = ((tmp_path / f"seen{rank}.txt").read_text().splitlines() for rank in (0, 1))
    assert first == second and len(first) >= STEPS
    drawn = 2 * STEPS * BATCH * CROP
    made = int(first[-1].split()[-1]) // (CLIPS * CLIP)
    assert drawn <= USES * made * CLIPS * CLIP <= drawn + 2 * USES * CLIPS * CLIP
    assert made > 4 + 2, "too few to see old ones go"

    # The files are numbered as those of one process are, and are as many different ones.
    names = sorted(path.name for path in (tmp_path / "out" / "trajectories").glob("*.npz"))
    assert names == [f"000-{number:07d}.npz" for number in range(made - KEEP, made)]
    states = [np.load(tmp_path / "out" / "trajectories" / name)["states"] for name in names]
    assert not any(np.array_equal(a, b) for a, b in itertools.pairwise(states))

    # One training: its checkpoint, its log, its model, one line about it.
    assert json.loads((tmp_path / "out" / "checkpoint" / "loop.json").read_text())["step"] == STEPS
    assert done.stdout.count("error on new noise") == 1
    model = MotionModel.load(tmp_path / "out" / "model")
    assert model.student is not None
    assert all(bool(torch.isfinite(value).all()) for value in model.student.state_dict().values())
