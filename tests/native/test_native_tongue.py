"""The tongue of the C library is Python's: contacts, weights, positions; and models without one."""

import ctypes
import json
import shutil
from ctypes import byref, c_float, c_int64, c_void_p
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from small_networks import small_encoder, small_motion
from small_tongue import add_small_tongue, small_network

from facetalk import FaceTalk, Motion
from facetalk.errors import InputError
from facetalk.frames import Frames
from facetalk.library import FramePointers, library
from facetalk.mesh.tongue import TONGUE_NAMES
from facetalk.native import WHOLE, NativeModel, NativeRig
from facetalk.nphm.head.head import HeadModel
from facetalk.tongue import Tongue

NAMES = ["curve 0", "jawOpen", "curve 2", "curve 3", "curve 4", "curve 5"]
INVALID, BAD_FILE, UNSUPPORTED = 1, 2, 4


@pytest.fixture(scope="module")
def face(folder):
    return FaceTalk.from_pretrained(folder, device="cpu")


@pytest.fixture(scope="module")
def tongue(face) -> Tongue:
    assert face.tongue is not None
    return face.tongue


def pulled(stream, most: int, *wanted: str) -> tuple[int, dict[str, np.ndarray]]:
    """The status of ``facetalk_stream_pull_frames``, and what it gave."""
    widths = {"curves": len(stream._model.names), "tongue": 3, "contacts": 2}
    rooms = {name: np.full((most, widths[name]), np.nan, np.float32) for name in wanted}
    given = {name: room.ctypes.data for name, room in rooms.items()}
    into = FramePointers(ctypes.sizeof(FramePointers), *(given.get(name) for name in widths))
    frames = c_int64(0)
    status = library().facetalk_stream_pull_frames(stream._handle, byref(into), most, byref(frames))
    return status, {name: room[: frames.value] for name, room in rooms.items()}


def fed(stream, sound: np.ndarray):
    lib = library()
    assert lib.facetalk_stream_push(stream._handle, sound.ctypes.data, len(sound)) == 0
    assert lib.facetalk_stream_finish(stream._handle) == 0
    return stream


def test_names_are_pythons(model):
    assert tuple(model.tongue_names) == TONGUE_NAMES
    lib = library()
    assert lib.facetalk_model_tongue_count(None) == 0 == lib.facetalk_rig_tongue_count(None)
    assert lib.facetalk_model_tongue_name(model._handle, 3) is None
    assert lib.facetalk_model_tongue_name(model._handle, -1) is None


@pytest.mark.parametrize("look_ahead", [WHOLE, 0.2, 0.0])
def test_contacts_and_weights_are_those_of_the_features(model, tongue, speech, look_ahead):
    sound = speech[:41_600]
    stream = fed(model.stream(look_ahead=look_ahead, steps=1), sound)
    status, found = pulled(stream, 99, "curves", "tongue", "contacts")
    assert status == 0 and len(found["curves"]) == 65
    touched = tongue.network(model.features(sound, look_ahead=look_ahead))
    assert touched[:, 0].max() == 1.0 and np.count_nonzero(touched) > 20
    assert np.abs(found["contacts"] - touched).max() < 1e-5
    expected = tongue.reach.weights(touched, found["curves"])
    assert expected[:, 0].max() > 0.5
    assert np.abs(found["tongue"] - expected).max() < 1e-5
    again = model.tongue_weights(found["contacts"], found["curves"])
    assert np.array_equal(again, found["tongue"])


def test_the_library_and_torch_hear_the_same_tongue(face, folder, speech):
    torch = FaceTalk.from_pretrained(folder, device="cpu", backend="torch")
    for look_ahead in (None, 0.2):
        options = dict(look_ahead=look_ahead, seed=0, steps=1)
        one, other = (model.generate((speech[:40_000], 16_000), **options) for model in (face, torch))
        assert one.tongue is not None and other.tongue is not None and one.tongue[:, 0].max() > 0.5
        assert np.abs(one.tongue - other.tongue).max() < 1e-3


