"""A disk that is full in the middle of a file: one line and nothing left, whatever the format is."""

import contextlib
import errno
import functools
import os
import re
import shutil

import numpy as np
import pytest
import torch
from torch import nn

from facetalk.errors import InputError
from facetalk.files import atomic_path
from facetalk.mesh import Mesh
from facetalk.mesh.export import export
from facetalk.mesh.sound import write_wav
from facetalk.models import find_model
from facetalk.models.assemble import assemble
from facetalk.motion import Motion
from facetalk.nphm.head.head import HeadModel
from facetalk.render.video import write_video
from facetalk.training.loop import LoopOptions, TrainingLoop
from facetalk.weights import write_tensors

resource = pytest.importorskip("resource", reason="limits the size of files as a full disk would")


@contextlib.contextmanager
def full_after(size):
    """No file may grow beyond ``size`` bytes: writing fails with an error number, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def moving(count=3):
    rng = np.random.default_rng(0)
    faces = np.arange(3000, dtype=np.int32).reshape(-1, 3)
    base = rng.normal(size=(3000, 3)).astype(np.float32)
    return [Mesh(base + 0.01 * rng.normal(size=base.shape).astype(np.float32), faces) for _ in range(count)]


def video(path):
    pictures = np.random.default_rng(0).integers(0, 255, (8, 64, 64, 3), dtype=np.uint8)
    write_video(path, pictures, size=(64, 64), fps=25, duration=0.3)


def train(out):
    net = nn.Linear(60, 60)
    loop = TrainingLoop("line", out, {"line": net}, torch.optim.Adam(net.parameters()), LoopOptions(2))
    loop.run(lambda index: {"loss": net(torch.ones(1, 60)).sum()})


def through(write):
    def whole(path):
        with atomic_path(path) as temporary:
            write(temporary)

    return whole


NOISE = np.random.default_rng(0).normal(size=20_000).astype(np.float32)
WRITERS = {
    "m.safetensors": lambda path: Motion(np.ones((50, 53), np.float32)).save(path),
    "o.glb": lambda path: export(path, moving(), fps=25),
    "s.glb": lambda path: export(path, moving(1), fps=25, audio=(0.1 * NOISE, 16000)),
    "o.ply": lambda path: export(path, moving(), fps=25),
    "o.wav": through(lambda path: write_wav(path, (0.1 * NOISE, 16000))),
    "o.npz": through(lambda path: np.savez(path, a=NOISE, b=NOISE)),
    "o.mp4": through(video),
    "t.safetensors": through(lambda path: write_tensors(path, {"a": torch.ones(9000)})),
    "head": lambda path: HeadModel.load(find_model("default").folder / "head").save(path),
    "training": train,
}


@pytest.mark.parametrize("name", WRITERS)
def test_full(tmp_path, name):
    with full_after(5000), pytest.raises(InputError) as caught:
        WRITERS[name](tmp_path / name)
    message = str(caught.value)
    assert re.search("cannot write", message) and "\n" not in message
    left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert not [name for name in left if name != "log.jsonl" and "tfevents" not in name], left


@pytest.mark.parametrize(("size", "number"), [(1 << 20, None), (1 << 30, errno.ENOSPC)])
def test_a_folder_that_is_copied(tmp_path, monkeypatch, size, number):
    """`shutil` lists what went wrong with each of its files; people want one line."""

    def full(source, target, **options):
        raise OSError(number, os.strerror(number), str(target))

    if number is not None:
        copytree = shutil.copytree
        monkeypatch.setattr(shutil, "copytree", functools.partial(copytree, copy_function=full))
    with full_after(size), pytest.raises(InputError) as caught:
        assemble("default", "default", "default", tmp_path / "mine")
    wanted = "no space left on the device; free some or" if number else "File too large;"
    assert str(caught.value) == f"cannot write {tmp_path / 'mine'}: {wanted} choose another -o"
    assert not list(tmp_path.iterdir())
