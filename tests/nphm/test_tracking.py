"""Carrying a canonical mesh through frames: roots, tolerance, splitting of the work, normals."""

from __future__ import annotations

import multiprocessing

import numpy as np
import pytest
from golden import GOLDEN
from safetensors.torch import load_file

from facetalk import ops
from facetalk.errors import InputError
from facetalk.mesh.smoothing import FacialSmoothing
from facetalk.nphm import load_checkpoint
from facetalk.nphm.field import Field
from facetalk.nphm.lattice import DEFAULT_BOUNDS
from facetalk.nphm.tracking import _Net


@pytest.fixture(scope="module", params=["nphm_tiny", "mononphm_tiny"])
def moving(request: pytest.FixtureRequest) -> tuple[Field, np.ndarray, np.ndarray, np.ndarray]:
    """A field, codes of a motion that comes back to its start, and points of the canonical surface."""
    folder = GOLDEN / request.param
    model = load_checkpoint(folder, family="mononphm" if "mono" in request.param else "nphm")
    arrays = load_file(folder / "golden.safetensors")
    field = model.bind(arrays["lat_id"])
    a, b, c = arrays["lat_expr"].numpy()
    codes = np.stack([a, 0.7 * a + 0.3 * b, b, 0.5 * b + 0.5 * c, c, 1.3 * c - 0.3 * a, a]).astype(np.float32)
    mesh = field.extract(None, 24, units="head")[0]
    return field, codes, mesh.vertices, mesh.faces


def distance_to_target(
    field: Field, codes: np.ndarray, posed: np.ndarray, vertices: np.ndarray
) -> np.ndarray:
    moved = [field.offsets(p, c[None])[0, :, :3] for p, c in zip(posed, codes, strict=True)]
    return np.linalg.norm(posed + np.stack(moved) - vertices, axis=-1)


@pytest.mark.parametrize("tolerance", [1e-6, 1e-5, 2e-4])
def test_residuals_are_true_and_within_the_tolerance(moving, tolerance: float) -> None:
    field, codes, vertices, faces = moving
    info = field.tracked(codes, vertices=vertices, faces=faces, tolerance=tolerance)
    posed = info.vertices
    measured = distance_to_target(field, codes, posed, vertices)
    # 1e-6 is what rounding of positions of size 1 in float32 and of the offsets leaves.
    assert np.abs(measured - info.residual).max() < 1e-6
    assert info.converged.all() and (measured <= tolerance + 1e-6).all()
    assert posed.std(axis=0).max() > 1e-3  # the frames do differ


def test_the_path_to_a_frame_does_not_matter(moving) -> None:
    field, codes, vertices, faces = moving
    together, _ = field.track(codes, vertices=vertices, faces=faces, tolerance=1e-6)
    for t in (0, 3, 6):
        alone, _ = field.track(codes[t], vertices=vertices, faces=faces, tolerance=1e-6)
        assert np.abs(alone[0] - together[t]).max() < 1e-5


def test_threads_and_neighbours_do_not_change_a_bit(moving) -> None:
    field, codes, vertices, faces = moving
    before = ops.threads()
    try:
        ops.set_threads(1)
        one, _ = field.track(codes, vertices=vertices, faces=faces)
        ops.set_threads(5)
        five, _ = field.track(codes, vertices=vertices, faces=faces)
    finally:
        ops.set_threads(before)
    assert np.array_equal(one, five)
    order = np.random.default_rng(0).permutation(len(vertices))
    shuffled, _ = field.track(codes, vertices=vertices[order], faces=np.argsort(order)[faces])
    assert np.array_equal(shuffled, one[:, order])


def _invert_in_child(queue, field, vertices, biases) -> None:
    queue.put(float(field.bound.packed.invert(vertices, biases)[0].numpy().sum()))