def test_weights_are_pythons_whatever_the_face_does(model, tongue):
    rng = np.random.default_rng(0)
    contacts = rng.uniform(-0.2, 1.2, (600, 2)).astype(np.float32)
    codes = (rng.uniform(0, 1, (600, 53)) * rng.uniform(0, 0.6, (600, 1))).astype(np.float32)
    codes[:5], codes[5:9] = 0.0, -3.0
    expected = tongue.reach.weights(contacts, codes)
    assert (expected.max(axis=0) > [0.9, 0.9, 0.1]).all() and expected[:, 1].min() == 0.0
    assert np.abs(model.tongue_weights(contacts, codes) - expected).max() < 1e-5
    assert model.tongue_weights(np.zeros((0, 2)), np.zeros((0, 53))).shape == (0, 3)
    for wrong in ((contacts[:, :1], codes), (contacts, codes[:, 1:]), (contacts[1:], codes)):
        with pytest.raises(InputError, match="shapes"):
            model.tongue_weights(*wrong)
    with pytest.raises(InputError, match=r"contacts.* not finite"):
        model.tongue_weights(contacts * np.nan, codes)


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_positions_are_those_of_decode(model, face, seed):
    code = None
    if seed is not None:
        coefficients = 0.8 * np.random.default_rng(seed).normal(size=face.head.coefficient_dim)
        code = face.head.encode_identity(coefficients)
    rng = np.random.default_rng(5)
    codes = (0.4 * rng.uniform(0, 1, (3, 53))).astype(np.float32)
    weights = np.array([[1, 0, 0], [0, 1, 0], rng.random(3)], np.float32)
    rig = NativeRig(model, code)
    assert rig.tongue == 3
    told = np.zeros(0, np.float32) if code is None else code
    meshes = face.decode(Motion(codes, 25.0, told, {}, tongue=weights))
    for code_, weight, mesh in zip(codes, weights, meshes, strict=True):
        positions, normals = rig.pose(code_, weight)
        still, _ = rig.pose(code_)
        assert np.abs(positions - mesh.vertices).max() < 2e-6  # metres
        assert np.abs(normals - mesh.normals).mean() < 1e-5
        assert 0.008 < np.linalg.norm(positions - still, axis=1).max() < 0.06
        assert np.array_equal(rig.pose(code_, np.zeros(3))[0], still)
    with pytest.raises(InputError, match=r"tongue must have shape \(3,\)"):
        rig.pose(codes[0], np.zeros(2))
    with pytest.raises(InputError, match="tongue"):
        rig.pose(codes[0], [0.0, np.nan, 0.0])


def test_either_pull_gives_the_next_frames(model, speech):
    whole = fed(model.stream(steps=1), speech[:48_000])
    _, expected = pulled(whole, 99, "curves", "tongue", "contacts")
    stream, rng, at = fed(model.stream(steps=1), speech[:48_000]), np.random.default_rng(2), 0
    kinds = [("curves", "tongue"), ("tongue",), ("contacts",), ("curves", "contacts"), ()]
    while at < 75:
        most, wanted = int(rng.integers(0, 6)), kinds[rng.integers(len(kinds))]
        if wanted:
            status, found = pulled(stream, most, *wanted)
            assert status == 0
        else:
            room, frames = np.empty((most, 53), np.float32), c_int64()
            assert library().facetalk_stream_pull(stream._handle, room.ctypes.data, most, byref(frames)) == 0
            found = {"curves": room[: frames.value]}
        count = min(most, 75 - at)
        for name, values in found.items():
            assert np.array_equal(values, expected[name][at : at + count]), name
        at += count
    assert library().facetalk_stream_ready(stream._handle) == 0


def test_what_is_refused_loses_no_frame(model, speech):
    lib, stream = library(), fed(model.stream(steps=1), speech[:16_000])
    room, frames = (c_float * 1000)(), c_int64(7)
    assert pulled(stream, 9)[0] == INVALID and b"asks for nothing" in lib.facetalk_last_error()
    for size in (0, 4, 2**40):
        into = FramePointers(size, ctypes.addressof(room), None, None)
        assert lib.facetalk_stream_pull_frames(stream._handle, byref(into), 9, byref(frames)) == INVALID
    into = FramePointers(ctypes.sizeof(FramePointers), ctypes.addressof(room), None, None)
    calls = [
        (None, byref(into), 1, byref(frames)),
        (stream._handle, None, 1, byref(frames)),
        (stream._handle, byref(into), -1, byref(frames)),
        (stream._handle, byref(into), 1, None),
    ]
    assert [lib.facetalk_stream_pull_frames(*arguments) for arguments in calls] == [INVALID] * 4
    assert frames.value == 7 and lib.facetalk_stream_ready(stream._handle) == 25
    # A program of a smaller struct has no tongue: what lies behind it, or half inside, is not looked at.
    for size in (16, 20):
        into = FramePointers(size, ctypes.addressof(room), 1, 1)
        assert lib.facetalk_stream_pull_frames(stream._handle, byref(into), 9, byref(frames)) == 0
        assert frames.value == 9
    weights = [(None, room, room, 1, room), (model._handle, None, room, 1, room),
               (model._handle, room, None, 1, room), (model._handle, room, room, 1, None),
               (model._handle, room, room, -1, room)]  # fmt: skip
    assert [lib.facetalk_model_tongue_weights(*arguments) for arguments in weights] == [INVALID] * 5


