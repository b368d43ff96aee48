from __future__ import annotations

import pytest

from facetalk.errors import InputError
from facetalk.view.guard import Guard

MINE = "http://127.0.0.1:8766"


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:8766", None),
        ("127.0.0.1:8766", MINE),
        ("localhost:8766", "http://localhost:8766"),
        ("LOCALHOST:9000", "http://localhost:9000"),  # through ssh -L
        ("[::1]:8766", "http://[::1]:8766"),
        ("localhost", "http://localhost"),
    ],
)
def test_the_page_itself_may_ask(host: str, origin: str | None) -> None:
    assert Guard("127.0.0.1").refusal(host, origin) == ""


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        (None, None),
        ("", None),
        ("evil.example:8766", None),  # a name that was made to point here
        ("127.0.0.1.evil.example", None),
        ("evil.example@127.0.0.1:8766", None),
        ("127.0.0.1:8766/evil", None),
        ("127.0.0.1:99999999", None),
        ("192.168.1.20:8766", None),
        ("[::1", None),
        ("127.0.0.1:8766", "http://evil.example"),
        ("127.0.0.1:8766", "null"),
        ("127.0.0.1:8766", ""),
        ("127.0.0.1:8766", "https://127.0.0.1:8766"),
        ("127.0.0.1:8766", "http://127.0.0.1:3000"),  # another server of this machine
        ("127.0.0.1:8766", "http://localhost:8766"),
        ("127.0.0.1:8766", MINE + ".evil.example"),
    ],
)
def test_others_may_not(host: str | None, origin: str | None) -> None:
    assert Guard("127.0.0.1").refusal(host, origin)


def test_on_a_network_numbers_are_names_and_foreign_names_are_not() -> None:
    guard = Guard("0.0.0.0")
    assert not guard.loopback
    assert guard.refusal("192.168.1.20:8766", "http://192.168.1.20:8766") == ""
    assert guard.refusal("evil.example:8766", "http://evil.example:8766")
    assert Guard("localhost").loopback and Guard("::1").loopback


def test_no_such_host() -> None:
    with pytest.raises(InputError, match="no such host"):
        Guard("no.such.host.invalid")