def test_a_forked_process_inverts_too(moving) -> None:
    """Threads do not survive a fork, so a pool that waits for its own would hang here."""
    field, codes, vertices, _ = moving
    biases = [b.detach() for b in field.bound.biases(codes)]  # torch's own threads do not survive it either
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    before = ops.threads()
    ops.set_threads(3)
    try:
        here = float(field.bound.packed.invert(vertices, biases)[0].numpy().sum())
        child = context.Process(target=_invert_in_child, args=(queue, field, vertices, biases), daemon=True)
        child.start()
        there = queue.get(timeout=30)
        child.join(30)
    finally:
        ops.set_threads(before)
    assert there == here


def test_normals_are_the_fields_slopes(moving) -> None:
    field, codes, vertices, faces = moving
    info = field.tracked(codes[:3], vertices=vertices, faces=faces, normals=True)
    posed = info.vertices
    assert info.normals.shape == posed.shape and info.normals.dtype == np.float32
    assert np.allclose(np.linalg.norm(info.normals, axis=-1), 1.0, atol=1e-5)
    inside = ((np.abs(posed[1] - (0, 0.125, -0.275)) < (0.5, 0.5, 0.6)).all(1)).nonzero()[0][::7]
    step, numeric = 2e-3, []
    for axis in np.eye(3, dtype=np.float32):
        high = field.query(posed[1, inside] + step * axis, codes[1])[0]
        low = field.query(posed[1, inside] - step * axis, codes[1])[0]
        numeric.append((high - low) / (2 * step))
    slope = np.stack(numeric, axis=1)
    slope /= np.linalg.norm(slope, axis=1, keepdims=True)
    cosine = (slope * info.normals[1, inside]).sum(1)
    # MonoNPHM jumps where a neighbour changes, and a difference across a jump is no slope.
    assert np.quantile(cosine, 0.05) > 0.999 and len(cosine) > 50
    assert field.tracked(codes[:1], vertices=vertices, faces=faces).normals is None


def test_facial_smoothing_is_part_of_what_is_inverted(moving) -> None:
    field, codes, vertices, faces = moving
    smoothing = FacialSmoothing((0.0, -0.2, 0.3), (0.2, 0.3, 0.4), DEFAULT_BOUNDS)
    smooth = field.model.bind(field.identity, facial_smoothing=smoothing)
    info = smooth.tracked(codes[:2], vertices=vertices, faces=faces, normals=True)
    posed = info.vertices
    plain, _ = field.track(codes[:2], vertices=vertices, faces=faces)
    assert distance_to_target(smooth, codes[:2], posed, vertices).max() < 1e-5
    assert np.abs(posed - plain).max() > 1e-3
    slope = smooth.gradient(posed[1], codes[1:2])[0]
    slope /= np.linalg.norm(slope, axis=1, keepdims=True)
    assert np.abs(slope - info.normals[1]).max() < 1e-4


def test_refusals(moving) -> None:
    field, codes, vertices, faces = moving
    for tolerance in (0.0, -1.0, 1e-9, np.nan):
        with pytest.raises(InputError, match="tolerance"):
            field.track(codes, vertices=vertices, faces=faces, tolerance=tolerance)


def test_harmonic_filling() -> None:
    # A strip of five vertices and a separate triangle that nothing is known about.
    faces = np.array([[0, 1, 2], [1, 2, 3], [2, 3, 4], [5, 6, 7]], dtype=np.int32)
    known = np.array([True, False, False, False, True, False, False, False])
    values = np.zeros((8, 3), dtype=np.float32)
    values[4] = (4.0, 8.0, -4.0)
    values[2] = 99.0  # not known: must not be read
    filled = _Net(8, faces).harmonic(values, known)
    assert np.array_equal(filled[[0, 4]], values[[0, 4]])
    assert np.allclose(filled[2], (2.0, 4.0, -2.0), atol=1e-6)  # by symmetry
    assert 0 < filled[1, 0] < 2 < filled[3, 0] < 4
    assert np.array_equal(filled[5:], np.zeros((3, 3)))
