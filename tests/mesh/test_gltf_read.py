"""Reading glTF from anybody: sizes that are not there, files that are not its own, memory for nothing."""

from __future__ import annotations

import base64
import json
import os
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facetalk.errors import InputError
from facetalk.mesh import gltf_read
from facetalk.mesh.gltf_read import GlbFile

POINTS = np.arange(15, dtype=np.float32).reshape(5, 3)


def document(**change: Any) -> dict[str, Any]:
    """Five points in a buffer of 60 bytes."""
    return {
        "asset": {"version": "2.0"},
        "buffers": [{"byteLength": 60}],
        "bufferViews": [{"buffer": 0, "byteLength": 60}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": 5, "type": "VEC3"}],
        **change,
    }


def glb(path: Path, content: Any, binary: bytes = POINTS.tobytes()) -> Path:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<IIIII", 0x46546C67, 2, 28 + len(text) + len(binary), len(text), 0x4E4F534A)
    path.write_bytes(head + text + struct.pack("<II", len(binary), 0x004E4942) + binary)
    return path


def refused(path: Path, **how: Any) -> str:
    with pytest.raises(InputError) as caught:
        GlbFile(path, **how).array(0)
    text = str(caught.value)
    assert "\n" not in text and str(path) in text and len(text) < 1000
    return text


def test_reads_what_is_there(tmp_path: Path) -> None:
    file = GlbFile(glb(tmp_path / "a.glb", document()))
    np.testing.assert_array_equal(file.array(0), POINTS)
    assert file.shape(0) == (5, 3)
    every_other = {"buffer": 0, "byteLength": 60, "byteStride": 24}
    two = {"bufferView": 0, "componentType": 5126, "count": 2, "type": "VEC3", "byteOffset": 12}
    glb(tmp_path / "b.glb", document(bufferViews=[every_other], accessors=[two]))
    np.testing.assert_array_equal(GlbFile(tmp_path / "b.glb").array(0), POINTS[[1, 3]])


HUGE = [-(2**62), -1, 2**31, 2**62, 2**64, 1e400, -0.5, 1e300, None, "5", True, [], {}]


@pytest.mark.parametrize("value", HUGE, ids=repr)
@pytest.mark.parametrize(
    "where", ["view.byteStride", "view.byteOffset", "view.byteLength", "view.buffer", "count", "byteOffset",
              "componentType", "type", "bufferView", "buffer.byteLength"],
)  # fmt: skip
def test_no_number_leads_outside(tmp_path: Path, where: str, value: object) -> None:
    content = document()
    entry = content["accessors"][0]
    *place, name = where.split(".")
    if place == ["view"]:
        entry = content["bufferViews"][0]
    elif place == ["buffer"]:
        entry = content["buffers"][0]
    entry[name] = value
    refused(glb(tmp_path / "a.glb", json.dumps(content).replace("Infinity", "1e400").encode()))


@pytest.mark.parametrize("stride", [4, 8, 11, 253, 0])
def test_elements_do_not_overlap_or_leave_the_view(tmp_path: Path, stride: int) -> None:
    view = {"buffer": 0, "byteLength": 60, "byteStride": stride}
    assert "byteStride" in refused(glb(tmp_path / "a.glb", document(bufferViews=[view])))


def test_a_view_ends_where_it_says(tmp_path: Path) -> None:
    view = {"buffer": 0, "byteOffset": 4, "byteLength": 56}
    assert "more data" in refused(glb(tmp_path / "a.glb", document(bufferViews=[view])))


@pytest.mark.parametrize("change", [{"count": 6}, {"count": 0}], ids=str)
@pytest.mark.parametrize("rows", [[0, 5], [0, 255], [4294967295]], ids=str)
def test_sparse_elements_exist(tmp_path: Path, rows: list[int], change: dict[str, int]) -> None:
    index = np.array(rows, np.uint32)
    binary = POINTS.tobytes() + index.tobytes()
    views = [{"buffer": 0, "byteLength": 60}, {"buffer": 0, "byteOffset": 60, "byteLength": index.nbytes}]
    sparse = {
        "count": len(rows),
        "indices": {"bufferView": 1, "componentType": 5125},
        "values": {"bufferView": 0},
    }
    accessor = {"componentType": 5126, "count": 5, "type": "VEC3", "sparse": sparse}
    content = document(accessors=[accessor], bufferViews=views, buffers=[{"byteLength": len(binary)}])
    assert "element" in refused(glb(tmp_path / "a.glb", content, binary))
    sparse |= change
    refused(glb(tmp_path / "a.glb", content, binary))


def test_data_is_of_numbers(tmp_path: Path) -> None:
    bad = POINTS.copy()
    bad[2, 1] = np.nan
    assert "finite" in refused(glb(tmp_path / "a.glb", document(), bad.tobytes()))
    accessor = {"bufferView": 0, "componentType": 5125, "count": 5, "type": "VEC3", "normalized": True}
    assert "normalized" in refused(glb(tmp_path / "a.glb", document(accessors=[accessor])))


def test_memory_follows_the_data_and_not_the_claims(tmp_path: Path) -> None:
    empty = {"componentType": 5126, "count": 150_000_000, "type": "VEC3"}
    overlapping = {"bufferView": 0, "componentType": 5126, "count": 10**9, "type": "VEC3"}
    stride = {"buffer": 0, "byteLength": 60, "byteStride": 0}
    contents = [
        document(accessors=[empty]),
        document(accessors=[overlapping]),
        document(bufferViews=[stride]),
    ]
    tracemalloc.start()
    for content in contents:
        refused(glb(tmp_path / "a.glb", content))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"[" * 50_000, "nested too deeply"),
        (b'{"asset":' * 50_000, "nested too deeply"),
        (b'{"asset": {"version": "2.0"}, "buffers": [{"byteLength": NaN}]}', "no number"),
        (b'{"asset": {"version": "2.0"}, "buffers": ' + b"9" * 5000 + b"}", "glTF"),
        (b"\xff\xfe", "glTF"),
        (b"null", "object"),
        (b'{"asset": null}', "object"),
        (b'{"asset": {"version": 2}}', "string"),
        (b'{"asset": {"version": "1.0"}}', "not glTF 2.0"),
    ],
    ids=range(9),
)
def test_documents_that_are_none(tmp_path: Path, text: bytes, message: str) -> None:
    assert message in refused(glb(tmp_path / "a.glb", text))


