"""Pictures of materials in files: what is written, what is drawn of it, what is left alone."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from mesh_scenes import ball_maps, painted_ball, sphere, watching_ball
from PIL import Image

from facetalk.cli import main
from facetalk.errors import InputError
from facetalk.mesh import Mesh, RiggedSequence, png
from facetalk.mesh.export import check_output, export
from facetalk.mesh.eyes import without_eyes
from facetalk.mesh.gltf import split_by_material
from facetalk.mesh.gltf_read import GlbFile
from facetalk.mesh.materials import SKIN
from facetalk.render import pictures
from facetalk.render.render import Renderer, render
from facetalk.render.scene import AnimatedScene

pytestmark = pytest.mark.filterwarnings("error")


def image(file: GlbFile, texture: int) -> np.ndarray:
    entry = file.list("images")[file.list("textures")[texture]["source"]]
    assert entry["mimeType"] == "image/png"
    return np.asarray(Image.open(io.BytesIO(file.view(entry["bufferView"]))))


@pytest.mark.parametrize("suffix", [".glb", ".vrm"])
def test_materials_have_their_pictures(tmp_path: Path, suffix: str) -> None:
    rig = painted_ball(3)
    file = GlbFile(export(tmp_path / f"talk{suffix}", rig, fps=25, texture_size=256))
    wanted = ball_maps(256)
    assert [m["name"] for m in file.list("materials")] == ["skin", "eyes", "teeth"]
    for material in file.list("materials"):
        maps, shine = wanted[material["name"]], material["pbrMetallicRoughness"]
        np.testing.assert_array_equal(image(file, shine["baseColorTexture"]["index"]), maps.color)
        assert ("normalTexture" in material) == (maps.normal is not None)
        assert ("metallicRoughnessTexture" in shine) == (maps.roughness is not None)
        if maps.normal is not None:
            np.testing.assert_array_equal(image(file, material["normalTexture"]["index"]), maps.normal)
        if maps.roughness is not None:
            packed = image(file, shine["metallicRoughnessTexture"]["index"])
            np.testing.assert_array_equal(packed[..., 1], maps.roughness)
            assert not packed[..., 2].any() and shine["metallicFactor"] == 0.0
    pieces = split_by_material(without_eyes(rig.base, rig.eyes)[0])
    for primitive, piece in zip(file.list("meshes")[0]["primitives"], pieces, strict=True):
        attributes = primitive["attributes"]
        assert "COLOR_0" not in attributes  # readers multiply by it
        uv = file.array(attributes["TEXCOORD_0"])
        np.testing.assert_allclose(uv[:, 0], piece.uv[:, 0], atol=1e-6)
        np.testing.assert_allclose(uv[:, 1], 1.0 - piece.uv[:, 1], atol=1e-6)
    whole, plain = (split_by_material(ball(3).base) for ball in (painted_ball, watching_ball))
    assert sum(len(p.rows) for p in whole) > sum(len(p.rows) for p in plain)  # a seam


def test_without_pictures_on_request(tmp_path: Path) -> None:
    file = export(tmp_path / "talk.glb", painted_ball(3), fps=25, texture_size=0)
    plain = export(tmp_path / "plain.glb", watching_ball(3), fps=25)
    assert file.read_bytes() == plain.read_bytes()
    assert "images" not in GlbFile(file).document


def test_faces_keep_their_places_at_a_seam() -> None:
    """Every face has the vertices and places that it had, whatever their numbers."""
    base = painted_ball(3).base
    assert base.texture is not None
    found = []
    for piece in split_by_material(base):
        assert piece.uv is not None
        found += [(*piece.rows[face], *piece.uv[face].round(4).reshape(-1)) for face in piece.faces]
    wanted = [
        (*v, *base.texture.uv[c].round(4).reshape(-1))
        for v, c in zip(base.faces, base.texture.corners, strict=True)
    ]
    assert sorted(found) == sorted(wanted)


def test_a_texture_of_other_faces_is_refused() -> None:
    base = painted_ball(3).base
    with pytest.raises(ValueError, match="texture"):
        Mesh(base.vertices, base.faces[:, ::-1], texture=base.texture)


@pytest.mark.parametrize("size", [100, -1, 8192, True, 0.5])
def test_odd_sizes_are_refused(tmp_path: Path, size: int) -> None:
    with pytest.raises(InputError, match="size of textures"):
        export(tmp_path / "talk.glb", painted_ball(2), fps=25, texture_size=size)
    assert not list(tmp_path.iterdir())


def test_a_size_that_nobody_would_use_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="texture_size"):
        export(tmp_path / "talk.ply", painted_ball(2), fps=25, texture_size=256)
    with pytest.raises(InputError, match="texture_size"):
        export(tmp_path / "a.glb", [Mesh(*sphere()), Mesh(*sphere(5, 6))], fps=25, texture_size=256)
    with pytest.raises(InputError, match="have none"):
        export(tmp_path / "a.glb", watching_ball(2), fps=25, texture_size=256)
    assert export(tmp_path / "a.glb", watching_ball(2), fps=25, texture_size=0).is_file()
    motion = tmp_path / "m.safetensors"
    motion.write_bytes(b"x")
    for words in (["-o", "x.ply"], ["-o", "x.csv"], ["-o", "x.glb", "--topology", "marching-cubes"]):
        assert main(["export", str(motion), *words, "--texture-size", "512"]) == 2
        assert "--texture-size" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["export", str(motion), "-o", "x.glb", "--texture-size", "500"])
    assert "0 or one of 256" in capsys.readouterr().err


def test_pictures_are_drawn(tmp_path: Path) -> None:
    """The skin's picture, and with it the skin's way to answer light."""
    path = export(tmp_path / "talk.glb", painted_ball(2), fps=25, texture_size=256)
    scene = AnimatedScene(path)
    assert scene.materials[0] is SKIN and (scene.geometry(0.0).colors == 1.0).all()
    shown = Renderer(scene, (96, 96)).picture(0.02)
    plain = Renderer(
        AnimatedScene(export(tmp_path / "p.glb", painted_ball(2), fps=25, texture_size=0)), (96, 96)
    )
    middle, other = (
        picture[40:56, 40:56].reshape(-1, 3).mean(axis=0) for picture in (shown, plain.picture(0.02))
    )
    assert middle[0] > middle[1] > middle[2] and np.abs(middle - other).max() > 15
    render(path, tmp_path / "a.png", size=(48, 48), frames=2)
    render(path, tmp_path / "a.mp4", size=(48, 48), mute=True)


def with_picture(path: Path, data: bytes) -> Path:
    """A file whose first picture is other bytes of the same length or shorter."""
    file = GlbFile(export(path, painted_ball(2), fps=25, texture_size=256))
    view = file.list("bufferViews")[file.list("images")[0]["bufferView"]]
    raw = path.read_bytes()
    old = file.view(file.list("images")[0]["bufferView"])
    assert len(old) == view["byteLength"] >= len(data)
    path.write_bytes(raw.replace(old, data + b"\0" * (len(old) - len(data)), 1))
    return path


def test_damaged_pictures_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = png.encode(ball_maps(256)["skin"].color)
    for data in (b"", b"GIF89a" + b"x" * 40, whole[:40]):
        path = with_picture(tmp_path / "talk.glb", data)
        with pytest.raises(InputError, match="picture") as caught:
            render(path, tmp_path / "a.png", size=(32, 32))
        assert "\n" not in str(caught.value) and not (tmp_path / "a.png").exists()
    path = export(tmp_path / "talk.glb", painted_ball(2), fps=25, texture_size=256)
    monkeypatch.setattr(pictures, "MAX_SIDE", 200)
    with pytest.raises(InputError, match="256 x 256"):
        render(path, tmp_path / "a.png", size=(32, 32))
    monkeypatch.setattr(pictures, "MAX_SIDE", 256)
    monkeypatch.setattr(pictures, "MAX_TEXELS", 256 * 256 + 100)
    with pytest.raises(InputError, match="more than"):
        render(path, tmp_path / "a.png", size=(32, 32))


def test_usd_pictures_of_somebody_stay(tmp_path: Path) -> None:
    pxr = pytest.importorskip("pxr", reason="pip install 'facetalk[usd]'")
    assert pxr
    rig, talk, skin = painted_ball(2), tmp_path / "talk.usda", tmp_path / "talk.skin_color.png"
    skin.write_bytes(b"mine")
    for call in (lambda: export(talk, rig, fps=25, texture_size=256), lambda: check_output(talk)):
        with pytest.raises(InputError, match=r"talk\.skin_color\.png.*--force"):
            call()
    assert [p.name for p in tmp_path.iterdir()] == [skin.name] and skin.read_bytes() == b"mine"
    export(talk, rig, fps=25, texture_size=256, force=True)
    assert png.is_ours(skin)
    export(talk, rig, fps=25, texture_size=512)  # our own
    with Image.open(skin) as picture:
        assert picture.size == (512, 512)
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {"talk.usda"} | {
        f"talk.{kind}.png"
        for kind in (
            "skin_color", "skin_normal", "skin_roughness", "eyes_color", "teeth_color", "teeth_roughness",
        )
    }  # fmt: skip
    export(tmp_path / "plain.usda", RiggedSequence(rig.base, rig.basis, rig.weights), fps=25, texture_size=0)
    assert not list(tmp_path.glob("plain.*.png"))


def test_usd_surfaces_name_their_pictures(tmp_path: Path) -> None:
    pytest.importorskip("pxr", reason="pip install 'facetalk[usd]'")
    from pxr import Usd, UsdGeom, UsdShade, UsdValidation

    rig = painted_ball(2)
    path = export(tmp_path / "talk.usda", rig, fps=25, texture_size=256)
    stage = Usd.Stage.Open(str(path))
    validators = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
    found = UsdValidation.ValidationContext(validators).Validate(stage)
    assert not [error.GetMessage() for error in found]
    for piece in split_by_material(rig.base):
        mesh = UsdGeom.Mesh(stage.GetPrimAtPath(f"/talk/head/{piece.material.name}"))
        st = np.array(UsdGeom.PrimvarsAPI(mesh).GetPrimvar("st").Get())
        np.testing.assert_allclose(st, piece.uv, atol=1e-6)
        surface = UsdShade.Shader(stage.GetPrimAtPath(f"/talk/materials/{piece.material.name}/surface"))
        source = surface.GetInput("diffuseColor").GetConnectedSources()[0][0].source
        asset = UsdShade.Shader(source.GetPrim()).GetInput("file").Get()
        assert Path(asset.resolvedPath) == tmp_path / f"talk.{piece.material.name}_color.png"
