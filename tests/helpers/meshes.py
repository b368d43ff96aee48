"""What a triangle mesh must be: checks shared by the tests of marching cubes."""

import numpy as np


def edges(faces: np.ndarray, count: int) -> np.ndarray:
    """Directed edges (3F,) as one number each."""
    f = faces.astype(np.int64)
    return np.concatenate([f[:, 0] * count + f[:, 1], f[:, 1] * count + f[:, 2], f[:, 2] * count + f[:, 0]])


def assert_closed_manifold(vertices: np.ndarray, faces: np.ndarray) -> None:
    """Every edge between two faces that run along it in opposite ways; one fan of faces at every vertex."""
    n = len(vertices)
    assert vertices.dtype == np.float32 and faces.dtype == np.int32
    assert np.isfinite(vertices).all()
    if n == 0:
        assert len(faces) == 0
        return
    assert np.array_equal(np.unique(faces), np.arange(n)), "indices out of range or vertices without a face"
    directed = edges(faces, n)
    assert len(np.unique(directed)) == len(directed), "two faces run along an edge the same way"
    reverse = directed % n * n + directed // n
    assert np.array_equal(np.sort(directed), np.sort(reverse)), "an edge with only one face"
    assert fans(faces, n) == n, "a vertex where two sheets touch"


def fans(faces: np.ndarray, count: int) -> int:
    """How many cycles of faces there are around vertices; `count` when each vertex has one."""
    f = faces.astype(np.int64)
    # Corner (face, i) leads to the corner of the next face around the same vertex, across edge (vertex,
    # previous).
    start = np.concatenate([f[:, i] * count + f[:, (i + 1) % 3] for i in range(3)])
    back = np.concatenate([f[:, i] * count + f[:, (i + 2) % 3] for i in range(3)])
    order = np.argsort(start)
    follow = order[np.searchsorted(start[order], back)]
    label = np.arange(len(start))
    while True:  # smallest corner of each cycle, by pointer doubling
        smaller = np.minimum(label, label[follow])
        follow = follow[follow]
        if np.array_equal(smaller, label):
            return len(np.unique(label))
        label = smaller


def volume_and_area(vertices: np.ndarray, faces: np.ndarray) -> tuple[float, float]:
    """Signed volume (positive for faces counter-clockwise from outside) and area."""
    a, b, c = (vertices[faces[:, i]].astype(np.float64) for i in range(3))
    return float(np.einsum("ij,ij", a, np.cross(b, c)) / 6), float(
        np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2
    )


def smooth_noise(shape: tuple[int, int, int], seed: int, waves: float = 4.0) -> np.ndarray:
    """Random smooth volume, outside at its border so that the surface stays inside the grid."""
    rng = np.random.default_rng(seed)
    axes = [np.linspace(0, 1, n) for n in shape]
    field = np.zeros(shape)
    for _ in range(12):
        direction = rng.uniform(-1, 1, 3) * waves * 2 * np.pi
        x, y, z = (direction[d] * axes[d] for d in range(3))
        phase = rng.uniform(0, 2 * np.pi)
        field += np.sin(x[:, None, None] + y[None, :, None] + z[None, None, :] + phase)
    rim = np.minimum.reduce(np.meshgrid(*[np.minimum(a, 1 - a) for a in axes], indexing="ij"))
    return np.maximum(field, 3.0 * (0.04 - rim) * 30).astype(np.float32)
