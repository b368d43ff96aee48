"""What should not happen: nulls, folders that are none, damaged files. A status and a line, never a crash."""

import ctypes
import json
import shutil
import struct
import subprocess
import sys
from ctypes import byref, c_double, c_float, c_int32, c_int64, c_size_t, c_void_p
from pathlib import Path

import numpy as np
import pytest
from small_networks import small_encoder, small_motion
from small_tongue import add_small_tongue

from facetalk.errors import InputError
from facetalk.library import StreamOptions, library
from facetalk.native import NativeModel

INVALID, UNSUPPORTED = 1, 4


def test_nulls_are_refused_and_freed(model):
    lib = library()
    out, frames = c_void_p(5), c_int64(7)
    values = (c_float * 64)()
    some = model._handle
    calls = {
        "model_load": [(None, byref(out)), (b"x", None)],
        "model_use_whisper": [(None, b"x")],
        "stream_create": [(None, None, byref(out)), (some, None, None)],
        "stream_push": [(None, values, 1)],
        "stream_finish": [(None,)],
        "stream_pull": [(None, values, 1, byref(frames))],
        "stream_reset": [(None,)],
        "rig_create": [(None, None, 0, byref(out)), (some, None, 0, None), (some, None, 3, byref(out))],
        "stream_pull_frames": [(None, None, 1, byref(frames))],
        "model_tongue_weights": [(None, values, values, 1, values)],
        "rig_pose": [(None, values, values, values)],
        "rig_pose_with_tongue": [(None, values, None, values, values)],
        "marching_cubes": [(None, *map(c_int64, (2, 2, 2)), c_float(0), byref(out))],
        "field_load": [(None, byref(out)), (b"x", None)],
        "field_bind": [(None, None, 0)],
        "field_extract": [(None, None, 0, 32, values, c_float(0), byref(out))],
        "model_features": [(None, values, 4, c_double(0.2), values, byref(frames))],
        "frame_noise": [(0, 0, c_int64(0), c_int64(4), 4, None)],
    }
    for name, many in calls.items():
        for arguments in many:
            function = getattr(lib, f"facetalk_{name}")
            assert function(*arguments) == INVALID, name
            assert lib.facetalk_last_error(), name
    assert not out.value
    for name in ("model", "stream", "rig", "field", "mesh"):
        free = getattr(lib, f"facetalk_{name}_free")
        free.argtypes = [c_void_p]
        free(None)
    for name in ("model_fps", "model_curve_count", "stream_ready", "stream_latency_s"):
        assert getattr(lib, f"facetalk_{name}")(None) == 0
    assert lib.facetalk_model_curve_name(some, -1) is None and lib.facetalk_model_curve_name(some, 53) is None
    assert lib.facetalk_set_threads(0) == INVALID


def test_a_stream_made_of_fewer_options_takes_the_defaults_for_the_rest(model):
    lib = library()

    class Old(ctypes.Structure):
        _fields_ = (("struct_size", c_size_t), ("sample_rate", c_int32), ("steps", c_int32))

    stream = c_void_p()
    create = ctypes.CDLL(lib._name).facetalk_stream_create
    create.argtypes = [c_void_p, c_void_p, c_void_p]
    assert create(model._handle, byref(Old(16, 48_000, 1)), byref(stream)) == 0
    assert lib.facetalk_stream_latency_s(stream) == pytest.approx(0.2056, abs=1e-3)
    lib.facetalk_stream_free(stream)
    assert create(model._handle, byref(Old(0, 48_000, 1)), byref(stream)) == INVALID


def test_an_encoder_that_hears_all_at_once_is_not_damaged_but_unsupported(make_folder):
    handle, stream = c_void_p(), c_void_p()
    lib = ctypes.CDLL(library()._name)
    folder = make_folder(small_encoder(), small_motion(20))  # without a span of attention
    assert lib.facetalk_model_load(str(folder).encode(), byref(handle)) == 0
    assert lib.facetalk_stream_create(handle, None, byref(stream)) == UNSUPPORTED and not stream
    frames, values = c_int64(100), (c_float * 6400)()
    assert (
        lib.facetalk_model_features(handle, values, c_size_t(6400), c_double(0.2), values, byref(frames)) == 4
    )
    lib.facetalk_model_free.argtypes = [c_void_p]
    lib.facetalk_model_free(handle)


def test_guidance_below_zero_is_no_default_but_for_minus_one(model):
    lib, options, stream = library(), StreamOptions(), c_void_p()
    lib.facetalk_stream_options_default(byref(options))
    assert options.guidance == -1.0
    for guidance in (-2.0, -0.5, -1e9):
        options.guidance = guidance
        assert lib.facetalk_stream_create(model._handle, byref(options), byref(stream)) == INVALID
        assert b"guidance" in lib.facetalk_last_error() and not stream


