"""Where frames go: ``osc://127.0.0.1:9000/face``, ``livelink://``, ``stdout``."""

from __future__ import annotations

import dataclasses
from urllib.parse import parse_qsl, unquote, urlsplit

from facetalk.errors import InputError

LOOPBACK = "127.0.0.1"

PORTS: dict[str, int] = {
    "livelink": 11111,  # Live Link Face
    "vmc": 39539,  # the VMC protocol's Marionette, protocol.vmc.info
    "osc": 9000,  # where VRChat and most examples listen; OSC itself has none
    "ws": 8765,
}
"""Protocols, and the port where no other is given."""

# Options behind the question mark.
_OPTIONS = {"livelink": (), "vmc": ("names", "eyes"), "osc": (), "ws": ("origin",), "stdout": ()}


@dataclasses.dataclass(frozen=True)
class Address:
    """A receiver, or for ``ws`` the place where clients may connect.

    Attributes:
        text: as it was given.
        scheme: one of :data:`PORTS`, or ``stdout``.
        host: name or number; the loopback when none is given.
        port: UDP or TCP port.
        path: what follows it, without the slash.
        options: what follows the question mark.
    """

    text: str
    scheme: str
    host: str = LOOPBACK
    port: int = 0
    path: str = ""
    options: tuple[tuple[str, str], ...] = ()

    def option(self, name: str) -> list[str]:
        """Values of an option, in order."""
        return [value for key, value in self.options if key == name]

    @property
    def place(self) -> str:
        """Host and port as they stand in an address."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Read an address.

    Raises:
        InputError: it is none; the message says what one looks like.
    """
    if text in ("stdout", "stdout://"):
        return Address(text, "stdout")
    forms = ", ".join(f"{scheme}://{LOOPBACK}:{port}" for scheme, port in PORTS.items())
    try:
        parts = urlsplit(text)
        port = parts.port
        options = tuple(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError as error:
        raise InputError(f"--to {text!r}: {error}; give one of {forms}, stdout") from None
    if parts.scheme not in PORTS or not text.startswith(f"{parts.scheme}://"):
        raise InputError(f"--to {text!r}: not an address that frames can go to; give one of {forms}, stdout")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise InputError(f"--to {text!r}: an address has no user, password or fragment")
    if port == 0:
        raise InputError(f"--to {text!r}: the port must lie in 1..65535")
    for name, _ in options:
        if name not in _OPTIONS[parts.scheme]:
            known = ", ".join(_OPTIONS[parts.scheme]) or "none"
            raise InputError(f"--to {text!r}: {parts.scheme} has no option {name!r} (it has: {known})")
    if parts.scheme in ("vmc", "ws") and parts.path.strip("/"):
        raise InputError(f"--to {text!r}: {parts.scheme} takes nothing after the port, got {parts.path!r}")
    return Address(
        text, parts.scheme, parts.hostname or LOOPBACK, port or PORTS[parts.scheme],
        unquote(parts.path).strip("/"), options,
    )  # fmt: skip
