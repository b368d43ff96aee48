"""No global setting of torch changes a result; objects can be copied; numbers may be of any library."""

import contextlib
import copy
import os
import pickle
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from golden import GOLDEN

import facetalk
from facetalk import ops
from facetalk.ambient import plainly
from facetalk.mesh.export import export
from facetalk.nphm import load_checkpoint

SOUND = (0.1 * np.random.default_rng(0).standard_normal(12000)).astype(np.float32)


@contextlib.contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def default_device(device):
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextlib.contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


STATES = {
    "autocast bfloat16": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "inference mode": torch.inference_mode,
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "meta device": lambda: default_device("meta"),
    "no gradients": lambda: torch.set_grad_enabled(False),
    "gradients": lambda: torch.set_grad_enabled(True),
    "deterministic": deterministic,
}

_random = torch.Generator().manual_seed(0)
VOLUME = torch.randn(9, 10, 11, generator=_random)
HEADS = [torch.randn(1, 2, 9, 8, generator=_random) for _ in range(3)]
POINTS = torch.rand(40, 3, generator=_random) - 0.5


def operations():
    """Everything that is compiled, and the torch reference."""
    vertices, faces = ops.marching_cubes(VOLUME)
    yield from (vertices, faces, ops.vertex_normals(vertices, faces))
    yield ops.marching_cubes(VOLUME.numpy(), normals=True)[2]
    for window in ((0, 0), (2, 1), (None, None)):
        yield ops.masked_cross_attention(*HEADS, window=window)
    yield ops.masked_cross_attention(*(x.double() for x in HEADS), window=(2, 1))
    model = load_checkpoint(GOLDEN / "nphm_tiny")
    code = np.full(model.identity_dim, 0.02, np.float32)
    codes = np.full((2, model.expression_dim), 0.1, np.float32)
    yield from (
        model.sdf(POINTS, code, codes),
        model.offsets(POINTS.numpy(), code, codes[0]),
        model.anchors(code),
    )
    field = model.bind(code)
    yield from (
        field.query(POINTS, codes),
        field.gradient(POINTS.numpy(), codes),
        field.offsets(POINTS, codes),
    )
    yield from (field.jacobian(POINTS, codes), field.grid(codes, 8))
    for mesh in field.extract(codes, 20) + field.extract(codes[:1], 16, exact=True):
        yield mesh.vertices
    yield field.track(codes, resolution=16)[0]


def pipeline(model):
    """Speech to landmarks and a mesh."""
    motion = model.generate((SOUND, 16000), seed=1, steps=3, guidance=2.0)
    return [motion.expressions, model.landmarks(motion), model.decode(motion)[3].vertices]


def same(results, expected):
    for number, (got, right) in enumerate(zip(results, expected, strict=True)):
        assert type(got) is type(right) and got.dtype == right.dtype, number
        # As NumPy's, because torch's own comparison runs inside the state that is tested.
        a, b = (x.detach().numpy() if isinstance(x, torch.Tensor) else x for x in (got, right))
        np.testing.assert_array_equal(a, b, err_msg=str(number))


@pytest.fixture(scope="module")
def plain():
    model = facetalk.FaceTalk.from_pretrained()
    return model, list(operations()), pipeline(model)


@pytest.mark.parametrize("state", STATES)
def test_same_numbers_inside(plain, state):
    _, expected, talk = plain
    with STATES[state]():
        results = list(operations())
        fresh = facetalk.FaceTalk.from_pretrained()
        spoken = pipeline(fresh)
    same(results, expected)
    same(spoken, talk)
    same(pipeline(fresh), talk)  # what was loaded inside serves outside
    assert torch.get_default_dtype() == torch.float32 and torch.get_default_device().type == "cpu"


def test_attention_after_a_layer_that_autocast_made_half():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = [torch.nn.functional.linear(x, torch.eye(8)) for x in HEADS]
        assert half[0].dtype == torch.bfloat16
        found = ops.masked_cross_attention(*half, window=(2, 1))
    same([found], [ops.masked_cross_attention(*(x.float() for x in half), window=(2, 1))])


def test_a_model_that_was_loaded_in_inference_mode_can_be_differentiated():
    with torch.inference_mode():
        model = load_checkpoint(GOLDEN / "nphm_tiny")
    code = torch.full((model.identity_dim,), 0.02, requires_grad=True)
    model.sdf(POINTS, code).sum().backward()
    assert code.grad.abs().sum() > 0


@pytest.mark.parametrize("again", [copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))])
def test_objects_are_copied(plain, again):
    model, _, talk = plain
    same(pipeline(again(model)), talk)
    motion = model.generate((SOUND, 16000), seed=1)
    np.testing.assert_array_equal(again(motion).expressions, motion.expressions)
    meshes = model.decode(motion)
    np.testing.assert_array_equal(again(meshes)[2].vertices, meshes[2].vertices)
    np.testing.assert_array_equal(again(meshes[2]).normals, meshes[2].normals)
    stream = model.motion_model.stream(seed=1)
    features = model.audio_encoder.features(SOUND, fps=25)
    stream.push(features[:9])
    other = again(stream)
    np.testing.assert_array_equal(other.push(features[9:]), stream.push(features[9:]))
    head = load_checkpoint(GOLDEN / "nphm_tiny")
    code = np.full(head.identity_dim, 0.02, np.float32)
    field = head.bind(code)
    same([again(field).query(POINTS)], [field.query(POINTS)])
    same([again(head).sdf(POINTS, code)], [head.sdf(POINTS, code)])
    assert again(model.audio_encoder).model.training is model.audio_encoder.model.training is False


def test_numbers_of_numpy(plain, tmp_path):
    model, _, talk = plain
    motion = model.generate(
        (SOUND, np.int64(16000)), seed=np.int64(1), steps=np.int32(3), guidance=np.float32(2)
    )
    np.testing.assert_array_equal(motion.expressions, talk[0])
    motion.provenance["other"] = np.float32(0.5)
    path = motion.save(tmp_path / "m.safetensors")
    assert facetalk.Motion.load(path).provenance["seed"] == 1
    assert facetalk.Motion.load(path).provenance["other"] == 0.5
    meshes = model.decode(motion[:2], resolution=np.int64(32), temporal_sigma=np.float32(0.0))
    export(tmp_path / "o.glb", meshes, fps=np.float32(25), tolerance_mm=np.float64(0.5))
    for wrong in ({"seed": 1.5}, {"steps": "3"}, {"guidance": "much"}, {"guidance": np.nan}):
        with pytest.raises(facetalk.InputError, match=next(iter(wrong))):
            model.generate((SOUND, 16000), **wrong)


def test_every_step_of_a_generator_is_plain():
    @plainly
    def steps():
        for _ in range(2):
            yield torch.zeros(1).dtype

    with default_dtype(torch.float64):
        for step in steps():
            assert step == torch.float32
            assert torch.zeros(1).dtype == torch.float64  # between steps, the caller has its own


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a POSIX system forks")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_operations_after_fork(plain):
    """The compiled core has threads of its own; a child has none of them and must not wait for them."""
    before = ops.threads()
    ops.set_threads(4)
    try:
        volume = np.random.default_rng(0).standard_normal((96, 96, 96)).astype(np.float32)
        expected = ops.marching_cubes(volume)[0]
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            right = np.array_equal(ops.marching_cubes(volume)[0], expected)
            tasks = Path("/proc/self/task")
            alone = tasks.is_dir() and len(list(tasks.iterdir())) < 2  # it starts helpers of its own
            os._exit(1 if not right else 2 if alone else 0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        ops.set_threads(before)