def test_large_documents_are_not_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gltf_read, "MAX_JSON", 100)
    assert "bytes" in refused(glb(tmp_path / "a.glb", document()))


def test_large_files_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gltf_read, "MAX_FILE", 100)
    assert "at most 100 are read" in refused(glb(tmp_path / "a.glb", document()))


def test_files_that_are_none(tmp_path: Path) -> None:
    assert "not a file" in refused(Path("/dev/zero"))
    assert "cannot read" in refused(tmp_path)
    assert "cannot read" in refused(tmp_path / "missing.glb")
    with pytest.raises(InputError, match="null"):
        GlbFile(Path("a\0.glb"))


# --- Buffers elsewhere


def gltf(folder: Path, uri: str) -> Path:
    path = folder / "a.gltf"
    path.write_text(json.dumps(document(buffers=[{"byteLength": 60, "uri": uri}])))
    return path


def test_data_inside_the_document(tmp_path: Path) -> None:
    data = base64.b64encode(POINTS.tobytes()).decode()
    path = gltf(tmp_path, "data:application/octet-stream;base64," + data)
    np.testing.assert_array_equal(GlbFile(path).array(0), POINTS)
    for uri in ("data:text/html;base64," + data, "data:,abc", "data:application/octet-stream;base64,###"):
        assert "base64" in refused(gltf(tmp_path, uri))


def test_files_beside_it_are_read_only_when_allowed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "points x.bin").write_bytes(POINTS.tobytes())
    path = gltf(tmp_path, "in/points%20x.bin")
    assert "--allow-external" in refused(path)
    np.testing.assert_array_equal(GlbFile(path, allow_external=True).array(0), POINTS)
    inside = tmp_path / "in" / "link.bin"
    inside.symlink_to(tmp_path / "in" / "points x.bin")
    np.testing.assert_array_equal(
        GlbFile(gltf(tmp_path, "in/link.bin"), allow_external=True).array(0), POINTS
    )


@pytest.mark.parametrize(
    "uri",
    ["../secret.bin", "%2e%2e/secret.bin", "in/../../secret.bin", "{secret}", "file://{secret}", "link.bin",
     "circle.bin", "folder/secret.bin", "in", "in/", "", ".", "secret.txt", "http://localhost/x.bin",
     "//localhost/x.bin",
     "x.bin?y", "x.bin#y", "..\\secret.bin", "%00.bin", "%ff.bin", "a" * 300 + ".bin", "pipe.bin",
     "missing.bin"],
)  # fmt: skip
def test_nothing_else_is_read(tmp_path: Path, uri: str) -> None:
    secret, home = tmp_path / "secret.bin", tmp_path / "home"
    secret.write_bytes(bytes(1000))
    home.mkdir()
    (home / "in").mkdir()
    (home / "secret.txt").write_bytes(bytes(1000))
    (home / "link.bin").symlink_to(secret)
    (home / "circle.bin").symlink_to(home / "circle.bin")
    (home / "folder").symlink_to(tmp_path)
    os.mkfifo(home / "pipe.bin")
    with pytest.raises(InputError) as caught:
        GlbFile(gltf(home, uri.format(secret=secret)), allow_external=True)
    assert "\n" not in str(caught.value)
