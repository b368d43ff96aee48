"""Mesh, RiggedSequence and the two smoothings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_scenes import sphere, talking_ball

from facetalk.mesh import FacialSmoothing, Mesh, RiggedSequence, gaussian_smooth


def test_mesh_computes_outward_normals() -> None:
    vertices, faces = sphere()
    mesh = Mesh(vertices, faces)
    outward = vertices / np.linalg.norm(vertices, axis=1, keepdims=True)
    assert np.einsum("vc,vc->v", mesh.normals, outward).min() > 0.98
    np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=1), 1.0, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vertices": np.full((3, 3), np.nan)}, "finite"),
        ({"vertices": np.zeros((3, 2))}, r"shape \(N, 3\)"),
        ({"faces": np.array([[0, 1, 3]])}, "0 to 2"),
        ({"faces": np.array([[0, 1, -1]])}, "0 to 2"),
        ({"colors": np.zeros((2, 3), np.uint8)}, "one row per vertex"),
        ({"colors": np.full((3, 3), 256)}, "uint8"),
    ],
)
def test_mesh_rejects(change: dict[str, np.ndarray], message: str) -> None:
    good = {"vertices": np.eye(3), "faces": np.array([[0, 1, 2]]), "normals": np.eye(3)}
    with pytest.raises(ValueError, match=message):
        Mesh(**{**good, **change})
    with pytest.raises(TypeError, match="integers"):
        Mesh(**{**good, "faces": np.array([[0.0, 1.0, 2.0]])})


def test_rig_poses_frames_and_slices() -> None:
    rig = talking_ball(12)
    expected = rig.base.vertices + np.tensordot(rig.weights, rig.basis, 1)
    assert len(rig) == len(list(rig)) == 12
    for mesh, vertices in zip(rig, expected, strict=True):
        np.testing.assert_allclose(mesh.vertices, vertices, atol=1e-7)
        np.testing.assert_allclose(mesh.normals, Mesh(vertices, mesh.faces).normals, atol=1e-5)
        assert mesh.colors is rig.base.colors
    np.testing.assert_array_equal(rig[3:7][1].vertices, rig[4].vertices)
    np.testing.assert_array_equal(rig[-1].vertices, rig[11].vertices)
    with pytest.raises(IndexError):
        rig[12]
    with pytest.raises(ValueError, match="weights"):
        RiggedSequence(rig.base, rig.basis, rig.weights[:, :2])


finite = st.floats(-2.0, 2.0)


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(finite, finite, finite),
    st.tuples(*[st.floats(0.3, 2.0)] * 3),
    st.tuples(finite, finite, finite),
    st.tuples(*[st.floats(0.2, 2.0)] * 3),
)
def test_facial_smoothing_is_min_max_normalised(centre, sigma, low, extent) -> None:  # type: ignore[no-untyped-def]
    high = tuple(a + b for a, b in zip(low, extent, strict=True))
    smoothing = FacialSmoothing(centre, sigma, (low, high))
    axes = [np.linspace(a, b, 41) for a, b in zip(low, high, strict=True)]
    # The grid also holds the coordinates of the centre, where the weight peaks if it lies inside.
    axes = [np.unique(np.append(x, np.clip(c, x[0], x[-1]))) for x, c in zip(axes, centre, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    d2 = (((grid - centre) / sigma) ** 2).sum(-1)
    raw = np.exp(-0.5 * d2)
    expected = (raw - raw.min()) / (raw.max() - raw.min())
    np.testing.assert_allclose(smoothing.weight(grid), expected, atol=1e-5)


@pytest.mark.parametrize("sigma", [(0.0, 1.0, 1.0), (1.0, 1.0), (1e-9, 1.0, 1.0)])
def test_facial_smoothing_rejects_sigma(sigma: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="sigma"):
        FacialSmoothing((5.0, 5.0, 5.0), sigma, ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.floats(0.0, 0.4), st.integers(0, 1000))
def test_gaussian_smooth_against_dense_kernel(frames: int, sigma: float, seed: int) -> None:
    values = np.random.default_rng(seed).standard_normal((frames, 3)).astype(np.float32)
    smooth = gaussian_smooth(values, sigma, 25.0)
    s = sigma * 25.0
    gap = np.subtract.outer(np.arange(frames), np.arange(frames))
    kernel = (
        np.eye(frames)
        if s == 0
        else np.exp(-0.5 * (gap / max(s, 1e-30)) ** 2) * (np.abs(gap) <= max(1, np.ceil(4 * s)))
    )
    np.testing.assert_allclose(smooth, (kernel / kernel.sum(1, keepdims=True)) @ values, atol=2e-5)
    np.testing.assert_allclose(gaussian_smooth(np.ones((frames, 2)), sigma, 25.0), 1.0, atol=1e-6)


def test_gaussian_smooth_rejects() -> None:
    for sigma, fps in ((-1.0, 25.0), (float("nan"), 25.0), (0.1, 0.0)):
        with pytest.raises(ValueError, match=r"sigma_s|fps"):
            gaussian_smooth(np.zeros((3, 1)), sigma, fps)
