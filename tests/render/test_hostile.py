"""Files that are sound glTF on the outside: every field of a scene is refused or drawn, whatever it says."""

from __future__ import annotations

import copy
import json
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mesh_scenes import sphere

from facetalk.cli import main
from facetalk.errors import InputError
from facetalk.render import nodes, scene, surfaces
from facetalk.render.render import render
from facetalk.render.scene import AnimatedScene

Change = Callable[[dict[str, Any]], object]


def sound() -> tuple[dict[str, Any], bytes]:
    """A small ball with a morph target, an animation of its weight and of its rotation, and a child."""
    points, faces = sphere(3, 4)
    binary, views, accessors = b"", [], []

    def add(array: np.ndarray, kind: str) -> int:
        nonlocal binary
        code = {"float32": 5126, "uint16": 5123, "int8": 5120}[array.dtype.name]
        views.append({"buffer": 0, "byteOffset": len(binary), "byteLength": array.nbytes})
        binary += array.tobytes() + b"\0" * (-array.nbytes % 4)
        accessors.append(
            {"bufferView": len(views) - 1, "componentType": code, "count": len(array), "type": kind}
        )
        return len(accessors) - 1

    position = add(points, "VEC3")
    indices = add(faces.reshape(-1).astype(np.uint16), "SCALAR")
    times = add(np.array([0.0, 0.5, 1.0], np.float32), "SCALAR")
    weights = add(np.array([0.0, 1.0, 0.0], np.float32), "SCALAR")
    turns = add(np.array([[0, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 1]], np.float32), "VEC4")
    primitive = {
        "attributes": {"POSITION": position, "NORMAL": position},
        "indices": indices,
        "material": 0,
        "targets": [{"POSITION": position}],
    }
    document = {
        "asset": {"version": "2.0", "extras": {"fps": 25, "frames": 4}},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"children": [1], "mesh": 0, "weights": [0.5]}, {"translation": [0, 1, 0]}],
        "meshes": [{"primitives": [primitive]}],
        "materials": [{"name": "skin", "pbrMetallicRoughness": {"roughnessFactor": 0.5}}],
        "animations": [
            {
                "samplers": [{"input": times, "output": weights}, {"input": times, "output": turns}],
                "channels": [
                    {"sampler": 0, "target": {"node": 0, "path": "weights"}},
                    {"sampler": 1, "target": {"node": 0, "path": "rotation"}},
                ],
            }
        ],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(binary)}],
    }
    return document, binary


def write(path: Path, document: dict[str, Any], binary: bytes) -> Path:
    text = json.dumps(document).replace("Infinity", "1e400").encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<IIIII", 0x46546C67, 2, 28 + len(text) + len(binary), len(text), 0x4E4F534A)
    path.write_bytes(head + text + struct.pack("<II", len(binary), 0x004E4942) + binary)
    return path


def changed(path: Path, change: Change) -> Path:
    document, binary = sound()
    change(document)
    return write(path, document, binary)


def look(path: Path) -> AnimatedScene:
    found = AnimatedScene(path)
    for at in (0.0, 0.25, 0.7, 100.0):
        geometry = found.geometry(at)
        assert np.isfinite(geometry.positions).all() and np.isfinite(geometry.normals).all()
        assert geometry.materials.max(initial=0) < len(found.materials)
    return found


def test_the_sound_one_is_drawn(tmp_path: Path) -> None:
    path = changed(tmp_path / "a.glb", lambda d: None)
    assert look(path).frames == 4
    render(path, tmp_path / "a.png", size=(32, 32))


def with_image(document: dict[str, Any], view: object = 0, source: int = 0) -> None:
    """Give the material a picture, of which a view is said to be the file."""
    document["images"] = [{"mimeType": "image/png", "bufferView": view}]
    document["textures"] = [{"source": source}]
    document["materials"][0]["pbrMetallicRoughness"]["baseColorTexture"] = {"index": 0}


