"""The page of ``facetalk live --preview``: what is served, what head it is, and that it asks nobody else."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from live_face import CountingStream, frame, free_port, hanging_up
from scipy.spatial.transform import Rotation

from facetalk.cli import main
from facetalk.data.arkit import ARKIT_NAMES, ArkitFace
from facetalk.data.expressions import EXPRESSION_NAMES
from facetalk.live import preview
from facetalk.live.address import parse_address
from facetalk.live.preview import PATH, pack, pages
from facetalk.live.websocket import WebSocketSender
from facetalk.mesh import Mesh, RiggedSequence
from facetalk.mesh.eyes import EYE_NAMES, Eye
from facetalk.mesh.pose import NECK, rotations
from facetalk.pipeline import FaceTalk

client = pytest.importorskip("websocket", reason="pip install 'facetalk[test]'")


@pytest.fixture
def rig() -> RiggedSequence:
    rng = np.random.default_rng(0)
    base = Mesh(
        rng.normal(0, 0.1, (30, 3)), rng.integers(0, 30, (20, 3)), colors=rng.integers(0, 256, (30, 3))
    )
    basis = rng.normal(0, 0.01, (len(EXPRESSION_NAMES), 30, 3)).astype(np.float32)
    basis[:, 20:] = 0.0
    eyes = [
        Eye(name, rng.normal(0, 0.1, 3), rows, rng.normal(0, 0.1, (len(basis), 3)))
        for name, rows in zip(EYE_NAMES, (np.arange(20, 25), np.arange(25, 30)), strict=True)
    ]
    weights = rng.uniform(0, 1, (4, len(EXPRESSION_NAMES))).astype(np.float32)
    return RiggedSequence(base, basis, weights, eyes=eyes)


@pytest.fixture
def sender(rig: RiggedSequence) -> Iterator[WebSocketSender]:
    made = WebSocketSender(parse_address(f"ws://127.0.0.1:{free_port()}"), 25.0)
    yield made
    made.close()


def get(sender: WebSocketSender, path: str) -> tuple[bytes, dict[str, str]]:
    with urllib.request.urlopen(sender.where.replace("ws:", "http:") + path, timeout=10) as answer:
        return answer.read(), dict(answer.headers)


def test_the_head_is_moved_as_the_rig_is(rig: RiggedSequence) -> None:
    face = ArkitFace(EXPRESSION_NAMES)
    data = pack(rig, face)
    count, triangles, shapes, eyes = struct.unpack_from("<4I", data)
    sizes = [
        ("<f4", 3 * count),
        ("<u4", 3 * triangles),
        ("<f4", shapes),
        ("<f4", 3 * eyes),
        ("<f4", 3 * eyes * shapes),
        ("<i2", 3 * count * shapes),
        ("u1", 3 * count),
        ("u1", count),
    ]
    at, arrays = 16, []
    for kind, size in sizes:
        arrays.append(np.frombuffer(data, kind, size, at))
        at += arrays[-1].nbytes
    assert at == len(data) and (count, triangles, shapes, eyes) == (30, 20, 52, 2)
    neutral, faces, unit, centres, rates, basis, colours, eye_of = arrays
    np.testing.assert_array_equal(faces.reshape(-1, 3), rig.base.faces)
    np.testing.assert_array_equal(colours.reshape(-1, 3), rig.base.colors)
    # Halves that ARKit has one weight for move alike.
    weights = rig.weights.copy()
    for left in ("browInnerUp_L", "cheekPuff_L"):
        one, other = (EXPRESSION_NAMES.index(left.replace("_L", side)) for side in ("_L", "_R"))
        weights[:, one] = weights[:, other]
    moved = RiggedSequence(rig.base, rig.basis, weights, eyes=rig.eyes).positions(slice(0, 4))
    sent, _ = face(weights)
    found = (neutral + (sent * unit) @ basis.reshape(52, -1).astype(np.float64)).reshape(moved.shape)
    for number, centre in enumerate(centres.reshape(-1, 3)):
        turn = Rotation.from_rotvec(sent @ rates.reshape(-1, 52, 3)[number].astype(np.float64)).as_matrix()
        rows = eye_of == number + 1
        assert rows.sum() == 5
        found[:, rows] = (found[:, rows] - centre) @ np.swapaxes(turn, 1, 2) + centre
    np.testing.assert_allclose(found, moved, atol=52 * unit.max())
    assert not basis.reshape(52, -1)[ARKIT_NAMES.index("tongueOut")].any()


def test_the_page_is_served_beside_the_frames(sender: WebSocketSender, rig: RiggedSequence) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(sender, PATH)
    sender.pages.update(pages(rig, ArkitFace(EXPRESSION_NAMES)))
    text, headers = get(sender, PATH)
    assert (
        headers["Content-Type"].startswith("text/html")
        and "default-src 'none'" in headers["Content-Security-Policy"]
    )
    head, headers = get(sender, "/rig.bin?again")
    assert head == sender.pages["/rig.bin"].data and headers["Content-Type"] == "application/octet-stream"
    # Nothing is asked of anybody else.
    assert re.findall(rb"[a-z]+://[^/`]*", text) == [b"ws://${location.host}"]
    assert re.findall(rb"(?:src|href|import)\s*[=(]", text) == []
    page = {"origin": sender.where.replace("ws:", "http:")}
    with hanging_up(client.create_connection(sender.where + "/binary", timeout=5.0, **page)) as there:
        assert json.loads(there.recv())["names"] == list(ARKIT_NAMES)
        sender.send(frame(0))
        assert len(there.recv()) == 16 + 4 * 61


def by_node(text: str, call: str) -> list[float]:
    """What a function of the page that needs no browser gives."""
    functions = text[text.index("// Columns of Y(yaw)") : text.index("function draw")]
    script = f"{functions}console.log(JSON.stringify({call}))"
    done = subprocess.run(["node", "-e", script], capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not here")
def test_the_page_turns_head_and_eyes_as_the_rig_does() -> None:
    text = (Path(preview.__file__).parent / "preview.html").read_text()
    neck = re.search(r"const neck = (\[.*?\]);", text)
    assert neck is not None and tuple(json.loads(neck[1])) == NECK
    columns = np.array(by_node(text, "rotation([0.3, -0.2, 0.1])")).reshape(3, 3).T
    np.testing.assert_allclose(columns, rotations([[-0.2, 0.3, 0.1, 0, 0, 0]])[0], atol=1e-12)
    for vector in ([0.3, -0.2, 0.1], [0.0, 0.0, 0.0], [-2.0, 1.0, 0.5]):
        columns = np.array(by_node(text, f"turning({vector})")).reshape(3, 3).T
        np.testing.assert_allclose(columns, Rotation.from_rotvec(vector).as_matrix(), atol=1e-12)


def test_the_verb_opens_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    sound = tmp_path / "talk.wav"
    soundfile.write(sound, np.random.default_rng(0).normal(0, 0.1, 8_000), 16_000)
    monkeypatch.setattr(FaceTalk, "stream", lambda self, **options: CountingStream(**options))
    seen: list[tuple[str, bytes]] = []

    def browse(url: str) -> bool:
        with urllib.request.urlopen(url, timeout=10) as answer:
            seen.append((url, answer.read()))
        with urllib.request.urlopen(url.replace(PATH, "/rig.bin"), timeout=10) as answer:
            seen.append((url, answer.read()))
        return len(seen) < 3

    monkeypatch.setattr("webbrowser.open", browse)
    port = free_port()
    assert main(["live", "--from", str(sound), "--to", f"ws://0.0.0.0:{port}", "--preview"]) == 0
    url = f"http://127.0.0.1:{port}/preview"
    assert [url, url] == [where for where, _ in seen] and b"webgl2" in seen[0][1]
    vertices, faces, shapes, eyes = struct.unpack_from("<4I", seen[1][1])
    assert shapes == 52 and vertices > 10**4 and eyes == 2
    size = vertices * (12 + 6 * shapes + 4) + 12 * faces + 4 * shapes + eyes * (12 + 12 * shapes)
    assert len(seen[1][1]) == 16 + size
    said = capfd.readouterr().err
    assert f"{url} shows the head" in said and "no browser" not in said
    assert main(["live", "--from", str(sound), "--to", f"ws://127.0.0.1:{port}", "--preview"]) == 0
    assert "no browser was found; open the address in one" in capfd.readouterr().err


def test_somebody_has_to_see_the_frames(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["live", "--from", "talk.wav"]) == 2
    assert "or --preview" in capfd.readouterr().err
    assert main(["live", "--from", "talk.wav", "--preview", "--fast"]) == 2
    assert "--fast is for" in capfd.readouterr().err
