"""The server against clients that mean well, that err, and that mean harm."""

from __future__ import annotations

import dataclasses
import http.client
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import websocket
from chromium import wait_for
from live_face import CountingStream

from facetalk.errors import InputError
from facetalk.mesh.pose import quaternions
from facetalk.motion import Motion
from facetalk.style import Style
from facetalk.view import server as module
from facetalk.view.server import ViewServer


def place(server: ViewServer) -> str:
    return server.url.removeprefix("http://").rstrip("/")


def get(server: ViewServer, path: str, **headers: str) -> http.client.HTTPResponse:
    line = http.client.HTTPConnection(place(server), timeout=10)
    line.putrequest("GET", path, skip_host="Host" in headers)
    for name, value in headers.items():
        line.putheader(name, value)
    line.endheaders()
    return line.getresponse()


_dialled: list[websocket.WebSocket] = []


@pytest.fixture(autouse=True)
def _hang_up(server: ViewServer) -> Iterator[None]:
    """Lines that a test left open, so that the server need not wait for them."""
    yield
    while _dialled:
        _dialled.pop().shutdown()


def dial(server: ViewServer, path: str, **options: Any) -> websocket.WebSocket:
    options.setdefault("origin", server.url.rstrip("/"))
    _dialled.append(websocket.create_connection(f"ws://{place(server)}{path}", timeout=10, **options))
    return _dialled[-1]


def hello(line: websocket.WebSocket, **message: Any) -> None:
    line.send(json.dumps(message))


def last(line: websocket.WebSocket) -> dict[str, Any]:
    """The next text message, or nothing where the server hung up."""
    text = line.recv()
    return json.loads(text) if text else {}


def test_files_are_answered_whole_with_a_policy(server: ViewServer) -> None:
    answer = get(server, "/a.js?version=1")
    assert answer.status == 200 and answer.read() == b"1" * 3_000_000
    page = get(server, "/")
    policy = page.headers["Content-Security-Policy"]
    # The digest of "{}", as browsers reckon it.
    assert "'sha256-RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o='" in policy and "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy and f"ws://{place(server)}" in policy
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert page.headers["Cross-Origin-Resource-Policy"] == "same-origin"


@pytest.mark.parametrize(
    "path",
    ["/gone.js", "/../../etc/passwd", "/..%2f..%2fetc/passwd", "//etc/passwd", "/a.js/", "/talk/..", "*"],
)
def test_nothing_else_is_there(server: ViewServer, path: str) -> None:
    answer = get(server, path)
    assert answer.status == 404 and b"root:" not in answer.read()


@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example"}, {"Host": ""}, {"Origin": "http://evil.example"}, {"Origin": "null"}],
)
def test_strangers_get_nothing(server: ViewServer, headers: dict[str, str]) -> None:
    assert get(server, "/", **headers).status == 403


@pytest.mark.parametrize("path", ["/talk", "/listen"])
@pytest.mark.parametrize("options", [{"origin": "http://evil.example"}, {"host": "evil.example"}])
def test_strangers_pages_open_no_socket(server: ViewServer, path: str, options: dict[str, str]) -> None:
    with pytest.raises(websocket.WebSocketBadStatusException, match="403"):
        dial(server, path, **options)
    # The same line with the page's own headers is let in.
    dial(server, path).close()


@pytest.mark.parametrize(
    "request_",
    [b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n",
     b"GET / HTTP/1.1\r\nHost: a\r\nHost: 127.0.0.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01",
     b"GET /" + b"a" * 100_000, b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 1000],
)  # fmt: skip
def test_what_is_no_request_of_a_page_is_turned_away(server: ViewServer, request_: bytes) -> None:
    with socket.create_connection(place(server).split(":"), timeout=15) as line:
        line.sendall(request_ + b"\r\n\r\n")
        answer = b""
        try:
            while piece := line.recv(65536):
                answer += piece
        except ConnectionResetError:
            pass
    assert b" 200 " not in answer[:20] and b"importmap" not in answer
    assert get(server, "/").status == 200, "it lives"