REST: dict[str, Change] = {
    "materials null": lambda d: d.update(materials=None),
    "a material null": lambda d: d.update(materials=[None]),
    "a material a list": lambda d: d.update(materials=[[]]),
    "a material's part": lambda d: d["materials"][0].update(pbrMetallicRoughness=[1]),
    "a roughness": lambda d: d["materials"][0]["pbrMetallicRoughness"].update(roughnessFactor="x"),
    "a colour": lambda d: d["materials"][0]["pbrMetallicRoughness"].update(baseColorFactor=[1, 1]),
    "a name": lambda d: d["materials"][0].update(name=5),
    "300 materials": lambda d: d.update(materials=d["materials"] * 300),
    "a material that is not there": lambda d: d["meshes"][0]["primitives"][0].update(material=7),
    "nodes": lambda d: d.update(nodes={"a": 1}),
    "a node": lambda d: d["nodes"].append(3),
    "a child": lambda d: d["nodes"][0].update(children=[9]),
    "a loop": lambda d: d["nodes"][1].update(children=[0]),
    "itself": lambda d: d["nodes"][0].update(children=[0]),
    "a mesh": lambda d: d["nodes"][0].update(mesh=-1),
    "a matrix": lambda d: d["nodes"][0].update(matrix=[1] * 15),
    "a matrix of text": lambda d: d["nodes"][0].update(matrix=["x"] * 16),
    "a matrix of infinity": lambda d: d["nodes"][0].update(matrix=[np.inf] * 16),
    "a rotation": lambda d: d["nodes"][1].update(rotation=[0, 0, 1]),
    "no rotation": lambda d: d["nodes"][1].update(rotation=[0, 0, 0, 0]),
    "a scale": lambda d: d["nodes"][1].update(scale=1),
    "weights": lambda d: d["nodes"][0].update(weights=[0.5, 0.5]),
    "huge weights": lambda d: d["nodes"][0].update(weights=[1e300]),
    "weights of text": lambda d: d["nodes"][0].update(weights=["x"]),
    "a scene": lambda d: d.update(scene=1),
    "scenes": lambda d: d.update(scenes=[[]]),
    "no roots": lambda d: d.update(scenes=[{}]),
    "roots": lambda d: d.update(scenes=[{"nodes": [True]}]),
    "primitives": lambda d: d["meshes"][0].update(primitives=None),
    "attributes": lambda d: d["meshes"][0]["primitives"][0].update(attributes=[]),
    "an attribute": lambda d: d["meshes"][0]["primitives"][0]["attributes"].update(NORMAL=1),
    "a target": lambda d: d["meshes"][0]["primitives"][0].update(targets=[3]),
    "a target's accessor": lambda d: d["meshes"][0]["primitives"][0].update(targets=[{"POSITION": 1}]),
    "targets that differ": lambda d: d["meshes"][0]["primitives"].append({"attributes": {"POSITION": 0}}),
    "a colour attribute": lambda d: d["meshes"][0]["primitives"][0]["attributes"].update(COLOR_0=1),
    "indices": lambda d: d["meshes"][0]["primitives"][0].update(indices=0),
    "signed indices": lambda d: d["accessors"][1].update(componentType=5122),
    "a mode": lambda d: d["meshes"][0]["primitives"][0].update(mode="x"),
    "only points": lambda d: d["meshes"][0]["primitives"][0].update(mode=0),
    "extensions": lambda d: d.update(extensionsRequired=["KHR_draco_mesh_compression"]),
    "a texture": lambda d: d["materials"][0]["pbrMetallicRoughness"].update(baseColorTexture=5),
    "a texture that is not there": lambda d: (
        d["materials"][0]["pbrMetallicRoughness"].update(baseColorTexture={"index": 0})
    ),
    "textures": lambda d: d.update(textures=[1]),
    "images": lambda d: d.update(images={}),
    "an image that is not there": lambda d: with_image(d, source=1),
    "an image's view": lambda d: with_image(d, view=99),
    "a view of text": lambda d: with_image(d, view="x"),
    "texture coordinates": lambda d: d["meshes"][0]["primitives"][0]["attributes"].update(TEXCOORD_0=0),
    "a normal's scale": lambda d: d["materials"][0].update(normalTexture={"scale": "x"}),
    "no list of extensions": lambda d: d.update(extensionsRequired="x"),
    "skins": lambda d: d["nodes"][0].update(skin=0),
    "animations": lambda d: d.update(animations=[5]),
    "a sampler": lambda d: d["animations"][0]["channels"][0].update(sampler=5),
    "a channel": lambda d: d["animations"][0].update(channels=[None]),
    "a path": lambda d: d["animations"][0]["channels"][0]["target"].update(path="x"),
    "a target node": lambda d: d["animations"][0]["channels"][0]["target"].update(node=1.5),
    "weights of no mesh": lambda d: d["animations"][0]["channels"][0]["target"].update(node=1),
    "an interpolation": lambda d: d["animations"][0]["samplers"][0].update(interpolation="x"),
    "tangents that are not there": lambda d: (
        d["animations"][0]["samplers"][0].update(interpolation="CUBICSPLINE")
    ),
    "values of another width": lambda d: d["animations"][0]["samplers"][0].update(output=4),
    "keys of another width": lambda d: d["animations"][0]["samplers"][0].update(input=4),
    "frames": lambda d: d["asset"]["extras"].update(frames=np.inf),
    "many frames": lambda d: d["asset"]["extras"].update(frames=10**12),
    "no frames": lambda d: d["asset"]["extras"].update(frames=0),
    "half a frame": lambda d: d["asset"]["extras"].update(frames=1.5),
}  # fmt: skip


