"""A fit that was killed goes on where it was, to the same result."""

import dataclasses
import io
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from golden import GOLDEN

from facetalk.fitting import FitOptions, fit_sequence
from facetalk.fitting.progress import Progress
from facetalk.nphm import load_checkpoint

OPTIONS = FitOptions(points=250, steps=4, window=4, overlap=2, together=1, aligned=True)
KILLED = """
import os, signal, sys
import numpy as np
from facetalk.fitting import FitOptions, fit_sequence
from facetalk.nphm import load_checkpoint
from pathlib import Path
frames = np.load(sys.argv[2])["frames"]
options = FitOptions(points=250, steps=4, window=4, overlap=2, together=int(sys.argv[4]), aligned=True)
fit_sequence(frames, load_checkpoint(sys.argv[1], direction="forward"), fps=25, options=options, unit="head",
             state=Path(sys.argv[3]), stamp="one",
             progress=lambda done: os.kill(os.getpid(), signal.SIGKILL) if done >= 6 else None)
"""


@pytest.fixture(scope="module")
def moving():
    model = load_checkpoint(GOLDEN / "nphm_tiny", direction="forward")
    codes = 0.1 * np.sin(np.arange(9)[:, None] * 0.3 + np.arange(16)[None])
    person = model.bind(np.zeros(model.identity_dim, np.float32))
    frames, _ = person.track(codes.astype(np.float32), resolution=20)
    return model, frames


def run(model, frames, together=1, **more):
    told, options = [], dataclasses.replace(OPTIONS, together=together)
    found = fit_sequence(frames, model, fps=25, options=options, unit="head", progress=told.append, **more)
    return found, told


def same(one, other):
    np.testing.assert_array_equal(one.motion.expressions, other.motion.expressions)
    np.testing.assert_array_equal(one.poses, other.poses)
    assert dataclasses.asdict(one.report) == dataclasses.asdict(other.report)


@pytest.mark.parametrize(("together", "steps"), [(1, [4, 6, 8, 9]), (2, [6, 9])])
def test_killed_and_gone_on_from(moving, tmp_path, together, steps):
    model, frames = moving
    whole, told = run(model, frames, together)
    assert told == steps
    np.savez(tmp_path / "frames.npz", frames=frames)
    state = tmp_path / "state"
    words = [sys.executable, "-c", KILLED, GOLDEN / "nphm_tiny", tmp_path / "frames.npz", state, together]
    assert subprocess.run(list(map(str, words)), check=False, env=os.environ).returncode == -signal.SIGKILL
    assert state.is_file()
    kept = state.read_bytes()
    again, told = run(model, frames, together, state=state, stamp="one")
    assert told == [done for done in steps if done >= 6] and not state.exists()
    same(again, whole)
    # The state of another fit, and a damaged one, are none.
    state.write_bytes(kept)
    other, told = run(model, frames, together, state=state, stamp="two")
    assert told == steps
    same(other, whole)
    key = np.load(io.BytesIO(kept))["key"].tobytes().decode()
    state.write_bytes(kept)
    assert Progress.load(state, key) is not None
    for content in (kept[: len(kept) // 2], b"", b"text"):
        state.write_bytes(content)
        assert Progress.load(state, key) is None


def test_a_cloud_of_millions_is_thinned_out(moving):
    import torch

    from facetalk.fitting.sequence import _fewer

    points = torch.arange(30000, dtype=torch.float64).view(-1, 3)
    assert _fewer(points, 1000) is points
    some = _fewer(points, 100)
    assert len(some) == 2000 and len(some.unique(dim=0)) == 2000
