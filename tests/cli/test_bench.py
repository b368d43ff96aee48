"""``facetalk bench``: every stage with a figure and a floor, as a table and as JSON; and what it refuses."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from golden import GOLDEN

from facetalk import bench as stagecost
from facetalk.bench import _needed_samples, _Operations, fastest
from facetalk.cli import bench, main
from facetalk.nphm.lattice import lattice_axes

PEAKS = stagecost.peaks


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_BUDGET", 0.01)
    # Caches take half a minute to make; tests/nphm has theirs.
    monkeypatch.setitem(stagecost._MODES, "within 0.05 mm", {"tolerance_mm": 0.05, "cache": False})
    monkeypatch.setattr(stagecost, "peaks", lambda: stagecost.Peaks(50.0, 10.0))


@pytest.mark.parametrize(
    ("checkpoint", "direction"),
    [(None, None), ("nphm_tiny", None), ("nphm_tiny", "forward"), ("mononphm_tiny", None)],
)
def test_every_stage_has_a_figure(capsys, tmp_path, checkpoint, direction) -> None:
    words = ["bench", "--resolution", "24", "--frames", "3", "--json", str(tmp_path / "out.json")]
    if checkpoint is not None:
        family = "mononphm" if "mono" in checkpoint else "nphm"
        words += ["--checkpoint", str(GOLDEN / checkpoint), "--family", family]
    if direction is not None:
        words += ["--direction", direction]
    mode = "band" if direction is None else "posed field"
    assert main(words) == 0
    printed = capsys.readouterr().out
    content = json.loads((tmp_path / "out.json").read_text())
    names = [stage["name"] for stage in content["stages"]]
    wanted = ("audio features", "sampler", f"field 24^3, {mode}", "track", "normals", "rig", "export .glb")
    for name in (*wanted, "field 24^3, neutral mesh moved") if direction else wanted:
        assert name in names and f"\n{name} " in printed
    assert content["machine"]["gflop_per_s"] == 50.0 and content["machine"]["gbyte_per_s"] == 10.0
    for stage in content["stages"]:
        assert math.isfinite(stage["seconds"]) and stage["seconds"] > 0
        assert stage["unit"] in ("frame", "clip", "head")
        no_floor = stage["unit"] == "head" or stage["name"] == "export .glb"
        assert (stage["floor"] > 0) == (not no_floor), stage["name"]
    by_name = {stage["name"]: stage for stage in content["stages"]}
    assert by_name["field 24^3, every sample"]["gflop"] > 2 * by_name[f"field 24^3, {mode}"]["gflop"]


def test_peaks_are_of_this_machine() -> None:
    better = stagecost.Peaks(50.0, 1.0).best(stagecost.Peaks(40.0, 2.0))
    assert better == stagecost.Peaks(50.0, 2.0)
    cost = stagecost.StageCost("a", "frame", 1.0, 25.0, 1.0, 9.0, "").at(better)
    assert cost.floor == 0.5 and cost.above == 2.0
    rates = PEAKS()
    assert 0.1 < rates.gflops < 1e6 and 0.01 < rates.gbytes < 1e5
    assert stagecost._kernel_rate(0.05) > 1e8


def test_refusals(capsys, tmp_path) -> None:
    for words in (
        ["--resolution", "8"],
        ["--frames", "0"],
        ["--frames", "100000"],
        ["--json", str(tmp_path / "missing" / "out.json")],
        ["--checkpoint", str(tmp_path / "nothing")],
        ["--direction", "forward"],
        ["--checkpoint", str(GOLDEN / "mononphm_tiny"), "--family", "mononphm", "--direction", "forward"],
        ["--model", "nobody"],
    ):
        try:
            status = main(["bench", *words])
        except SystemExit as stop:  # argparse
            status = int(stop.code or 0)
        error = capsys.readouterr().err
        assert status == 2 and error.count("error:") == 1 and "Traceback" not in error, words


def test_operations_are_counted_through_modules_and_inference_mode() -> None:
    layer = torch.nn.utils.parametrizations.weight_norm(torch.nn.Conv1d(3, 5, 7))
    linear = torch.nn.Linear(11, 13)
    with torch.inference_mode(), _Operations() as counter:
        layer(torch.zeros(2, 3, 20))
        linear(torch.zeros(4, 11))
    assert counter.flop == 2 * 2 * 5 * 14 * 3 * 7 + 2 * 4 * 11 * 13


def test_needed_samples_are_those_with_a_change_of_sign_beside_them() -> None:
    from facetalk import ops

    axes = lattice_axes((12, 14, 16), ((-1, -1, -1), (1, 1.2, 1.4)))
    x, y, z = np.meshgrid(*axes, indexing="ij")
    volume = (np.sqrt(x**2 + y**2 + z**2) - 0.7).astype(np.float32)
    vertices, _ = ops.marching_cubes(volume, bounds=((-1, -1, -1), (1, 1.2, 1.4)))
    inside = volume < 0
    wanted = np.zeros_like(inside)
    for axis in range(3):
        low = [slice(None)] * 3
        high = [slice(None)] * 3
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        cut = inside[tuple(low)] != inside[tuple(high)]
        wanted[tuple(low)] |= cut
        wanted[tuple(high)] |= cut
    found = _needed_samples(vertices, axes)
    expected = np.stack([x[wanted], y[wanted], z[wanted]], axis=1)
    order = lambda points: points[np.lexsort(np.round(points, 4).T)]  # noqa: E731
    assert found.shape == expected.shape and np.allclose(order(found), order(expected), atol=1e-5)


def test_the_fastest_run_counts() -> None:
    calls = []
    assert 0 < fastest(lambda: calls.append(0), 0.001) < 0.001 and 3 <= len(calls) <= 51