def test_a_recording_comes_back_as_sound_and_head(server: ViewServer, speaker: Any) -> None:
    line = dial(server, "/talk")
    content = bytes(range(256)) * 9000
    hello(line, name="C:\\me\\../../x y.wav", size=len(content), steps=2, guidance=1.25, seed=7,
          style={"smile": 0.5})  # fmt: skip
    for start in range(0, len(content), 1_000_000):
        line.send_binary(content[start : start + 1_000_000])
    assert last(line) == {"type": "done", "frames": 25, "steps": 4, "guidance": 1.5, "notes": ["quiet"]}
    assert line.recv() == content and line.recv() == b"glTFx y.wav"
    assert vars(speaker.asked[0]) == {
        "steps": 2, "guidance": 1.25, "seed": 7, "style": Style(smile=0.5),
    }  # fmt: skip
    wait_for(lambda: not list((speaker._folder / "in").iterdir()), 5.0, "the recording to be removed")


@pytest.mark.parametrize(
    ("first", "content", "says"),
    [
        ({"size": 0}, b"", "empty"),
        ({"size": -5}, b"", "empty"),
        ({"size": True}, b"", "empty"),
        ({"size": "10"}, b"", "empty"),
        ({}, b"", "empty"),
        ({"size": 2**40}, b"", "at most 256"),
        ({"size": 3}, b"more than three", "its size"),
        ({"size": 30}, "text", "its size"),
        ({"size": 3, "name": "a.wav"}, b"bad", "a.wav: no sound in it"),
        ({"size": 6}, b"broken", "something broke here"),
        ({"size": 3, "steps": "4"}, b"", "steps must be a number"),
        ({"size": 3, "steps": 2.5}, b"", "steps must be a number"),
        ({"size": 3, "guidance": [1]}, b"", "guidance must be a number"),
        ({"size": 3, "seed": -1}, b"", "seed"),
        ({"size": 3, "guidance": -0.5}, b"", "guidance"),
        ({"size": 3, "seed": None}, b"", "seed"),
        ({"size": 3, "style": {"smile": 7}}, b"", "smile must lie in -1..1"),
        ({"size": 3, "style": {"smile": "x"}}, b"", "smile"),
        ({"size": 3, "style": {"mood": 1}}, b"", "style must name sliders"),
        ({"size": 3, "style": [1]}, b"", "style must name sliders"),
    ],
)
def test_a_bad_recording_is_told_in_a_line(
    server: ViewServer, speaker: Any, first: dict[str, Any], content: bytes | str, says: str
) -> None:
    line = dial(server, "/talk")
    hello(line, **first)
    if content:
        line.send(content) if isinstance(content, str) else line.send_binary(content)
    told = last(line)
    assert told["type"] == "error" and says in told["text"]
    assert str(speaker._folder) not in told["text"] and "\n" not in told["text"]


@pytest.mark.parametrize("first", ["no JSON", "[1]", '{"size": NaN}', '{"a":' * 500, "1" * 5000, b"\0\0"])
@pytest.mark.parametrize("path", ["/talk", "/listen"])
def test_a_first_message_that_is_none(server: ViewServer, path: str, first: str | bytes) -> None:
    line = dial(server, path)
    line.send(first) if isinstance(first, str) else line.send_binary(first)
    assert last(line)["type"] == "error"


def test_a_message_beyond_measure_ends_the_line(server: ViewServer) -> None:
    line = dial(server, "/talk")
    hello(line, size=3_000_000)
    try:
        line.send_binary(bytes(2 * module.MOST_MESSAGE))
    except OSError:
        return  # it hung up in the middle
    with pytest.raises((websocket.WebSocketException, OSError)):
        for _ in range(3):
            assert line.recv_data()[0] == websocket.ABNF.OPCODE_CLOSE
            line.ping()


def test_sound_becomes_curves(server: ViewServer, speaker: Any) -> None:
    line = dial(server, "/listen")
    hello(line, rate=48_000, look_ahead=0.1, seed=3)
    assert last(line) == {"type": "ready", "latency": 0.1}
    for _ in range(50):
        line.send_binary(np.zeros(960, "<i2").tobytes())
    line.send("end")
    numbers, jaw = [], []
    while isinstance(message := line.recv(), bytes):
        first, count = struct.unpack("<II", message[:8])
        weights = np.frombuffer(message, "<f4", offset=8).reshape(count, -1)
        numbers += range(first, first + count)
        jaw += weights.max(axis=1).tolist()
    assert json.loads(message) == {"type": "done"}
    assert numbers == list(range(25))
    np.testing.assert_allclose(jaw, np.arange(25) / 1000, atol=1e-7)
    assert speaker.heard[0].heard == 48_000 and speaker.heard[0].finished
    assert vars(speaker.asked[0]) == {
        "steps": None, "guidance": None, "seed": 3, "style": Style(),
    }  # fmt: skip


