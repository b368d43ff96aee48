"""The canonical mesh's grid: as fine as it is asked to be, and as coarse as the time makes it."""

import numpy as np
import pytest

from facetalk.nphm.head import canonical

BOUNDS = (np.full(3, -0.5, np.float32), np.full(3, 0.5, np.float32))


@pytest.fixture
def slow(monkeypatch):
    """A ball whose distance takes a microsecond a point, by a clock that shows nothing else."""
    now = [0.0]
    monkeypatch.setattr(canonical, "clock", lambda: now[0])

    def ball(points):
        now[0] += 1e-6 * len(points)
        return np.linalg.norm(points, axis=1).astype(np.float32) - np.float32(0.3)

    return ball


def sizes(distance, seconds):
    done = []
    vertices, faces = canonical._extract_band(
        distance, BOUNDS, cell=0.01, levels=3, seconds=seconds, done=lambda: done.append(1)
    )
    np.testing.assert_allclose(np.linalg.norm(vertices, axis=1), 0.3, atol=2e-3)
    edges = vertices[faces[:, 0]] - vertices[faces[:, 1]]
    return len(done), float(np.linalg.norm(edges, axis=1).mean())


def test_cells_grow_where_the_time_is_short(slow):
    levels, fine = sizes(slow, None)
    assert levels == 3 and sizes(slow, 1e9) == (3, fine)
    # Level 1 looks at 3.5 thousand points, level 2 at four times as many, level 3 at four times those.
    two, coarse = sizes(slow, 0.06)
    one, coarsest = sizes(slow, 1e-9)
    assert (two, one) == (2, 1)
    assert coarse == pytest.approx(2 * fine, rel=0.1) and coarsest == pytest.approx(4 * fine, rel=0.1)
