"""Addresses of receivers."""

from __future__ import annotations

import pytest

from facetalk.errors import InputError
from facetalk.live.address import parse_address


@pytest.mark.parametrize(
    ("text", "host", "port", "path"),
    [
        ("livelink://", "127.0.0.1", 11111, ""),
        ("livelink://10.0.0.5/Ada%20L", "10.0.0.5", 11111, "Ada L"),
        ("vmc://", "127.0.0.1", 39539, ""),
        ("osc://studio:7000/avatar/parameters", "studio", 7000, "avatar/parameters"),
        ("ws://:9001", "127.0.0.1", 9001, ""),
        ("ws://[::1]:9001/", "::1", 9001, ""),
    ],
)
def test_what_is_left_out_has_the_usual_value(text: str, host: str, port: int, path: str) -> None:
    address = parse_address(text)
    assert (address.host, address.port, address.path) == (host, port, path)


def test_options() -> None:
    address = parse_address("ws://?origin=https://a.b&origin=null")
    assert address.option("origin") == ["https://a.b", "null"]
    assert parse_address("stdout").scheme == "stdout"


@pytest.mark.parametrize(
    "text",
    ["", "talk.jsonl", "127.0.0.1:11111", "http://127.0.0.1", "osc:127.0.0.1", "osc://h:99999", "osc://h:x",
     "osc://h:0", "osc://a:b@h", "osc://h/x#y", "osc://h?speed=2", "vmc://h/face", "ws://h/binary",
     "ws://[::1", "stdout://x", "ws://h?origin"],
)  # fmt: skip
def test_what_is_no_address_is_refused_in_words(text: str) -> None:
    with pytest.raises(InputError, match="--to"):
        parse_address(text)