@pytest.fixture
def small(make_folder) -> Path:
    """A model whose denoiser hears ahead, so that contacts are there before the curves of their frames."""
    encoder = small_encoder(feat_extract_norm="layer", do_stable_layer_norm=True)
    motion = small_motion(20, window=(1, 3))
    motion.expression_names = NAMES
    return make_folder(encoder, motion, span=0.2)


def test_contacts_wait_for_their_curves(small, speech):
    reach = add_small_tongue(small, 20, NAMES)
    model, network, sound = NativeModel(small), small_network(20), speech[:32_000]
    touched = network(model.features(sound, look_ahead=0.1))
    assert 0.1 < touched.mean() < 0.9
    stream, parts = model.stream(look_ahead=0.1, steps=1), []
    for start in range(0, len(sound), 500):
        parts.append(stream.push(sound[start : start + 500]))
        assert parts[-1].contacts is not None and len(parts[-1].contacts) == len(parts[-1].curves)
    found = Frames.joined([*parts, stream.finish()])
    assert found.contacts is not None and len(found.curves) == 50
    assert np.abs(found.contacts - touched).max() < 2e-3  # weights of half precision
    weights = model.tongue_weights(found.contacts, found.curves)
    assert np.abs(weights - reach.weights(found.contacts, found.curves)).max() < 1e-5
    stream.reset()
    again = Frames.joined([stream.push(sound), stream.finish()])
    assert again.contacts is not None and np.abs(again.contacts - found.contacts).max() < 1e-5


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", [np.int32, np.uint16])
def test_mouths_of_other_meshes_are_pythons(small, seed, kind):
    reach = add_small_tongue(small, 20, NAMES, seed)
    edit_tensors(small / "head/template.safetensors", shape_rows=lambda rows: rows.astype(kind))
    rng, model = np.random.default_rng(seed), NativeModel(small)
    contacts, codes = rng.random((200, 2)), 0.5 * rng.random((200, 6))
    expected = reach.weights(contacts, codes)
    assert (expected.max(axis=0) > [0.3, 0.3, 0.05]).all()
    assert np.abs(model.tongue_weights(contacts, codes) - expected).max() < 1e-4


def linked(folder: Path, to: Path, *without: str) -> Path:
    """A model folder of links, which parts may be taken from."""
    for part in folder.iterdir():
        if part.name not in without:
            (to / part.name).symlink_to(part)
    return to


def test_models_without_one(face, folder, speech, tmp_path_factory):
    bare = NativeModel(linked(folder, tmp_path_factory.mktemp("bare"), "tongue"))
    assert bare.tongue_names == []
    stream = fed(bare.stream(steps=1), speech[:16_000])
    for wanted in ("tongue", "contacts"):
        assert pulled(stream, 9, "curves", wanted)[0] == UNSUPPORTED
    for _ in range(2):
        assert len(pulled(stream, 9, "curves")[1]["curves"]) == 9
    with pytest.raises(InputError, match="no tongue that moves"):
        bare.tongue_weights(np.zeros((1, 2)), np.zeros((1, 53)))
    stream = bare.stream(steps=1)
    assert stream.push(speech[:16_000]).contacts is None
    assert NativeRig(bare).tongue == 3, "whoever has weights of their own can pose the head with them"

    # A head whose mesh has none, and no head.
    assert NativeModel(linked(folder, tmp_path_factory.mktemp("headless"), "head")).tongue_names == []
    carried = linked(folder, tmp_path_factory.mktemp("carried"), "head")
    content = {**vars(face.head.content), "mesh": None, "canonical": face.head.bind().canonical()}
    HeadModel(type(face.head.content)(**content)).save(carried / "head")
    model = NativeModel(carried)
    assert model.tongue_names == []
    rig = NativeRig(model)
    assert rig.tongue == 0
    with pytest.raises(InputError, match="no tongue that moves"):
        rig.pose(np.zeros(53), np.zeros(3))
    assert FaceTalk.from_pretrained(carried, device="cpu").tongue is None

    # Nor does it hide that the tongue's files are damaged.
    (carried / "tongue").unlink()
    shutil.copytree(folder / "tongue", carried / "tongue")
    (carried / "tongue/model.safetensors").write_bytes(b"\x00" * 50)
    with pytest.raises(InputError, match=r"tongue/model\.safetensors"):
        NativeModel(carried)
    for backend in ("auto", "torch"):
        with pytest.raises(InputError, match=r"tongue/model\.safetensors"):
            FaceTalk.from_pretrained(carried, device="cpu", backend=backend).generate((speech, 16_000))


