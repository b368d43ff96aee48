"""Packing a download: a made-up one of a few hundred vertices, and what is said of a wrong one."""

from __future__ import annotations

import numpy as np
import pytest
from morphable import fields

from facetalk.cli import main
from facetalk.data.expressions import EXPRESSION_NAMES
from facetalk.data.heads.ict import BUILT_IN, MorphableHead
from facetalk.data.heads.ict_pack import largest_error_mm, pack, write
from facetalk.errors import InputError


def write_obj(path, vertices, faces=()):
    """As the official files are: a material, 15 digits, corners with texture and normal numbers."""
    lines = ["mtllib ICTFaceModelMaterial.mtl"]
    lines += ["v " + " ".join(f"{value:.15f}" for value in row) for row in vertices]
    lines += ["vt 0.5 0.5", "vn 0 0 1", "usemtl M_Face"]
    lines += ["f " + " ".join(f"{corner + 1}/1/1" for corner in face) for face in faces]
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def download(tmp_path):
    """A clone with the shapes of the synthetic head, and its packed form."""
    truth = fields()
    folder = tmp_path / "ICT-FaceKit" / "FaceXModel"
    folder.mkdir(parents=True)
    neutral = truth["neutral"].astype(np.float64)
    write_obj(folder / "generic_neutral_mesh.obj", neutral, truth["faces"])
    for index, delta in enumerate(truth["identity_deltas"]):
        write_obj(folder / f"identity{index:03d}.obj", neutral + delta)
    for name, delta in zip(truth["expression_names"], truth["expression_deltas"], strict=True):
        write_obj(folder / f"{name}.obj", neutral + delta)
    return tmp_path / "ICT-FaceKit", truth


def test_a_download_gives_its_shapes_back(download, tmp_path):
    clone, truth = download
    blank = {**truth, "identity_deltas": np.zeros_like(truth["identity_deltas"])}
    packed = pack(clone, layout=blank)
    assert max(largest_error_mm(packed, truth)) < 0.02  # float16 twice
    np.testing.assert_allclose(packed["neutral"], truth["neutral"], atol=1e-6)
    coarse = pack(clone, layout=blank, rounding_mm=0.1)
    assert 0.02 < max(largest_error_mm(coarse, truth)) < 0.1
    head = MorphableHead.load(write(packed, tmp_path / "head.npz"))
    assert head.identity_dim == 5 and head.expression_dim == 6


def test_another_mesh_is_refused(download):
    clone, truth = download
    shuffled = {**truth, "faces": truth["faces"][:, [0, 1, 1]]}
    with pytest.raises(InputError, match="numbered otherwise"):
        pack(clone, layout=shuffled)
    with pytest.raises(InputError, match="reads meshes of 26719"):
        pack(clone)
    write_obj(clone / "FaceXModel" / "jawOpen.obj", truth["neutral"][:-1])
    with pytest.raises(InputError, match="different releases"):
        pack(clone, layout=truth)
    (clone / "FaceXModel" / "jawOpen.obj").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(InputError, match="git lfs pull"):
        pack(clone, layout=truth)
    (clone / "FaceXModel" / "jawOpen.obj").unlink()
    with pytest.raises(InputError, match="lacks jawOpen"):
        pack(clone, layout=truth)


def test_the_verb_packs_and_explains(download, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["data", "head", "--ict", str(tmp_path / "empty"), "-o", str(tmp_path / "no.npz")]) == 2
    assert main(["data", "head", "-o", str(tmp_path / "no.npz")]) == 2
    assert main(["data", "head", "--ict", str(tmp_path), "--seed", "3", "-o", str(tmp_path / "no.npz")]) == 2
    told = capsys.readouterr().err.splitlines()
    assert "clone of" in told[0] and "--ict is missing" in told[1] and "--seed" in told[2]
    np.savez(tmp_path / "full.npz", **fields())
    command = ["data", "head", "--ict", str(tmp_path / "full.npz"), "--rounding", "0.05"]
    assert main([*command, "-o", str(tmp_path / "small.npz")]) == 0
    assert "5 identity shapes" in capsys.readouterr().out
    assert (tmp_path / "small.npz").stat().st_size < (tmp_path / "full.npz").stat().st_size


def test_the_copy_in_the_package_is_the_head_of_the_built_in_model():
    assert BUILT_IN.stat().st_size < 8e6
    head = MorphableHead.load(BUILT_IN)
    assert tuple(head.expression_names) == EXPRESSION_NAMES
    assert head.identity_dim == 100 and len(head.neutral) == 26719
    assert (BUILT_IN.parent / "LICENSE-ICT-FaceKit").is_file()
