"""The sender to an address."""

from __future__ import annotations

from facetalk.live.address import Address
from facetalk.live.frame import Sender
from facetalk.live.lines import LineSender
from facetalk.live.livelink import LiveLinkSender
from facetalk.live.osc import OscSender, VmcSender
from facetalk.live.websocket import WebSocketSender


def open_sender(address: Address, fps: float, *, wait: bool = False) -> Sender:
    """Make a sender, ready to send.

    Args:
        address: from :func:`facetalk.live.address.parse_address`.
        fps: motion frame rate.
        wait: of standard output, wait for a slow reader instead of dropping frames.

    Raises:
        InputError: nothing can be sent there.
        NotInstalledError: it needs a library that is not there.
    """
    if address.scheme == "livelink":
        return LiveLinkSender(address, fps)
    if address.scheme == "vmc":
        return VmcSender(address)
    if address.scheme == "osc":
        return OscSender(address)
    if address.scheme == "ws":
        return WebSocketSender(address, fps)
    return LineSender(address.text, wait=wait)
