"""Fields of the C library on a GPU, with kernels and runtime on the host: see native_cuda.py."""

from __future__ import annotations

import ctypes
import gc
import json
import shutil
import subprocess
from ctypes import CFUNCTYPE, byref, c_char_p, c_float, c_int32, c_int64, c_size_t, c_void_p
from pathlib import Path

import numpy as np
import pytest
import torch
from field_host import emulated_core
from golden import GOLDEN
from native_fields import (
    BFLOAT16,
    CUDA,
    DEVICE_FAILED,
    FLOAT16,
    FLOAT32,
    INVALID,
    NO_MEMORY,
    UNSUPPORTED,
    WRONG_STATE,
    Library,
    Options,
    Refused,
)

from facetalk.library import get_library
from facetalk.nphm import load_checkpoint
from facetalk.nphm.bound import Bound
from facetalk.ops.cuda.field import CudaField

BOX = np.array([-0.55, -0.5, -0.95, 0.55, 0.75, 0.4], np.float32)
SMALL = np.array(
    [-0.2, -0.2, -0.2, 0.3, 0.3, 0.3], np.float32
)  # quickly searched; the surface passes through
TINY = GOLDEN / "nphm_tiny"
ROUNDING = 1e-5  # metres, of other orders of summing


@pytest.fixture(scope="module")
def gpu(emulated_library: Path) -> Library:
    library = Library(emulated_library)
    for name in ("held", "taken", "streams"):
        getattr(library.c, f"facetalk_emulate_{name}").restype = c_int64
    return library


@pytest.fixture(autouse=True)
def _nothing_is_left(gpu: Library):
    """Every test ends with a machine as it was, on which nobody holds anything."""
    yield
    gc.collect()  # errors hold on to who raised them
    assert gpu.c.facetalk_emulate_held() == 0 and gpu.c.facetalk_emulate_streams() == 0
    assert gpu.c.facetalk_emulate_current() == 0


@pytest.fixture(scope="module")
def cpu() -> Library:
    return Library(get_library())