@pytest.mark.parametrize("name", REST)
def test_fields_are_checked_when_read(tmp_path: Path, name: str) -> None:
    path = changed(tmp_path / "a.glb", REST[name])
    with pytest.raises(InputError) as caught:
        AnimatedScene(path)
    text = str(caught.value)
    assert "\n" not in text and str(path) in text and len(text) < 500


def with_data(path: Path, accessor: int, array: np.ndarray, **notes: Any) -> Path:
    """The sound file with other data of an accessor."""
    document, binary = sound()
    document["asset"]["extras"] = notes
    view = document["bufferViews"][document["accessors"][accessor]["bufferView"]]
    start, raw = view["byteOffset"], array.tobytes()
    assert len(raw) == view["byteLength"]
    return write(path, document, binary[:start] + raw + binary[start + len(raw) :])


def test_keys_are_in_order_and_rotations_turn(tmp_path: Path) -> None:
    for number, array, message in (
        (2, np.float32([0, 1, 0.5]), "back in time"),
        (4, np.float32([[0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 1]]), "all zeros"),
        (3, np.float32([0, 3e38, 0]), "beyond"),
        (1, np.full(72, 30, np.uint16), "vertex 30"),
        (2, np.float32([0, 1e30, 2e30]), "ends at"),
    ):
        if number == 1:
            count = sound()[0]["accessors"][1]["count"]
            array = np.full(count, 30, np.uint16)
        with pytest.raises(InputError, match=message):
            AnimatedScene(with_data(tmp_path / "a.glb", number, array))


def test_far_positions_are_said_where_they_appear(tmp_path: Path) -> None:
    points = sphere(3, 4)[0].copy()
    points[3] = 3e38
    path = with_data(tmp_path / "a.glb", 0, points, fps=25, frames=57)
    found = AnimatedScene(path)
    with pytest.raises(InputError, match="km away"):
        found.geometry(0.1)
    for out in ("a.mp4", "a.png"):
        with pytest.raises(InputError, match="km away"):
            render(path, tmp_path / out, size=(32, 32))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.glb"]