def test_the_head_goes_with_the_curves(server: ViewServer, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, pose = CountingStream._until, np.array([0.1, 0.2, -0.1, 1.0, 2.0, 3.0], np.float32)

    def with_pose(self: CountingStream, count: int) -> Motion:
        motion = whole(self, count)
        return dataclasses.replace(motion, pose=np.tile(pose, (len(motion), 1)))

    monkeypatch.setattr(CountingStream, "_until", with_pose)
    line = dial(server, "/listen")
    hello(line, rate=16_000)
    assert last(line)["type"] == "ready"
    line.send_binary(np.zeros(8000, "<i2").tobytes())
    told, frames = last(line), line.recv()
    first, count = struct.unpack("<II", frames[:8])
    assert (told["type"], told["first"], len(told["rows"])) == ("pose", first, count) and count > 5
    expected = [*quaternions([pose])[0], 1e-3, 2e-3, 3e-3]
    np.testing.assert_allclose(told["rows"], [expected] * count, atol=1e-6)


@pytest.mark.parametrize(
    ("first", "sound", "says"),
    [
        ({}, b"", "rate"),
        ({"rate": "x"}, b"", "rate"),
        ({"rate": 1e6}, b"", "rate"),
        ({"rate": 16_000, "look_ahead": {}}, b"", "look_ahead"),
        ({"rate": 16_000}, b"123", "odd number"),
    ],
)
def test_bad_sound_is_told_in_a_line(
    server: ViewServer, first: dict[str, Any], sound: bytes, says: str
) -> None:
    line = dial(server, "/listen")
    hello(line, **first)
    if sound:
        assert last(line)["type"] == "ready"
        line.send_binary(sound)
    told = last(line)
    assert told["type"] == "error" and says in told["text"]


def test_nobody_listens_for_ever(server: ViewServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_LIVE_SECONDS", 1.0)
    monkeypatch.setattr(module, "_SILENT_S", 0.3)
    line = dial(server, "/listen")
    hello(line, rate=16_000)
    assert last(line)["type"] == "ready"
    for _ in range(2):
        line.send_binary(np.zeros(9000, "<i2").tobytes())
    while isinstance(message := line.recv(), bytes):
        pass
    assert "minutes are over" in json.loads(message)["text"]
    for path in ("/talk", "/listen"):
        line = dial(server, path)
        hello(line, rate=16_000, size=100)  # and nothing more
        texts = [last(line), last(line)] if path == "/listen" else [last(line)]
        assert texts[-1] == {"type": "error", "text": "nothing came for too long"}


def test_sessions_are_counted_and_given_back(server: ViewServer) -> None:
    lines = [dial(server, "/listen") for _ in range(module.SESSIONS)]
    with pytest.raises(websocket.WebSocketBadStatusException, match="503"):
        dial(server, "/talk")
    assert get(server, "/").status == 200
    lines.pop().close()
    lines.append(wait_for(lambda: _tried(server), 5.0, "a place"))
    for line in lines:
        line.close()


def _tried(server: ViewServer) -> websocket.WebSocket | None:
    try:
        return dial(server, "/talk")
    except websocket.WebSocketBadStatusException:
        return None


def test_closing_waits_for_nobody(tmp_path: Path, speaker: Any) -> None:
    there = ViewServer("127.0.0.1", 0)
    there.start({"/": module.File(b"", "text/html")}, speaker)
    asleep = threading.Event()
    speaker.talk = lambda *_: asleep.wait(30.0)
    line = dial(there, "/talk")
    hello(line, size=1)
    line.send_binary(b"a")
    sleeper = dial(there, "/listen")
    begin = time.monotonic()
    there.close()
    assert time.monotonic() - begin < 10.0
    asleep.set()
    sleeper.close()
    with pytest.raises(OSError):
        socket.create_connection(place(there).split(":"), timeout=2)


def test_a_port_that_is_taken(server: ViewServer) -> None:
    with pytest.raises(
        InputError, match=r"cannot listen on 127.0.0.1:\d+ \(Address already in use\); choose another"
    ):
        ViewServer("127.0.0.1", int(place(server).split(":")[1]))
