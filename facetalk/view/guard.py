"""Who may ask: every page that a person has open can reach the loopback, so being asked proves nothing.

Two headers tell, which no page can forge: ``Host`` is the name that the browser looked up, which is a
stranger's when that stranger has his name point here (DNS rebinding), and ``Origin`` is the page that asks.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from facetalk.errors import InputError

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Guard:
    """Knows the names of this server.

    Args:
        host: where it listens, a name or an address.

    Attributes:
        loopback: whether it can be reached from this machine alone.

    Raises:
        InputError: there is no such host.
    """

    def __init__(self, host: str) -> None:
        self._names = {*_LOOPBACK, host.lower()}
        try:
            found = {entry[4][0] for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"--host {host}: no such host ({reason})") from None
        self.loopback = all(ipaddress.ip_address(str(place).partition("%")[0]).is_loopback for place in found)

    def refusal(self, host: str | None, origin: str | None) -> str:
        """Why a request may not be answered; empty where it may.

        Args:
            host: its header ``Host``.
            origin: its header ``Origin``; programs that are no browsers send none.
        """
        name = _name(host)
        if name is None or not self._is_ours(name):
            return f"this server is not called {host!r}"
        if origin is not None and origin.lower() != f"http://{host}".lower():
            return f"pages of {origin!r} have no business here"
        return ""

    def _is_ours(self, name: str) -> bool:
        if name in self._names:
            return True
        # A number cannot be made to point here, as a name can.
        return not self.loopback and (_is_number(name) or name == socket.gethostname().lower())


def _name(host: str | None) -> str | None:
    """The host of ``host:port``, without the brackets of IPv6; None where it is none."""
    try:
        parts = urlsplit(f"//{host or ''}")
        _ = parts.port
    except ValueError:
        return None
    plain = parts.username is None and not (parts.path or parts.query or parts.fragment)
    return parts.hostname if plain else None


def _is_number(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