def test_transforms_that_multiply_beyond_every_number(tmp_path: Path) -> None:
    def deep(d: dict[str, Any]) -> None:
        d["nodes"] = [{"scale": [1e9] * 3, "children": [i + 1]} for i in range(60)] + [{"mesh": 0}]

    with pytest.raises(InputError, match="km away"):
        AnimatedScene(changed(tmp_path / "a.glb", lambda d: (deep(d), d.pop("animations")))).geometry(0.0)


def test_a_few_bytes_do_not_stand_for_gigabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same data named over and over; limits are lowered so that the test need not reach the real ones."""

    def named(count: int) -> Change:
        def change(d: dict[str, Any]) -> None:
            primitive = d["meshes"][0]["primitives"][0]
            d["meshes"][0]["primitives"] = [
                {**copy.deepcopy(primitive), "targets": [{"POSITION": 0, "x": i}]} for i in range(count)
            ]

        return change

    def shapes(d: dict[str, Any]) -> None:
        d["meshes"][0]["primitives"][0]["targets"] = [{"POSITION": 0}] * 300
        d["nodes"][0].pop("weights"), d.pop("animations")

    def bodies(d: dict[str, Any]) -> None:
        d["nodes"] = [{"mesh": 0}] * 40
        d["scenes"][0]["nodes"] = list(range(40))
        d.pop("animations")

    for change, limit, what in (
        (named(200), "FREE_VERTICES", "more vertices than"),
        (named(200), "FREE_INDICES", "more vertex numbers than"),
        (shapes, "FREE_SHAPE_VALUES", "more numbers of morph targets than"),
        (shapes, "FREE_SHAPE_READS", "more elements of morph targets than"),
    ):
        monkeypatch.setattr(surfaces, limit, 1000)
        with pytest.raises(InputError, match=what):
            AnimatedScene(changed(tmp_path / "a.glb", change))
        monkeypatch.undo()
    monkeypatch.setattr(surfaces, "MAX_TARGETS", 299)
    with pytest.raises(InputError, match="300 morph targets"):
        AnimatedScene(changed(tmp_path / "a.glb", shapes))
    monkeypatch.setattr(scene, "MAX_VISIBLE", 500)
    with pytest.raises(InputError, match="at most 500"):
        AnimatedScene(changed(tmp_path / "a.glb", bodies)).geometry(0.0)
    monkeypatch.setattr(nodes, "MAX_NODES", 39)
    with pytest.raises(InputError, match="40 nodes"):
        AnimatedScene(changed(tmp_path / "a.glb", bodies))
    monkeypatch.undo()
    monkeypatch.setattr(nodes, "MAX_KEYS", 1)
    with pytest.raises(InputError, match=r"has \d+ keys"):
        look(changed(tmp_path / "a.glb", lambda d: None))


def test_many_nodes_take_a_moment(tmp_path: Path) -> None:
    """A queue that is taken apart from its front would need minutes for this."""

    def many(d: dict[str, Any]) -> None:
        d["nodes"] = [{"mesh": 0}] + [{}] * 90_000
        d["scenes"][0]["nodes"] = list(range(90_001))
        d.pop("animations")

    begin = time.process_time()
    AnimatedScene(changed(tmp_path / "a.glb", many))
    assert time.process_time() - begin < 60


@pytest.mark.parametrize("name", ["a" * 300, "a\0b", "../b.wav", "/etc/passwd", ""])
def test_the_recording_beside_it_is_beside_it(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "b.wav").write_bytes(b"x")
    path = changed(tmp_path / "in" / "a.glb", lambda d: d["asset"]["extras"].update(audio=name))
    assert AnimatedScene(path).audio is None


def test_external_buffers_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document, binary = sound()
    document["buffers"][0]["uri"] = "x.bin"
    (tmp_path / "x.bin").write_bytes(binary)
    (tmp_path / "a.gltf").write_text(json.dumps(document))
    command = ["render", str(tmp_path / "a.gltf"), "-o", str(tmp_path / "a.png"), "--size", "32"]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and "--allow-external" in said and said.count("\n") == 1
    assert main([*command, "--allow-external"]) == 0 and (tmp_path / "a.png").is_file()