def edit_config(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_tensors(path: Path, **changes: object) -> None:
    tensors = load_file(path)
    for name, change in changes.items():
        if change is None:
            del tensors[name]
        else:
            tensors[name] = change(tensors[name])
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, path)


def filled(value: float):
    return lambda array: np.full_like(array, value)


DAMAGE = {
    "format": (
        r"tongue/config.json: does not describe",
        lambda at: edit_config(at / "tongue/config.json", format="x"),
    ),
    "version": (r"does not describe a tongue", lambda at: edit_config(at / "tongue/config.json", version=2)),
    "no config": (r"tongue/config.json: no such file", lambda at: (at / "tongue/config.json").unlink()),
    "no weights": (r"tongue/model.safetensors", lambda at: (at / "tongue/model.safetensors").unlink()),
    "text": (r"tongue/config.json", lambda at: (at / "tongue/config.json").write_text("{")),
    "width": (r"w1 does not fit", lambda at: edit_config(at / "tongue/config.json", feature_dim=21)),
    "other encoder": (
        r"takes 9 audio features a frame, the encoder gives 20; train it again",
        lambda at: (shutil.rmtree(at / "tongue"), small_network(9).save(at / "tongue", {})),
    ),
    "no bias": (r"tensor b1 is missing", lambda at: edit_tensors(at / "tongue/model.safetensors", b1=None)),
    "short": (
        r"tensor w2 should have shape",
        lambda at: edit_tensors(at / "tongue/model.safetensors", w2=lambda w: w[:, 1:]),
    ),
    "nan": (r"tensor w1 holds", lambda at: edit_tensors(at / "tongue/model.safetensors", w1=filled(np.nan))),
    "no regions": (
        r"tensor region is missing",
        lambda at: edit_tensors(at / "head/template.safetensors", region=None),
    ),
    "landmarks": (
        r"landmarks names what is not there",
        lambda at: edit_tensors(at / "head/template.safetensors", landmarks=filled(10**6)),
    ),
    "few landmarks": (
        r"landmarks are not 68",
        lambda at: edit_tensors(at / "head/template.safetensors", landmarks=lambda rows: rows[1:]),
    ),
    "shapes": (
        r"shape_rows names what is not there",
        lambda at: edit_tensors(
            at / "head/template.safetensors", shape_rows=lambda rows: (rows + 60_000).astype(np.uint16)
        ),
    ),
    "shapes of another type": (
        r"shape_rows has type I64, neither I32 nor U16",
        lambda at: edit_tensors(
            at / "head/template.safetensors", shape_rows=lambda rows: rows.astype(np.int64)
        ),
    ),
    "lips behind the tongue": (
        r"its tongue gets nowhere",
        lambda at: edit_tensors(
            at / "head/template.safetensors", vertices=lambda rows: np.r_[rows[:-6], rows[-6:] - 0.3]
        ),
    ),
    "names": (
        r"not those of the motion model",
        lambda at: edit_config(at / "head/config.json", expression_names=[*NAMES[:5], "other"]),
    ),
    "head": (r"head/config.json", lambda at: (at / "head/config.json").unlink()),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_told_in_a_line(small, what):
    add_small_tongue(small, 20, NAMES)
    assert NativeModel(small).tongue_names
    told, damage = DAMAGE[what]
    damage(small)
    handle = c_void_p()
    assert library().facetalk_model_load(str(small).encode(), byref(handle)) == BAD_FILE
    with pytest.raises(InputError, match=told) as caught:
        NativeModel(small)
    assert "\n" not in str(caught.value)
