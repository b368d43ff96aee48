"""What a program brings along to the C library: its allocator, its log, and the device that it asks for."""

import ctypes
import json
import os
import shutil
import subprocess
import sys
from ctypes import CFUNCTYPE, byref, c_char_p, c_float, c_int32, c_int64, c_size_t, c_void_p

import numpy as np
import pytest
from golden import GOLDEN
from native_meshes import mesh_of
from scipy.spatial import cKDTree
from small_networks import small_encoder, small_motion

from facetalk.library import library
from facetalk.nphm import load_checkpoint

INVALID, NO_MEMORY, UNSUPPORTED = 1, 3, 4
ERROR, INFO = 0, 2
LOG = CFUNCTYPE(None, c_void_p, c_int32, c_char_p)
ALLOCATE = CFUNCTYPE(c_void_p, c_void_p, c_size_t)
RELEASE = CFUNCTYPE(None, c_void_p, c_void_p)
BOX = np.array([-0.55, -0.5, -0.95, 0.55, 0.75, 0.4], np.float32)


class Options(ctypes.Structure):
    _fields_ = (
        ("struct_size", c_size_t),
        ("allocate", ALLOCATE),
        ("release", RELEASE),
        ("memory_user", c_void_p),
        ("log", LOG),
        ("log_user", c_void_p),
        ("device", c_int32),
    )


class Allocator:
    """The C library's malloc, counted; none is left after `most` blocks."""

    def __init__(self, most: int | None = None):
        libc = ctypes.CDLL(None)
        libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = c_void_p, [c_size_t], [c_void_p]
        self.live: dict[int, int] = {}
        self.blocks, self.held, self.strangers, self.users = 0, 0, 0, set()

        def allocate(user, size):
            self.users.add(user)
            if most is not None and self.blocks >= most:
                return None
            self.blocks += 1
            block = libc.malloc(size)
            self.live[block] = size
            self.held = max(self.held, sum(self.live.values())) if size > 1 << 16 else self.held
            return block

        def release(user, block):
            self.users.add(user)
            self.strangers += self.live.pop(block, None) is None
            libc.free(block)

        self.options = Options(ctypes.sizeof(Options), ALLOCATE(allocate), RELEASE(release), 77)


@pytest.fixture(scope="module")
def lib():
    """The library, beside the one that Python's own handles use, with no types declared."""
    lib = ctypes.CDLL(library()._name)
    for name in ("model", "stream", "rig", "field", "mesh"):
        getattr(lib, f"facetalk_{name}_free").argtypes = [c_void_p]
    lib.facetalk_last_error.restype = c_char_p
    return lib


def use_speech(lib, folder, options) -> int:
    """Loads, streams, and frees whatever came of it; the first status that is none of 0."""
    model, stream, frames = c_void_p(), c_void_p(), c_int64()
    sound = (np.sin(np.arange(9000) / 7) / 3).astype(np.float32)
    curves = np.empty((20, 64), np.float32)
    status = lib.facetalk_model_load_with(str(folder).encode(), byref(options), byref(model))
    assert bool(model) == (status == 0)
    calls = [
        lambda: lib.facetalk_stream_create(model, None, byref(stream)),
        lambda: lib.facetalk_stream_push(stream, c_void_p(sound.ctypes.data), c_size_t(len(sound))),
        lambda: lib.facetalk_stream_finish(stream),
        lambda: lib.facetalk_stream_pull(stream, c_void_p(curves.ctypes.data), c_int64(20), byref(frames)),
    ]
    for call in calls:
        status = status or call()
    lib.facetalk_stream_free(stream)
    lib.facetalk_model_free(model)
    return status


