"""Live Link Face, read back by a receiver written from the protocol and Unreal's list of blendshapes."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from live_face import frame, free_port, listener

from facetalk.data.arkit import ANGLE_NAMES, ARKIT_NAMES
from facetalk.errors import InputError
from facetalk.live.address import parse_address
from facetalk.live.livelink import LiveLinkSender

# EARFaceBlendShape of Unreal's AugmentedReality module, as PyLiveLinkFace numbers it.
UNREAL = [
    "EyeBlinkLeft", "EyeLookDownLeft", "EyeLookInLeft", "EyeLookOutLeft", "EyeLookUpLeft",
    "EyeSquintLeft", "EyeWideLeft", "EyeBlinkRight", "EyeLookDownRight", "EyeLookInRight",
    "EyeLookOutRight", "EyeLookUpRight", "EyeSquintRight", "EyeWideRight", "JawForward", "JawLeft",
    "JawRight", "JawOpen", "MouthClose", "MouthFunnel", "MouthPucker", "MouthLeft", "MouthRight",
    "MouthSmileLeft", "MouthSmileRight", "MouthFrownLeft", "MouthFrownRight", "MouthDimpleLeft",
    "MouthDimpleRight", "MouthStretchLeft", "MouthStretchRight", "MouthRollLower", "MouthRollUpper",
    "MouthShrugLower", "MouthShrugUpper", "MouthPressLeft", "MouthPressRight", "MouthLowerDownLeft",
    "MouthLowerDownRight", "MouthUpperUpLeft", "MouthUpperUpRight", "BrowDownLeft", "BrowDownRight",
    "BrowInnerUp", "BrowOuterUpLeft", "BrowOuterUpRight", "CheekPuff", "CheekSquintLeft",
    "CheekSquintRight", "NoseSneerLeft", "NoseSneerRight", "TongueOut", "HeadYaw", "HeadPitch",
    "HeadRoll", "LeftEyeYaw", "LeftEyePitch", "LeftEyeRoll", "RightEyeYaw", "RightEyePitch",
    "RightEyeRoll",
]  # fmt: skip


def decode(data: bytes) -> dict[str, object]:
    """As PyLiveLinkFace reads it: its "$" before an id of 36 characters is the last byte of a length."""
    assert data[0] == 6 and data[1:5] == b"\0\0\0$"
    device, rest = data[5:41].decode(), data[41:]
    (length,) = struct.unpack("!i", rest[:4])
    name, rest = rest[4 : 4 + length].decode(), rest[4 + length :]
    number, sub, rate, denominator, count = struct.unpack("!if2ib", rest[:17])
    assert count == 61 and len(rest) == 17 + 4 * 61
    values = dict(zip(UNREAL, struct.unpack("!61f", rest[17:]), strict=True))
    return {
        "device": device,
        "name": name,
        "frame": number,
        "sub": sub,
        "rate": (rate, denominator),
        **values,
    }


def test_a_receiver_reads_every_value_under_its_name() -> None:
    with listener() as there:
        port = there.getsockname()[1]
        sender = LiveLinkSender(parse_address(f"livelink://127.0.0.1:{port}/Ada Lövelace"), 25.0)
        sent = frame(123)
        sender.send(sent)
        got = decode(there.recv(65536))
        sender.close()
    assert (got["name"], got["frame"], got["sub"], got["rate"]) == ("Ada Lövelace", 123, 0.5, (25, 1))
    for name, value in zip((*ARKIT_NAMES, *ANGLE_NAMES), (*sent.weights, *sent.angles), strict=True):
        assert got[name[0].upper() + name[1:]] == value, name
    assert sender.dropped == 0 and sender.trouble == ""


def test_the_packet_to_the_byte() -> None:
    """The size of a packet of the app: 5 + 36 + 4 + name + 16 + 1 + 244."""
    sender = LiveLinkSender(parse_address(f"livelink://127.0.0.1:{free_port()}"), 29.97)
    (packet,) = sender.packets(frame(0))
    assert len(packet) == 5 + 36 + 4 + len("facetalk") + 16 + 1 + 244
    assert decode(packet)["rate"] == (2997, 100)
    again = LiveLinkSender(parse_address(f"livelink://127.0.0.1:{free_port()}"), 29.97)
    assert again.packets(frame(0)) == [packet], "the id of a device stays"
    np.testing.assert_array_equal(np.frombuffer(packet[-244:], ">f4"), [*frame(0).weights, *frame(0).angles])


def test_a_receiver_that_is_not_there_yet_gets_what_comes_later() -> None:
    with listener() as there:
        port = there.getsockname()[1]
    sender = LiveLinkSender(parse_address(f"livelink://127.0.0.1:{port}"), 25.0)
    for index in range(4):
        sender.send(frame(index))
    assert "nobody listens" in sender.trouble and sender.dropped == 0
    with listener() as there:
        sender = LiveLinkSender(parse_address(f"livelink://127.0.0.1:{there.getsockname()[1]}"), 25.0)
        sender.send(frame(9))
        assert decode(there.recv(65536))["frame"] == 9


@pytest.mark.parametrize("text", ["livelink://no.such.host.invalid", "livelink://127.0.0.1/" + "x" * 300])
def test_addresses_that_lead_nowhere(text: str) -> None:
    with pytest.raises(InputError, match="--to"):
        LiveLinkSender(parse_address(text), 25.0)
