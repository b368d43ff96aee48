"""OSC and VMC, read back by another library's parser (oscpy), as real receivers do."""

from __future__ import annotations

import dataclasses
import socket
import sys

import numpy as np
import pytest
from live_face import frame, listener
from scipy.spatial.transform import Rotation

from facetalk.data.arkit import ANGLE_NAMES, ARKIT_NAMES, ArkitFace
from facetalk.errors import InputError
from facetalk.live import osc
from facetalk.live.address import parse_address
from facetalk.pipeline import FaceTalk

parser = pytest.importorskip("oscpy.parser", reason="pip install 'facetalk[test]'")


def received(there: socket.socket, last: bytes) -> list[tuple[bytes, bytes, list[object]]]:
    """Messages up to that of the address ``last``; none of the datagrams may be cut by an Ethernet."""
    found: list[tuple[bytes, bytes, list[object]]] = []
    while not found or found[-1][0] != last:
        data = there.recv(65536)
        assert len(data) <= 1472
        found += [
            (address, bytes(tags), list(values)) for address, tags, values, _ in parser.read_packet(data)
        ]
    return found


def test_every_value_has_an_address_of_its_own() -> None:
    with listener() as there:
        port = there.getsockname()[1]
        sender = osc.OscSender(parse_address(f"osc://127.0.0.1:{port}/avatar/parameters"))
        sent = frame(42)
        sender.send(sent)
        first, *rest = received(there, b"/avatar/parameters/rightEyeRoll")
        sender.close()
    assert first[0] == b"/avatar/parameters/frame"
    assert first[2] == [42, pytest.approx(1.7)]
    names = [f"/avatar/parameters/{name}".encode() for name in (*ARKIT_NAMES, *ANGLE_NAMES)]
    assert [address for address, _, _ in rest] == names
    assert [values for _, _, values in rest] == [[value] for value in (*sent.weights, *sent.angles)]


@pytest.mark.parametrize(("query", "jaw"), [("", b"jawOpen"), ("?names=pascal", b"JawOpen")])
def test_vmc_gives_names_and_values_and_applies_them(query: str, jaw: bytes) -> None:
    with listener() as there:
        sender = osc.VmcSender(parse_address(f"vmc://127.0.0.1:{there.getsockname()[1]}{query}"))
        sent = frame(3)
        sender.send(sent)
        messages = received(there, b"/VMC/Ext/Blend/Apply")
        sender.close()
    assert messages[0] == (b"/VMC/Ext/OK", b"i", [1])
    assert messages[1][0] == b"/VMC/Ext/T" and messages[1][2] == [pytest.approx(0.14)]
    bone, *shapes = messages[2:-1]
    assert bone[:2] == (b"/VMC/Ext/Bone/Pos", b"sfffffff") and bone[2][:4] == [b"Head", 0.0, 0.0, 0.0]
    # Unity's x goes to the avatar's right: pitch keeps its sign, yaw and roll go the other way round.
    yaw, pitch, roll = sent.angles[:3].tolist()
    expected = Rotation.from_euler("YXZ", [-yaw, pitch, -roll]).as_quat()
    np.testing.assert_allclose(bone[2][4:], expected * np.sign(expected[3]), atol=1e-6)
    assert {(address, tags) for address, tags, _ in shapes} == {(b"/VMC/Ext/Blend/Val", b"sf")}
    values = {name: value for _, _, (name, value) in shapes}
    assert len(values) == len(shapes) == 52
    assert values[jaw] == sent.weights[ARKIT_NAMES.index("jawOpen")]
    assert {name.lower(): value for name, value in values.items()} == {
        name.lower().encode(): value for name, value in zip(ARKIT_NAMES, sent.weights, strict=True)
    }
    assert messages[-1][2] == []


def test_vmc_leaves_a_still_head_alone_and_brings_one_back() -> None:
    with listener() as there:
        sender = osc.VmcSender(parse_address(f"vmc://127.0.0.1:{there.getsockname()[1]}"))
        still = dataclasses.replace(frame(0), angles=np.zeros(len(ANGLE_NAMES), np.float32))
        counts = []
        for sent in (still, frame(1), still, still):
            sender.send(sent)
            bones = [m for m in received(there, b"/VMC/Ext/Blend/Apply") if m[0] == b"/VMC/Ext/Bone/Pos"]
            counts.append([bone[2][7] for bone in bones])
        sender.close()
    assert [len(count) for count in counts] == [0, 1, 1, 0] and counts[2] == [1.0]


@pytest.mark.skipif(sys.platform != "linux", reason="where loopback has a broadcast address")
def test_a_broadcast_reaches_who_listens() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as there:
        there.bind(("", 0))
        there.settimeout(5.0)
        sender = osc.VmcSender(parse_address(f"vmc://127.255.255.255:{there.getsockname()[1]}"))
        sender.send(frame(1))
        assert sender.dropped == 0 and received(there, b"/VMC/Ext/Blend/Apply")
        sender.close()


def test_vmc_turns_eyes_that_are_bones_as_the_rig_does() -> None:
    """Weights of gaze, as angles and then as bones, against the rotation vectors of the built-in head."""
    head = FaceTalk.from_pretrained("default", "cpu").head
    person = head.bind()
    weights = np.random.default_rng(0).random((1, 53)).astype(np.float32)
    shapes, angles = ArkitFace(head.expression_names)(weights)
    sent = dataclasses.replace(frame(0), weights=shapes[0], angles=angles[0])
    with listener() as there:
        sender = osc.VmcSender(parse_address(f"vmc://127.0.0.1:{there.getsockname()[1]}?eyes=bones"))
        sender.send(sent)
        found = {m[2][0]: m[2][4:] for m in received(there, b"/VMC/Ext/Blend/Apply") if b"Bone" in m[0]}
        sender.close()
    assert set(found) == {b"LeftEye", b"RightEye"}
    for name, eye in zip((b"LeftEye", b"RightEye"), person.eyes(person.canonical()), strict=True):
        turn = Rotation.from_rotvec(eye.turns(weights)[0] * [1, -1, -1])
        np.testing.assert_allclose(Rotation.from_quat(found[name]).as_matrix(), turn.as_matrix(), atol=1e-6)


@pytest.mark.parametrize(
    "text", ["osc://127.0.0.1/a%20b", "osc://127.0.0.1/caf%C3%A9", "osc://h/" + "x" * 201]
)
def test_prefixes_that_osc_has_not(text: str) -> None:
    with pytest.raises(InputError, match="--to"):
        osc.OscSender(parse_address(text))
    with pytest.raises(InputError, match="names"):
        osc.VmcSender(parse_address("vmc://127.0.0.1?names=kebab"))
    with pytest.raises(InputError, match="'bones' as well"):
        osc.VmcSender(parse_address("vmc://127.0.0.1?eyes=glass"))


def test_without_the_library_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(osc, "_INSTALLED", False)
    with pytest.raises(InputError, match=r"facetalk\[live\]"):
        osc.VmcSender(parse_address("vmc://"))