def use_surfaces(lib, options) -> int:
    field, mesh, cubes = c_void_p(), c_void_p(), c_void_p()
    volume = np.random.default_rng(0).normal(size=(40, 40, 40)).astype(np.float32)
    code = np.full(load_checkpoint(GOLDEN / "nphm_tiny").expression_dim, 0.1, np.float32)
    calls = [
        lambda: lib.facetalk_field_load_with(
            str(GOLDEN / "nphm_tiny").encode(), byref(options), byref(field)
        ),
        lambda: lib.facetalk_field_bind(field, None, 0),
        lambda: lib.facetalk_field_extract(
            field,
            c_void_p(code.ctypes.data),
            len(code),
            24,
            c_void_p(BOX.ctypes.data),
            c_float(0),
            byref(mesh),
        ),
        lambda: lib.facetalk_marching_cubes_with(
            c_void_p(volume.ctypes.data),
            *map(c_int64, volume.shape),
            c_float(0),
            byref(options),
            byref(cubes),
        ),
    ]
    status = 0
    for call in calls:
        status = status or call()
    lib.facetalk_field_free(field)  # meshes stand alone
    lib.facetalk_mesh_free(mesh)
    lib.facetalk_mesh_free(cubes)
    return status


@pytest.fixture
def small(make_folder):
    encoder = small_encoder(feat_extract_norm="layer", do_stable_layer_norm=True)
    return make_folder(encoder, small_motion(20), span=0.2)


def test_all_memory_comes_from_the_programs_allocator_and_goes_back(lib, folder):
    speech, surfaces = Allocator(), Allocator()
    assert use_speech(lib, folder, speech.options) == 0, lib.facetalk_last_error()
    assert speech.held > 10_000_000  # the model's weights among it
    assert lib.facetalk_set_threads(3) == 0
    try:
        assert use_surfaces(lib, surfaces.options) == 0, lib.facetalk_last_error()
    finally:
        lib.facetalk_set_threads(1)
    for allocator in (speech, surfaces):
        assert allocator.blocks > 100 and allocator.users == {77}
        assert not allocator.live and not allocator.strangers


@pytest.mark.parametrize("what", ["speech", "surfaces"])
def test_where_memory_ends_a_status_says_so_and_nothing_is_lost(lib, small, what):
    whole = Allocator()
    use = (lambda options: use_speech(lib, small, options)) if what == "speech" else (
        lambda options: use_surfaces(lib, options)
    )  # fmt: skip
    assert use(whole.options) == 0, lib.facetalk_last_error()
    for most in np.unique(np.geomspace(1, whole.blocks - 1, 60).astype(int)):
        short = Allocator(int(most))
        assert use(short.options) == NO_MEMORY, most
        assert not short.live and not short.strangers, most


def test_the_log_hears_of_models_and_errors(lib, small):
    said = []
    log = LOG(lambda user, level, text: said.append((user, level, text.decode())))
    options = Options(ctypes.sizeof(Options), log=log, log_user=5)
    model, stream = c_void_p(), c_void_p()
    assert lib.facetalk_model_load_with(str(small).encode(), byref(options), byref(model)) == 0
    assert [(user, level) for user, level, _ in said] == [(5, INFO)] and str(small) in said[0][2]
    assert lib.facetalk_stream_create(model, None, byref(stream)) == 0
    assert lib.facetalk_stream_push(stream, None, c_size_t(4)) == INVALID
    assert said[1:] == [(5, ERROR, "samples is NULL")]
    lib.facetalk_stream_free(stream)
    lib.facetalk_model_free(model)
    assert lib.facetalk_model_load_with(b"/nowhere", byref(options), byref(model)) == 2
    assert "/nowhere" in said[-1][2]


def test_options_that_are_none_are_refused(lib, small):
    out = c_void_p()

    def load(options):
        status = lib.facetalk_model_load_with(str(small).encode(), byref(options), byref(out))
        if status == 0:
            lib.facetalk_model_free(out)
        return status, lib.facetalk_last_error().decode()

    size = ctypes.sizeof(Options)
    assert load(Options(size, ALLOCATE(lambda user, size: None)))[0] == INVALID
    assert load(Options(0))[0] == INVALID
    status, why = load(Options(size, device=1))
    assert status == UNSUPPORTED and "CUDA" in why
    assert load(Options(size, device=9))[0] == INVALID
    assert load(Options(size - 8, device=9))[0] == 0  # a header from before there were devices
    assert load(Options(8))[0] == 0
    options = Options()
    lib.facetalk_options_default(byref(options))
    assert (options.struct_size, options.device, bool(options.log)) == (size, 0, False)


