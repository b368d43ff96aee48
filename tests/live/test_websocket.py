"""The WebSocket server, read by another library's client (websocket-client), and by bad ones."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from live_face import frame, free_port, hanging_up

from facetalk.data.arkit import ANGLE_NAMES, ARKIT_NAMES
from facetalk.errors import InputError
from facetalk.live import websocket as server
from facetalk.live.address import parse_address

client = pytest.importorskip("websocket", reason="pip install 'facetalk[test]'")


@pytest.fixture
def sender() -> Iterator[server.WebSocketSender]:
    made = server.WebSocketSender(parse_address(f"ws://127.0.0.1:{free_port()}"), 25.0)
    yield made
    made.close()


def connect(sender: server.WebSocketSender, path: str = "/", **options: Any) -> Any:
    there = client.create_connection(sender.where + path, timeout=5.0, **options)
    hello = json.loads(there.recv())
    assert (hello["type"], hello["fps"]) == ("hello", 25.0)
    assert hello["names"] == list(ARKIT_NAMES) and hello["angles"] == list(ANGLE_NAMES)
    return there


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 5.0
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_json_and_packed_clients_get_the_same(sender: server.WebSocketSender) -> None:
    with (
        hanging_up(connect(sender)) as text,
        hanging_up(connect(sender, "/binary")) as packed,
    ):
        for index in range(3):
            sender.send(frame(index))
        for index in range(3):
            content = json.loads(text.recv())
            opcode, data = packed.recv_data()
            assert opcode == client.ABNF.OPCODE_BINARY and len(data) == 16 + 4 * 61
            number, count, seconds = struct.unpack_from("<IId", data)
            values = struct.unpack_from("<61f", data, 16)
            assert content["frame"] == number == index and count == 61
            assert content["time"] == seconds == frame(index).time
            assert values == (*frame().weights, *frame().angles)
            assert list(content["weights"].values()) == [round(value, 5) for value in values[:52]]
            assert list(content["angles"].values()) == [round(value, 5) for value in values[52:]]


def test_the_last_frames_arrive_and_the_end_is_said(sender: server.WebSocketSender) -> None:
    with hanging_up(connect(sender)) as there:
        for index in range(server.WAITING):
            sender.send(frame(index))
        sender.close()
        numbers = [json.loads(there.recv())["frame"] for _ in range(server.WAITING)]
        assert numbers == list(range(server.WAITING))
        assert there.recv_data()[0] == client.ABNF.OPCODE_CLOSE
    sender.send(frame())  # into the void, as after the end


def test_a_client_that_sleeps_loses_frames_and_holds_up_nobody(sender: server.WebSocketSender) -> None:
    with (
        hanging_up(connect(sender, sockopt=((socket.SOL_SOCKET, socket.SO_RCVBUF, 4096),))) as sleeper,
        hanging_up(connect(sender)) as awake,
    ):
        for index in range(200):
            sender.send(frame(index))
            assert json.loads(awake.recv())["frame"] == index
        until(lambda: sender.dropped > 50)
        assert "slower" in sender.trouble
        start = time.monotonic()
        sender.close()
        assert time.monotonic() - start < 10.0
        assert sleeper.connected


def test_clients_come_and_go(sender: server.WebSocketSender) -> None:
    connect(sender).shutdown()
    with socket.create_connection(("127.0.0.1", parse_address(sender.where).port)) as rude:
        rude.sendall(b"\x00" * 100)
    with hanging_up(connect(sender)) as talker:
        talker.send("hello?" * 100)
        talker.send("x" * 10_000)  # more than anybody has to say: it is closed
        until(lambda: bool(sender.send(frame())) or not sender._clients)
    with hanging_up(connect(sender)) as there:
        sender.send(frame(1))
        assert json.loads(there.recv())["frame"] == 1


@pytest.mark.parametrize(
    ("origin", "path", "status"),
    [
        ("http://localhost:3000", "/", 101),
        ("https://127.0.0.1", "/json", 101),
        ("https://friend.example", "/", 101),
        (None, "/", 101),
        ("https://evil.example", "/", 403),
        ("http://localhost.evil.example", "/", 403),
        ("null", "/", 403),
        (None, "/else", 404),
    ],
)
def test_pages_from_elsewhere_are_not_let_in(origin: str | None, path: str, status: int) -> None:
    place = f"ws://127.0.0.1:{free_port()}"
    with contextlib.closing(
        server.WebSocketSender(parse_address(f"{place}?origin=https://friend.example"), 25.0)
    ):
        options = {"suppress_origin": True} if origin is None else {"origin": origin}
        try:
            with hanging_up(client.create_connection(place + path, timeout=5.0, **options)):
                found = 101
        except client.WebSocketBadStatusException as error:
            found = error.status_code
    assert found == status


def test_there_is_an_end_to_clients(sender: server.WebSocketSender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CLIENTS", 1)
    with (
        hanging_up(connect(sender)),
        pytest.raises(client.WebSocketBadStatusException, match="503"),
    ):
        connect(sender)


def test_a_place_that_is_taken_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=r"cannot listen .*in use.* --to ws://HOST:PORT"):
            server.WebSocketSender(parse_address(f"ws://127.0.0.1:{port}"), 25.0)
    with pytest.raises(InputError, match="cannot listen"):
        server.WebSocketSender(parse_address("ws://no.such.host.invalid"), 25.0)


def test_without_the_library_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_INSTALLED", False)
    with pytest.raises(InputError, match=r"facetalk\[live\]"):
        server.WebSocketSender(parse_address("ws://"), 25.0)