def codes(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """An identity and an expression."""
    nphm, rng = load_checkpoint(folder, family=folder.name.split("_")[0]), np.random.default_rng(3)
    identity = 0.1 * rng.normal(size=nphm.identity_dim)
    return identity.astype(np.float32), (0.3 * rng.normal(size=nphm.expression_dim)).astype(np.float32)


def refused(call, *arguments, **named) -> tuple[int, str]:
    with pytest.raises(Refused) as caught:
        call(*arguments, **named)
    assert "\n" not in str(caught.value)
    return caught.value.status, str(caught.value)


@pytest.mark.parametrize("name", ["nphm_tiny", "mononphm_tiny"])
def test_surfaces_and_distances_are_the_cpus(gpu: Library, cpu: Library, name: str) -> None:
    identity, code = codes(GOLDEN / name)
    on_gpu, on_cpu = gpu.field(GOLDEN / name, CUDA).bind(identity), cpu.field(GOLDEN / name).bind(identity)
    points = np.random.default_rng(1).uniform(-0.15, 0.15, (200, 3)).astype(np.float32)
    for asked, resolution in ((None, 12), (code, 17)):
        vertices, faces = on_gpu.extract(asked, resolution, BOX)
        expected = on_cpu.extract(asked, resolution, BOX)
        assert np.array_equal(faces, expected[1]) and len(faces) > 300
        assert np.abs(vertices - expected[0]).max() < ROUNDING
        distances = on_gpu.query(asked, points)
        assert np.abs(distances - on_cpu.query(asked, points)).max() < ROUNDING
        assert np.ptp(distances) > 0.01
    assert on_gpu.query(code, points[:0]).shape == (0,)


def test_a_call_like_the_last_takes_no_memory(gpu: Library) -> None:
    identity, code = codes(TINY)
    field = gpu.field(TINY, CUDA).bind(identity)
    first = field.extract(code, 12, BOX)
    taken = gpu.c.facetalk_emulate_taken()
    again = field.extract(code, 12, BOX)
    assert gpu.c.facetalk_emulate_taken() == taken
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_a_forward_heads_vertices_are_moved(gpu: Library, cpu: Library, tmp_path: Path) -> None:
    shutil.copytree(TINY, tmp_path / "head")
    settings = tmp_path / "head/config.json"
    config = json.loads(settings.read_text()) if settings.exists() else {}
    settings.write_text(json.dumps({**config, "direction": "forward"}))
    identity, code = codes(TINY)
    on_gpu, on_cpu = (library.field(tmp_path / "head", device).bind(identity)
                      for library, device in ((gpu, CUDA), (cpu, 0)))  # fmt: skip
    for asked, box in ((code, BOX), (-code, BOX), (None, BOX), (code, SMALL)):
        vertices, faces = on_gpu.extract(asked, 12, box)
        expected = on_cpu.extract(asked, 12, box)
        assert np.array_equal(faces, expected[1]) and np.abs(vertices - expected[0]).max() < ROUNDING
    status, why = refused(on_gpu.query, code, np.zeros((1, 3), np.float32))
    assert status == UNSUPPORTED and "forward" in why


@pytest.mark.parametrize("precision", [FLOAT32, FLOAT16, BFLOAT16])
@pytest.mark.parametrize("name", ["nphm_tiny", "mononphm_tiny"])
def test_values_are_those_of_pythons_device(gpu: Library, name: str, precision: int) -> None:
    """The same kernels on weights that this side packed: one identity, one code, every precision."""
    identity, code = codes(GOLDEN / name)
    nphm = load_checkpoint(GOLDEN / name, family=name.split("_")[0])
    bound = Bound(nphm, torch.from_numpy(identity))
    dtype = ("float32", "float16", "bfloat16")[precision]
    python = CudaField(
        bound.source, precision=dtype, path="auto", device="cpu", _core=emulated_core().cuda_field
    )
    points = np.random.default_rng(2).uniform(-0.15, 0.15, (150, 3)).astype(np.float32)
    biases = bound.biases(torch.from_numpy(code)[None])
    expected = python.query(torch.from_numpy(4.0 * points), biases)["sdf"][0].numpy() / 4.0
    found = gpu.field(GOLDEN / name, CUDA).bind(identity, precision).query(code, points)
    # Weights of the last layer went through the softplus' units and back, sums of biases have another order,
    # and now and then one of them rounds to another half.
    away = np.abs(found - expected)
    assert np.median(away) < 1e-6 and away.max() < (1e-5, 2e-4, 1e-3)[precision]
    exact = gpu.field(GOLDEN / name, CUDA).bind(identity).query(code, points)
    assert (np.abs(found - exact).max() > 1e-5) == (precision != FLOAT32)


# What should not happen ------------------------------------------------------------------------------------


def test_devices_that_are_not_there(gpu: Library) -> None:
    for index in (2, -1, 2**31 - 1):
        status, why = refused(gpu.field, TINY, CUDA, index)
        assert status == INVALID and "device_index" in why and "0 to 1" in why
    assert refused(gpu.field, TINY, 7)[0] == INVALID
    gpu.c.facetalk_emulate_devices(c_int64(0))
    try:
        status, why = refused(gpu.field, TINY, CUDA)
        assert status == UNSUPPORTED and "no NVIDIA driver" in why
        gpu.field(TINY)  # the CPU does not mind
    finally:
        gpu.c.facetalk_emulate_devices(c_int64(2))
    identity, _ = codes(TINY)
    assert len(gpu.field(TINY, CUDA, 1).bind(identity).extract(None, 8, SMALL)[1]) > 10


def test_builds_without_cuda_say_so(cpu: Library) -> None:
    try:
        cpu.field(TINY, CUDA)
    except Refused as error:
        assert error.status == UNSUPPORTED and "CUDA" in str(error)
    else:
        pytest.skip("this library has CUDA, and the machine a GPU")


def test_what_a_gpu_does_not_do(gpu: Library, cpu: Library) -> None:
    mesh, options = c_void_p(), Options(ctypes.sizeof(Options), device=CUDA)
    volume = np.zeros(8, np.float32)
    arguments = (
        c_void_p(volume.ctypes.data),
        *map(c_int64, (2, 2, 2)),
        c_float(0),
        byref(options),
        byref(mesh),
    )
    assert gpu.c.facetalk_marching_cubes_with(*arguments) == UNSUPPORTED and not mesh
    assert cpu.c.facetalk_model_load_with(b"x", byref(options), byref(mesh)) == UNSUPPORTED
    assert refused(cpu.field(TINY).bind, None, FLOAT16)[0] == UNSUPPORTED
    field = gpu.field(TINY, CUDA)
    assert refused(field.bind, None, 3)[0] == INVALID and refused(field.bind, None, -1)[0] == INVALID
    assert refused(field.extract, None, 8, SMALL)[0] == WRONG_STATE
    assert refused(field.query, None, np.zeros((1, 3), np.float32))[0] == WRONG_STATE


def test_nulls_and_numbers_that_are_none(gpu: Library) -> None:
    field, out = gpu.field(TINY, CUDA).bind(), np.full(2, 7, np.float32)
    for points in ([[0, 0, np.nan]], [[np.inf, 0, 0]], [[0, 2e6, 0]]):
        assert refused(field.query, None, np.array(points, np.float32))[0] == INVALID
    c, here = gpu.c, c_void_p(out.ctypes.data)
    for arguments in (
        (None, None, c_int32(0), here, c_int64(0), here),
        (field.handle, None, c_int32(0), None, c_int64(1), here),
        (field.handle, None, c_int32(0), here, c_int64(1), None),
        (field.handle, None, c_int32(0), here, c_int64(-1), here),
        (field.handle, None, c_int32(3), here, c_int64(0), here),
    ):  # fmt: skip
        assert c.facetalk_field_query(*arguments) == INVALID
    assert (out == 7).all()
    assert c.facetalk_field_set_precision(None, c_int32(0)) == INVALID
    assert c.facetalk_field_identity_count(None) == 0 == c.facetalk_field_expression_count(None)
    identity, code = codes(TINY)
    assert c.facetalk_field_identity_count(field.handle) == len(identity)
    assert c.facetalk_field_expression_count(field.handle) == len(code)
    for box in (BOX[::-1].copy(), np.full(6, np.nan, np.float32)):
        assert refused(field.extract, None, 8, box)[0] == INVALID


def test_where_the_gpus_memory_ends_the_next_call_has_what_there_is(gpu: Library) -> None:
    identity, code = codes(TINY)
    field = gpu.field(TINY, CUDA).bind(identity)
    held = gpu.c.facetalk_emulate_held()
    try:
        for room in (0, 1000, 20_000):
            gpu.c.facetalk_emulate_room(c_int64(held + room))
            status, why = refused(field.extract, code, 10, SMALL)
            assert status == NO_MEMORY and "memory" in why
        gpu.c.facetalk_emulate_room(c_int64(1000))
        assert refused(field.bind, -identity)[0] == NO_MEMORY
    finally:
        gpu.c.facetalk_emulate_room(c_int64(2**62))
    expected = gpu.field(TINY, CUDA).bind(identity).extract(code, 10, SMALL)
    found = field.extract(code, 10, SMALL)  # of the identity that was bound before
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_launches_that_fail_are_told(gpu: Library) -> None:
    identity, code = codes(TINY)
    field = gpu.field(TINY, CUDA).bind(identity)
    whole = field.extract(code, 8, SMALL)
    for number in (1, 2, 6, 11, 23):
        gpu.c.facetalk_emulate_fail_launch(c_int64(number))
        status, why = refused(field.extract, code, 8, SMALL)
        assert status == DEVICE_FAILED and "launch failure" in why
    gpu.c.facetalk_emulate_fail_launch(c_int64(0))
    assert np.array_equal(field.extract(code, 8, SMALL)[0], whole[0])


ALLOCATE = CFUNCTYPE(c_void_p, c_void_p, c_size_t)
RELEASE = CFUNCTYPE(None, c_void_p, c_void_p)
LOG = CFUNCTYPE(None, c_void_p, c_int32, c_char_p)


def test_memory_comes_from_the_programs_allocator_and_goes_back(gpu: Library) -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = c_void_p, [c_size_t], [c_void_p]
    live: set[int] = set()
    left, said = [1 << 30], []

    def take(user: object, size: int) -> int | None:
        left[0] -= 1
        if left[0] < 0:
            return None
        live.add(block := libc.malloc(size))
        return block

    def give_back(user: object, block: int) -> None:
        live.remove(block)
        libc.free(block)

    log = LOG(lambda user, level, text: said.append(text.decode()))
    functions = ALLOCATE(take), RELEASE(give_back)
    allocate, release, logged = (ctypes.cast(function, c_void_p) for function in (*functions, log))
    options = Options(allocate=allocate, release=release, log=logged)
    identity, code = codes(TINY)

    def use() -> None:
        field = gpu.field(TINY, CUDA, 1, options)
        try:
            field.bind(identity).extract(code, 8, SMALL)
        finally:
            field.free()

    use()
    assert not live and any("GPU 1" in text for text in said)
    blocks = (1 << 30) - left[0]
    assert blocks > 100
    for most in np.unique(np.geomspace(1, blocks - 1, 25).astype(int)):
        left[0] = int(most)
        assert refused(use)[0] == NO_MEMORY, most
        assert not live and gpu.c.facetalk_emulate_held() == 0, most


def test_the_example_runs_on_it(emulated_library: Path, gpu: Library, tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler on this machine")
    root = Path(__file__).resolve().parents[2]
    flags = ["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", f"-I{root / 'csrc'}"]
    command = [compiler, *flags, root / "examples/c/head_meshes.c", emulated_library, "-lm"]
    subprocess.run([*command, f"-Wl,-rpath,{emulated_library.parent}", "-o", tmp_path / "run"], check=True)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [tmp_path / "run", TINY, "--resolution", "12", "--frames", "1", *arguments]
        return subprocess.run(command, capture_output=True, text=True)

    told = {}
    for device in ("cpu", "cuda"):
        done = run("--device", device)
        assert done.returncode == 0, done.stderr
        told[device] = [line.split(",", 1)[1] for line in done.stdout.splitlines()]
    assert told["cpu"] == told["cuda"] and len(told["cpu"]) == 2 and "faces" in told["cpu"][0]
    done = run("--half")
    assert done.returncode == 1 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert run("--nonsense").returncode == 2
