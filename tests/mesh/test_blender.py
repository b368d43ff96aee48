"""Blender itself (package bpy), where there is one: in this Python, or in that of FACETALK_BLENDER_PYTHON."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from addon import PYTHON, needs_blender

from facetalk.mesh.export import export
from facetalk.motion import Motion
from facetalk.pipeline import FaceTalk

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
pytestmark = needs_blender


@pytest.mark.parametrize("basis", ["shapes", "pca"])
def test_the_built_in_head_plays_as_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, basis) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from check_blender import blender, largest_distance

    model = FaceTalk.from_pretrained("default", "cpu")
    weights = np.random.default_rng(1).random((20, 53)) ** 6
    weights[0] = 0.0  # the importer widens a slider by its first key
    rig = model.decode(
        Motion(weights.astype(np.float32), 25.0, np.zeros(0, np.float32), {}), temporal_sigma=0
    )
    positions, seen, names = blender(export(tmp_path / "talk.glb", rig, fps=25, basis=basis), str(PYTHON))
    assert largest_distance(positions, rig) <= 0.1
    assert ("jawOpen" in names) == (basis == "shapes")
    if basis == "shapes":
        np.testing.assert_allclose(seen[:, :53], weights, atol=1e-6)
        assert not seen[:, 53:].any(), "the tongue keeps still"