@pytest.mark.parametrize("name", ["", "nowhere", "file", "/dev/null", "empty"])
def test_folders_that_are_no_models(tmp_path, name):
    (tmp_path / "file").write_text("{}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError):
        NativeModel(tmp_path / name if name != "/dev/null" else name)


def edit(path: Path, change) -> None:
    """Change the header of a safetensors file."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = change(json.loads(data[8 : 8 + length]))
    text = json.dumps(header).encode() if not isinstance(header, bytes) else header
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def offsets(begin: int, end: int):
    def change(header):
        name = next(key for key in header if key != "__metadata__")
        header[name]["data_offsets"] = [begin, end]
        return header

    return change


@pytest.mark.parametrize(
    "change",
    [
        offsets(0, 2**62), offsets(-4, 0), offsets(8, 0), lambda h: b"[" * 100_000, lambda h: b"{}",
        lambda h: b"",
        lambda h: b'{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}',
        lambda h: b'{"a":{"dtype":"F32","shape":[1e400],"data_offsets":[0,0]}}', lambda h: b'\xff\xfe{"a":1}',
    ],
)  # fmt: skip
def test_headers_that_lie(make_folder, change):
    path = make_folder(small_encoder(), small_motion(20))
    edit(path / "audio/model.safetensors", change)
    with pytest.raises(InputError):
        NativeModel(path)


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("audio/config.json", "hidden_size", 2**31), ("audio/config.json", "conv_stride", [10**6, 1, 1]),
        ("audio/config.json", "num_attention_heads", 0), ("audio/config.json", "conv_kernel", []),
        ("audio/config.json", "hidden_act", "tanh"),
        ("audio/config.json", "num_conv_pos_embedding_groups", 7),
        ("audio/config.json", "attention_span_s", -1),
        ("motion/config.json", "sampling", {"steps": 0, "guidance": 1}),
        ("motion/config.json", "expression_names", []), ("motion/config.json", "expression_names", ["a"] * 6),
        ("motion/config.json", "schedule", {"train_steps": 10**9}), ("motion/config.json", "denoiser", {}),
        ("config.json", "fps", 0), ("config.json", "fps", "25"),
        ("config.json", "geometry", {"bounds": [[], []]}),
    ],
)  # fmt: skip
def test_settings_that_are_absurd(make_folder, file, key, value):
    path = make_folder(small_encoder(), small_motion(20))
    config = json.loads((path / file).read_text())
    (path / file).write_text(json.dumps(config | {key: value}))
    with pytest.raises(InputError) as caught:
        NativeModel(path)
    assert "\n" not in str(caught.value)


DAMAGE = """
import sys, numpy as np
from pathlib import Path
from facetalk.errors import InputError
from facetalk.native import NativeModel
folder, rng, survived = Path(sys.argv[1]), np.random.default_rng(0), 0
files = sorted(p for p in folder.rglob("*") if p.suffix in (".json", ".safetensors"))
sound = np.sin(np.arange(9000, dtype=np.float32) ** 1.3 / 50)
for trial in range(int(sys.argv[2])):
    path = files[trial % len(files)]
    whole = path.read_bytes()
    data = bytearray(whole)
    for _ in range(rng.integers(1, 5)):
        # Headers are where reading can go wrong.
        data[rng.integers(len(data) if trial % 3 else min(len(data), 4000))] = rng.integers(256)
    path.write_bytes(data[: rng.integers(len(data))] if trial % 5 == 0 else data)
    try:
        model = NativeModel(folder)
        stream = model.stream(look_ahead=float("inf"), steps=1)
        stream.push(sound)
        curves, contacts, _ = stream.finish()
        if contacts is not None:
            weights = model.tongue_weights(contacts, curves)
            assert weights.min() >= 0.0 and weights.max() <= 1.0, weights
        survived += 1
    except InputError:
        pass
    path.write_bytes(whole)
print("survived", survived)
"""


def test_damaged_files_never_crash(make_folder, tmp_path_factory):
    """In a process of its own, so that a crash is a failure with a name."""
    motion = small_motion(20)
    motion.expression_names = [*motion.expression_names[:5], "jawOpen"]
    made = make_folder(small_encoder(), motion)
    add_small_tongue(made, 20, motion.expression_names)
    folder = shutil.copytree(made, tmp_path_factory.mktemp("damaged") / "model")
    done = subprocess.run(
        [sys.executable, "-c", DAMAGE, folder, "450"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert 5 < int(done.stdout.split()[1]) < 445


def test_random_pieces_of_random_sound(model):
    rng = np.random.default_rng(3)
    stream = model.stream(steps=1, rate=22_050)
    total = 0
    for _ in range(150):
        size = int(rng.integers(0, 900))
        total += size
        stream.push((rng.normal(size=size) * 10.0 ** rng.uniform(-6, 3)).astype(np.float32))
    stream.finish()
    assert total > 0
