"""Epic's Live Link Face over UDP, version 6, as the iPhone app sends it to Unreal.

Layout, big endian: u8 version, u32 length and text of the device's id, u32 length and text of the subject's
name, u32 frame, f32 sub-frame, u32 frame rate, u32 its denominator, u8 number of values, that many f32.
Sources: github.com/JimWest/PyLiveLinkFace and
forums.unrealengine.com/t/unreal-live-link-udp-packet-format/472878.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Sequence
from fractions import Fraction

from facetalk.data.arkit import ANGLE_NAMES, ARKIT_NAMES
from facetalk.errors import InputError
from facetalk.live.address import Address
from facetalk.live.datagram import DatagramSender
from facetalk.live.frame import Frame

_VERSION = 6
_COUNT = len(ARKIT_NAMES) + len(ANGLE_NAMES)
_NAME_BYTES = 200


class LiveLinkSender(DatagramSender):
    """One datagram a frame; its time code is the time of the sound.

    Args:
        address: ``livelink://host:port/subject``; the subject is "facetalk" when none is given.
        fps: motion frame rate.

    Raises:
        InputError: as :class:`DatagramSender`, or the subject's name is too long.
    """

    def __init__(self, address: Address, fps: float) -> None:
        name = (address.path or "facetalk").encode()
        if len(name) > _NAME_BYTES:
            raise InputError(f"--to {address.text}: a subject's name has at most {_NAME_BYTES} bytes")
        super().__init__(address)
        # An id of the subject, the same in every run, of 36 characters as receivers expect.
        device = str(uuid.uuid5(uuid.NAMESPACE_URL, f"facetalk:{address.path}")).encode()
        self._head = struct.pack(">BI", _VERSION, len(device)) + device + struct.pack(">I", len(name)) + name
        rate = Fraction(fps).limit_denominator(1001)
        self._rate = rate.numerator, rate.denominator

    def packets(self, frame: Frame) -> Sequence[bytes]:
        """See :class:`DatagramSender`; the middle of a frame is half a frame after its beginning."""
        values = (*frame.weights.tolist(), *frame.angles.tolist())
        clock = struct.pack(">IfII", frame.index & 0xFFFFFFFF, 0.5, *self._rate)
        return [self._head + clock + struct.pack(f">B{_COUNT}f", _COUNT, *values)]
