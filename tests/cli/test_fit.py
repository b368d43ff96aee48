"""facetalk fit: scans to a motion, and what is refused."""

import json

import numpy as np
import pytest

from facetalk.cli import main
from facetalk.fitting import DifferentiableField
from facetalk.fitting.synthetic import scan
from facetalk.models import find_model
from facetalk.motion import Motion
from facetalk.nphm.head.head import HeadModel


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    head = HeadModel.load(find_model("default").folder / "head")
    field = DifferentiableField(head.nphm, head.default_identity)
    code = np.zeros(head.expression_dim, np.float32)
    code[head.expression_names.index("jawOpen")] = 0.2
    return 0.25 * scan(field, code, points=1500, noise_mm=0.5)


def test_clouds_meshes_and_arrays(points, tmp_path, capsys):
    import trimesh

    trimesh.PointCloud(points).export(tmp_path / "a.ply")
    np.savez(tmp_path / "b.npz", points=points)
    out, report = tmp_path / "motion.safetensors", tmp_path / "report.json"
    words = ["fit", "--points", tmp_path / "a.ply", tmp_path / "b.npz", "-o", out, "--report", report,
             "--fps", "30", "--per-frame", "500"]  # fmt: skip
    assert main(list(map(str, words))) == 0
    motion, said = Motion.load(out), json.loads(report.read_text())
    assert len(motion) == 2 and motion.fps == 30 and motion.provenance["made_by"] == "fit"
    assert said["frames"] == 2 and said["mean_mm"] < 1 and np.shape(said["poses"]) == (2, 4, 4)
    assert "mean distance" in capsys.readouterr().out


def test_points_are_drawn_on_faces(tmp_path):
    import trimesh

    from facetalk.fitting.scans import Scans

    trimesh.creation.box().export(tmp_path / "box.obj")
    np.save(tmp_path / "many.npy", np.zeros((3, 7, 3), np.float32))
    (drawn,) = Scans([tmp_path / "box.obj"])
    assert len(drawn) == 20000 and np.abs(np.abs(drawn).max(axis=1) - 0.5).max() < 1e-6
    many = Scans([tmp_path / "many.npy"])
    assert [len(frame) for frame in many] == [7, 7, 7]
    assert isinstance(many._array, np.memmap)  # thousands of frames need not fit into memory


def test_refusals(points, tmp_path, capsys):
    np.save(tmp_path / "good.npy", points)
    np.save(tmp_path / "nan.npy", np.full((300, 3), np.nan))
    np.save(tmp_path / "flat.npy", np.zeros((300, 2)))
    np.savez(tmp_path / "two.npz", a=points, b=points)
    (tmp_path / "cut.ply").write_bytes(b"ply\nformat binary_little_endian 1.0\nelement vertex 9\n")
    (tmp_path / "text.txt").write_text("1 2 3")
    np.save(tmp_path / "code.npy", np.zeros(7))
    out = tmp_path / "out.safetensors"
    for words, text in (
        (["nan.npy"], "not finite"),
        (["flat.npy"], "expected points (N, 3)"),
        (["two.npz"], "named points"),
        (["cut.ply"], "damaged"),
        (["text.txt"], "expected one of"),
        (["gone.ply"], "no such file"),
        (["good.npy", "--identity", "x"], "--identity"),
        (["good.npy", "--identity", str(tmp_path / "code.npy")], "identity"),
        (["good.npy", "--model", str(tmp_path / "nowhere")], "nowhere"),
        (["good.npy", "--direction", "forward"], "--direction"),
        (["good.npy", "--report", "x.txt"], ".json"),
    ):
        found = [str(tmp_path / word) if "." in word and i == 0 else word for i, word in enumerate(words)]
        assert main(["fit", "--points", *found, "-o", str(out)]) == 2, words
        said = capsys.readouterr().err
        assert said.startswith("error: ") and text in said and said.count("\n") == 1, (words, said)
    assert not out.exists()
