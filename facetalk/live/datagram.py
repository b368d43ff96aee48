"""Frames over UDP: nothing is waited for, nothing that goes wrong on the way ends the sending."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from facetalk.errors import InputError
from facetalk.live.address import Address
from facetalk.live.frame import Frame, Sender


class DatagramSender(Sender):
    """Base of the senders over UDP.

    Nobody has to listen yet: a receiver that is started later gets what is sent then. The socket is
    connected, so that the system tells when nobody does.

    Raises:
        InputError: there is no such host, or nothing can be sent to it.
    """

    def __init__(self, address: Address) -> None:
        self.where = address.text
        self._place = address.place
        try:
            found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"--to {address.text}: no host {address.host!r} ({reason})") from None
        # Of a name with addresses of both kinds, most receivers listen on the old one.
        family, kind, protocol, _, place = min(found, key=lambda entry: entry[0] != socket.AF_INET)
        self._socket = socket.socket(family, kind, protocol)
        self._socket.setblocking(False)
        # A broadcast address is refused without; who names one means everybody there.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        try:
            self._socket.connect(place)
        except OSError as error:
            self._socket.close()
            raise InputError(f"--to {address.text}: cannot send there ({error.strerror})") from None

    def packets(self, frame: Frame) -> Sequence[bytes]:
        """The datagrams of a frame, each of at most about 1400 bytes, which pass every network whole."""
        raise NotImplementedError

    def send(self, frame: Frame) -> None:
        """See :class:`Sender`."""
        self.trouble = ""
        for packet in self.packets(frame):
            try:
                self._put(packet)
            except OSError as error:  # a full buffer, a network that is down for a while
                self.dropped += 1
                self.trouble = f"a frame could not be sent ({error.strerror or error})"
                return

    def _put(self, packet: bytes) -> None:
        try:
            self._socket.send(packet)
        except ConnectionRefusedError:
            # It tells of the datagram before this one, and this one was not sent.
            self.trouble = f"nobody listens at {self._place} yet; frames are sent all the same"
            self._socket.send(packet)

    def close(self) -> None:
        """See :class:`Sender`."""
        self._socket.close()