@pytest.mark.skipif(
    "asan" in os.environ.get("LD_PRELOAD", ""), reason="a sanitizer's own operators are everybody's"
)
def test_the_programs_own_operators_are_left_alone():
    """The library's operator new is its own: a C++ library beside it keeps the runtime's."""
    code = f"import ctypes; lib = ctypes.CDLL({library()._name!r}); lib._Znwm"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode != 0 and "undefined symbol" in done.stderr


def test_a_forward_head_is_moved_as_python_moves_it(lib, tmp_path):
    for file in (GOLDEN / "nphm_tiny").iterdir():
        shutil.copy(file, tmp_path)
    settings = tmp_path / "config.json"
    config = json.loads(settings.read_text()) if settings.exists() else {}
    settings.write_text(json.dumps({**config, "direction": "forward"}))
    nphm = load_checkpoint(tmp_path)
    assert nphm.direction == "forward"
    rng = np.random.default_rng(3)
    identity = (0.1 * rng.normal(size=nphm.identity_dim)).astype(np.float32)
    codes = (0.3 * rng.normal(size=(2, nphm.expression_dim))).astype(np.float32)
    field = c_void_p()
    assert lib.facetalk_field_load(str(tmp_path).encode(), byref(field)) == 0
    assert lib.facetalk_field_bind(field, c_void_p(identity.ctypes.data), len(identity)) == 0
    expected = nphm.bind(identity).extract(codes, 40, BOX.reshape(2, 3).tolist(), tolerance_mm=0.0)
    for code, want in zip(codes, expected, strict=True):
        mesh = c_void_p()
        arguments = c_void_p(code.ctypes.data), len(code), 40, c_void_p(BOX.ctypes.data), c_float(0)
        assert lib.facetalk_field_extract(field, *arguments, byref(mesh)) == 0, lib.facetalk_last_error()
        vertices, faces = mesh_of(mesh)
        assert np.array_equal(faces, want.faces) and len(faces) > 1000
        assert np.abs(vertices - want.vertices).max() < 2e-6  # metres
    lib.facetalk_field_free(field)


def test_within_a_tolerance_the_identity_is_baked_once_it_pays(lib):
    """As Python's cache is: no farther from the dense mesh than asked, and not the same mesh."""
    said = []
    log = LOG(lambda user, level, text: said.append(text.decode()))
    memory = Allocator()
    options, field = memory.options, c_void_p()
    options.log = log
    folder, resolution, tolerance = GOLDEN / "nphm_tiny", 64, 0.1
    box = np.array([-0.275, -0.25, -0.3, 0.275, 0.375, 0.4], np.float32)  # less to bake
    rng = np.random.default_rng(3)
    nphm = load_checkpoint(folder)
    identity = (0.1 * rng.normal(size=nphm.identity_dim)).astype(np.float32)
    code = (0.3 * rng.normal(size=nphm.expression_dim)).astype(np.float32)
    assert lib.facetalk_field_load_with(str(folder).encode(), byref(options), byref(field)) == 0
    assert lib.facetalk_field_bind(field, c_void_p(identity.ctypes.data), len(identity)) == 0

    def extract(tolerance: float) -> tuple[np.ndarray, np.ndarray]:
        mesh = c_void_p()
        arguments = c_void_p(code.ctypes.data), len(code), resolution, c_void_p(box.ctypes.data)
        assert lib.facetalk_field_extract(field, *arguments, c_float(tolerance), byref(mesh)) == 0
        return mesh_of(mesh)

    exact = extract(0.0)
    for _ in range(40):
        found = extract(tolerance)
        if said:
            break
        assert np.array_equal(found[0], exact[0])  # by bands
    assert len(said) == 1 and "baked" in said[0]
    again = extract(tolerance)
    assert np.array_equal(found[0], again[0]) and len(said) == 1
    assert not np.array_equal(found[0], exact[0])
    away = cKDTree(exact[0]).query(found[0])[0] * 1000
    # But where the field is nearly flat, as a random one is in places; Python's cache errs by as much there.
    assert np.percentile(away, 99) < tolerance and np.percentile(away, 99.9) < 2 * tolerance
    assert np.array_equal(extract(0.0)[0], exact[0])
    lib.facetalk_field_free(field)
    assert not memory.live
