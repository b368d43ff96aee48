"""What FaceTalk hands on, and what it answers where nothing is said."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import facetalk
from facetalk import backend, pipeline, torch_backend
from facetalk.audio.level import Level
from facetalk.mesh import Mesh
from facetalk.nphm.head.parts import Part
from facetalk.nphm.surface.options import DEFAULT_TOLERANCE_MM, ExtractionInfo
from facetalk.ops._device import with_kernels
from facetalk.pipeline import FaceTalk
from facetalk.posing import _hidden, _open

SOUND = (np.zeros(3200, np.float32), 16000)


@pytest.fixture(scope="module")
def head() -> Any:
    return FaceTalk.from_pretrained(device="cpu").head


@pytest.fixture
def model(head: Any, monkeypatch: pytest.MonkeyPatch) -> FaceTalk:
    """The built-in head with an encoder and a motion model that only tell what they were asked."""
    found = FaceTalk.from_pretrained(device="cpu", backend="torch")
    found.__dict__["any_head"] = head
    asked: dict[str, Any] = {}
    found.asked = asked  # type: ignore[attr-defined]

    def sample(features: Any, **options: Any) -> np.ndarray:
        asked.update(options)
        return np.zeros((sum(len(part) for part in features), head.expression_dim), np.float32)

    def stream(sound: Any, fps: float, *, level: Any) -> Any:
        asked.update(fps=fps, level=level)
        return iter([torch.zeros(5, 4)])

    found.__dict__["tongue"] = None  # it is of the real encoder
    found.__dict__["audio_encoder"] = SimpleNamespace(normalize=True, stream=stream, guidance=None)
    found.__dict__["motion_model"] = SimpleNamespace(
        sample=sample, steps_for=lambda steps, guidance: steps or 2, default_guidance=1.7
    )
    return found


@pytest.mark.filterwarnings("ignore::facetalk.errors.HearingWarning")
def test_generate_hands_on_what_it_was_told(model: FaceTalk) -> None:
    motion = model.generate(SOUND, steps=7, guidance=2.5, seed=3, progress=True)
    asked = model.asked  # type: ignore[attr-defined]
    assert (asked["steps"], asked["guidance"], asked["seed"], asked["progress"]) == (7, 2.5, 3, True)
    assert asked["fps"] == model.config.fps and isinstance(asked["level"], Level)
    told = motion.provenance
    assert (
        (told["steps"], told["guidance"], told["seed"]) == (7, 2.5, 3)
        and told["hearing"]
        and "audio" not in told
    )
    np.testing.assert_array_equal(motion.identity, model.head.default_identity)
    usual = model.generate(SOUND)
    assert asked["steps"] is None and asked["guidance"] is None and asked["progress"] is False
    assert usual.provenance["guidance"] == 1.7 and usual.provenance["steps"] == 2
    model.audio_encoder.normalize = False  # type: ignore[misc]
    model.generate(SOUND)
    assert asked["level"] is None
    code = model.head.default_identity + 0.1
    np.testing.assert_array_equal(model.generate(SOUND, identity=code).identity, np.float32(code))


@pytest.mark.filterwarnings("ignore::facetalk.errors.HearingWarning")
def test_a_fresh_seed_is_of_32_bits_and_kept(model: FaceTalk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.os, "urandom", lambda count: bytes(range(1, count + 1)))
    motion = model.generate(SOUND)
    assert motion.provenance["seed"] == model.asked["seed"] == 0x04030201  # type: ignore[attr-defined]


@pytest.mark.filterwarnings("ignore::facetalk.errors.HearingWarning")
def test_a_file_is_named_without_its_folders(model: FaceTalk, tmp_path: Any) -> None:
    import soundfile

    (tmp_path / "deep").mkdir()
    soundfile.write(tmp_path / "deep" / "talk.wav", SOUND[0], 16000)
    assert model.generate(tmp_path / "deep" / "talk.wav").provenance["audio"] == "talk.wav"


def test_parts_are_loaded_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    for name in ("AudioEncoder", "MotionModel"):
        loader = SimpleNamespace(
            from_pretrained=lambda path, device=None: seen.append((path.name, device)),
            load=lambda path, device=None: seen.append((path.name, device)),
        )
        monkeypatch.setattr(torch_backend, name, loader)
    model = FaceTalk(FaceTalk.from_pretrained(device="cpu").config, torch.device("meta"))
    _ = model.audio_encoder, model.motion_model
    assert seen == [("audio", torch.device("meta")), ("motion", torch.device("meta"))]
    assert str(model.device) == "meta"
    assert backend.pick_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")


def test_torch_is_asked_for_a_gpu_where_there_is_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert backend.pick_device("auto") == "cuda"
    monkeypatch.delitem(sys.modules, "torch")  # not imported yet
    for driver, device in ((False, "cpu"), (True, "cuda")):
        monkeypatch.setattr(backend, "has_gpu_driver", lambda driver=driver: driver)
        assert backend.pick_device("auto") == device


def talk(model: FaceTalk, frames: int = 3) -> facetalk.Motion:
    weights = np.random.default_rng(0).uniform(0.0, 0.4, (frames, model.head.expression_dim))
    return facetalk.Motion(weights.astype(np.float32), 25.0)


def test_a_carried_mesh_is_smoothed_unless_told_otherwise(model: FaceTalk) -> None:
    motion = talk(model)
    usual, same, rough = (
        model.decode(motion, **o).positions(slice(0, 3)) for o in ({}, {"smooth": True}, {"smooth": False})
    )  # type: ignore
    np.testing.assert_array_equal(usual, same)
    assert np.abs(usual - rough).max() > 1e-4
    canonical = model.head.bind().canonical()
    weight = model.facial_smoothing.weight(canonical.vertices)[None, :, None]
    weight[:, canonical.part == Part.EYEBALLS] = 1.0  # they turn as they are
    np.testing.assert_allclose(usual - usual[:1], weight * (rough - rough[:1]), atol=1e-6)


def test_motion_is_smoothed_over_time_by_the_models_setting(model: FaceTalk) -> None:
    motion = talk(model, 9)
    config = model.config
    model.config = dataclasses.replace(config, temporal_sigma=0.08)
    smoothed = model.decode(motion)
    np.testing.assert_allclose(smoothed.weights[:, :-3], motion.smooth(0.08).expressions, atol=1e-6)  # type: ignore[union-attr]
    plain, asked = model.decode(motion, temporal_sigma=0.0), model.decode(motion, temporal_sigma=0.04)
    np.testing.assert_array_equal(plain.weights[:, :-3], motion.expressions)  # type: ignore[union-attr]
    np.testing.assert_allclose(asked.weights[:, :-3], motion.smooth(0.04).expressions, atol=1e-6)  # type: ignore[union-attr]
    points = model.landmarks(motion)  # figures are of the motion as it is
    model.config = dataclasses.replace(config, temporal_sigma=0.0)
    np.testing.assert_array_equal(points, model.landmarks(motion))
    assert model.decode(motion, temporal_sigma=60.0)
    for wrong in (60.1, -0.1):
        with pytest.raises(facetalk.InputError, match="temporal_sigma must lie in 0"):
            model.decode(motion, temporal_sigma=wrong)


def test_marching_cubes_are_asked_as_said_and_painted_by_the_rig(
    model: FaceTalk, monkeypatch: pytest.MonkeyPatch
) -> None:
    motion, asked = talk(model, 3), []

    class Field:
        def iterate(self, expressions: Any, resolution: int, bounds: Any, *, options: Any) -> Any:
            asked.append((resolution, bounds, options))
            for frame in range(2):
                posed = rig[frame]  # type: ignore[index]
                yield Mesh(posed.vertices[rows], np.zeros((0, 3), np.int32), posed.normals[rows]), how
            yield Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32)), how

    def bind(code: Any, *, facial_smoothing: Any = "none", device: Any = "none") -> Field:
        asked.append((facial_smoothing, device))
        return Field()

    def settle(mesh: Mesh, first: int, *_: Any) -> Mesh:
        settled.append(first)
        return mesh

    def refine(mesh: Mesh, *found: Any) -> tuple[Mesh, Any]:
        refined.append(found)
        return mesh, np.zeros(0, np.int64)

    def without_strays(mesh: Mesh, rig: Mesh, alone: Any, lips: Any) -> tuple[Mesh, Any]:
        cleared.append((rig, alone, lips))
        return mesh, np.arange(len(mesh))

    def closed(mesh: Mesh, rig: Mesh, moves: Any, *_: Any) -> Mesh:
        shut.append((rig, moves))
        return mesh

    settled: list[int] = []
    refined: list[Any] = []
    cleared: list[Any] = []
    shut: list[Any] = []
    how = ExtractionInfo("cache", 128**3)
    monkeypatch.setattr("facetalk.nphm.surface.close_up.refine", refine)
    monkeypatch.setattr("facetalk.nphm.surface.close_up.settle", settle)
    monkeypatch.setattr("facetalk.nphm.surface.strays.without_strays", without_strays)
    monkeypatch.setattr("facetalk.nphm.head.closing.closed", closed)
    monkeypatch.setattr(model.head.nphm, "bind", bind)
    rig = model.decode(motion)
    rows = np.flatnonzero(model.head.bind().lenders())[::7]
    frames = list(model.decode(motion, topology="marching-cubes"))
    assert asked[0] == (model.facial_smoothing, with_kernels(model.device))
    resolution, bounds, options = asked[1]
    assert resolution == 128 and bounds == model.config.bounds
    assert options.tolerance_mm == DEFAULT_TOLERANCE_MM and not options.exact
    for frame, mesh in enumerate(frames[:2]):
        # But for vertices of two parts in the same place, at the edges of gums, and what lids and lips cover.
        same = mesh.part == rig.base.part[rows]  # type: ignore[index]
        assert same.mean() > 0.99
        posed = rig[frame]  # type: ignore[index]
        shown = np.ones(len(posed.vertices), bool)
        shown[posed.faces[_hidden(posed, model.head.tables.mesh)]] = False
        assert shown[rows].mean() > 0.8
        same &= shown[rows]
        off = np.abs(mesh.colors.astype(int) - rig.base.colors[rows])[same]  # type: ignore[index, union-attr]
        assert np.quantile(off, 0.99) <= 2
    assert len(frames[2].part) == len(frames[2].colors) == 0  # type: ignore[arg-type]
    assert settled == [len(rows), len(rows), 0]
    _, code, places, lattice, again = refined[1]
    np.testing.assert_array_equal(code, motion.expressions[1])
    lips, *eyes = places  # of the posed rig as the data has it, where the field stands
    assert [len(eye) for eye in eyes] == [6, 6]
    marks = model.head.tables.mesh.landmarks[48:68]  # type: ignore[union-attr]
    np.testing.assert_array_equal(shut[1][0].vertices, rig[1].vertices)  # type: ignore[index]
    moves = shut[1][1]
    assert 0.0001 < np.abs(moves).max() < 0.002
    np.testing.assert_array_equal(lips[:20], (rig[1].vertices - moves)[marks])  # type: ignore[index]
    standing, alone, _ = cleared[1]
    np.testing.assert_array_equal(standing.vertices, rig[1].vertices - moves)  # type: ignore[index]
    assert set(standing.part[alone]) == {Part.EYEBALLS, Part.UPPER_TEETH, Part.LOWER_TEETH}
    assert len(lips) == 20 + _open(lips[:20])  # and a place behind them where one sees in
    assert lattice == (resolution, bounds) and again == dataclasses.replace(options, cache=True)
    asked.clear()
    list(model.decode(motion, topology="marching-cubes", tolerance_mm=0.0))
    asked.clear()
    list(model.decode(motion, topology="marching-cubes", smooth=False, exact=True, resolution=16))
    assert (
        len(settled) == len(refined) == len(cleared) == len(shut) == 3
    )  # who asks for the lattice's surface gets it
    assert asked[0][0] is None and asked[1][0] == 16 and asked[1][2].exact


def test_limits_themselves_are_allowed(model: FaceTalk) -> None:
    assert inspect.signature(FaceTalk.decode).parameters["resolution"].default == 128
    motion = talk(model)
    for resolution in (16, 1024):
        model.decode(motion, topology="marching-cubes", resolution=resolution)
    for wrong in (15, 1025):
        with pytest.raises(facetalk.InputError, match=r"resolution must lie in \[16, 1024\]"):
            model.decode(motion, resolution=wrong)
    motion.expressions[0, 0] = 100.0
    assert model._checked(motion, None).expressions[0, 0] == 100.0
    motion.expressions[0, 0] = -100.1
    with pytest.raises(facetalk.InputError, match="weights up to 100"):
        model.decode(motion)
    code = np.zeros(model.head.identity_dim, np.float32)
    code[0] = 1000.0
    assert model._identity(code)[0] == 1000.0
    for value, says in (
        (-1001.0, "no head's are above 1000"),
        (np.nan, "not finite"),
        (np.inf, "not finite"),
    ):
        code[0] = value
        with pytest.raises(facetalk.InputError, match=says):
            model._identity(code)
    for shape in ((3,), (1, len(code))):
        with pytest.raises(facetalk.InputError, match="identity must have shape"):
            model._identity(np.zeros(shape))
