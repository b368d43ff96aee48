"""Baked identities on disk: found again by the next process, by nobody else, and never when damaged."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from facetalk import kept
from facetalk.nphm.surface import bake as bake_module
from facetalk.nphm.surface import identity as knowledge
from facetalk.nphm.surface import store

BOUNDS = ((-0.5, -0.5, -0.5), (0.5, 0.5, 0.5))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FACETALK_CACHE", str(tmp_path))
    monkeypatch.setattr(knowledge, "WORTH_KEEPING_S", -1.0)
    # Coarse bakes: what is stored counts here, not how good it is.
    monkeypatch.setattr(bake_module, "FIRST_SPACING", 0.05)
    monkeypatch.setattr(bake_module, "HELD_OUT", 64)
    monkeypatch.setattr(knowledge, "DEEPEST", 0)
    return tmp_path / "baked"


@pytest.fixture
def bakes(monkeypatch):
    """Numbers of bricks of the bakes that were really made."""
    made = []
    real = knowledge.bake

    def counted(*args, **options):
        baked = real(*args, **options)
        made.append(baked.bricks)
        return baked

    monkeypatch.setattr(knowledge, "bake", counted)
    return made


def mesh_of(model, code=0.0):
    """The first mesh of a process that never saw the model: nothing but the disk is remembered."""
    field = model.bind(torch.full((model.identity_dim,), code))
    return field.extract(
        np.zeros((1, 4), np.float32), 24, BOUNDS, units="head", cache=True, tolerance_mm=2.0
    )[0]


def test_the_next_process_finds_the_bake(make_model, folder, bakes):
    first = mesh_of(make_model())
    assert len(bakes) == 1 and len(list(folder.glob("*.safetensors"))) == 1
    again = mesh_of(make_model())
    assert len(bakes) == 1
    assert np.array_equal(first.vertices, again.vertices) and np.array_equal(first.faces, again.faces)


def test_another_head_or_identity_does_not(make_model, folder, bakes):
    mesh_of(make_model())
    mesh_of(make_model(), code=0.1)
    mesh_of(make_model(seed=3))
    assert len(bakes) == 3 and len(list(folder.glob("*.safetensors"))) == 3


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "another"])
def test_a_damaged_file_is_baked_again(make_model, folder, bakes, damage):
    first = mesh_of(make_model())
    (path,) = folder.glob("*.safetensors")
    content = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        content[-100] ^= 0xFF
        path.write_bytes(content)
    elif damage == "empty":
        path.write_bytes(b"")
    else:  # whole, and no bake
        store.write(path.stem, store.Baking({"far": np.zeros(3, np.float32)}, {"origin": [0.0]}))
    again = mesh_of(make_model())
    assert len(bakes) == 2 and np.array_equal(first.vertices, again.vertices)
    mesh_of(make_model())
    assert len(bakes) == 2, "the damaged file was replaced"


def test_nothing_is_kept_where_it_is_switched_off_or_not_writable(make_model, folder, bakes, monkeypatch):
    monkeypatch.setenv("FACETALK_CACHE", "")
    mesh_of(make_model())
    monkeypatch.setenv("FACETALK_CACHE", "/dev/null")
    mesh_of(make_model())
    assert len(bakes) == 2 and not folder.exists()


def test_the_oldest_go_when_it_is_full(folder, monkeypatch):
    monkeypatch.setattr(kept, "MOST_BYTES", 3500)
    for age, name in ((30, "a"), (20, "b"), (10, "c")):
        store.write(name, store.Baking({"far": np.zeros(200, np.float32)}, {}))
        path = folder / f"{name}.safetensors"
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    assert store.read("a") is not None  # used just now: b is the oldest
    store.write("d", store.Baking({"far": np.zeros(200, np.float32)}, {}))
    assert sorted(path.stem for path in folder.iterdir()) == ["a", "c", "d"]
