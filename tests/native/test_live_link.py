"""The live example in C++: pushed sound comes out as packets that a receiver of Live Link Face can read."""

import shutil
import socket
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from facetalk import get_include, get_library
from facetalk.data.arkit import ANGLE_NAMES
from facetalk.frames import Frames
from facetalk.native import NativeModel
from facetalk.tongue import TongueNetwork

SOURCE = Path(__file__).resolve().parents[2] / "examples/cpp-live/live_link.cpp"
COMPILER = shutil.which("c++") or shutil.which("g++")

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler on this machine")


def read(packet: bytes) -> tuple[str, int, int, np.ndarray]:
    """Name, frame, rate and 61 values, by the layout of PyLiveLinkFace (version 6, big endian)."""
    assert packet[0] == 6
    at, texts = 1, []
    for _ in range(2):
        (length,) = struct.unpack_from(">I", packet, at)
        texts.append(packet[at + 4 : at + 4 + length].decode())
        at += 4 + length
    frame, _part, rate, _denominator, count = struct.unpack_from(">IfIIB", packet, at)
    values = np.frombuffer(packet, ">f4", count, at + 17)
    assert len(texts[0]) == 36 and count == 61 and at + 17 + 4 * count == len(packet)
    return texts[1], frame, rate, values


@pytest.fixture
def lisping(tmp_path, folder) -> Path:
    """The built-in model with a tongue that is between the teeth whatever is said, and so out at times."""
    made = tmp_path / "lisping"
    made.mkdir()
    for part in folder.iterdir():
        if part.name != "tongue":
            (made / part.name).symlink_to(part)
    network = TongueNetwork.load(folder / "tongue")
    network.w2[1], network.b2[1] = 0.0, 20.0
    network.save(made / "tongue", {})
    return made


def test_packets_hold_the_curves(tmp_path, lisping, speech):
    program = tmp_path / "live_link"
    library = Path(get_library()).parent
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror",
             f"-I{get_include()}", f"-L{library}"]  # fmt: skip
    subprocess.run(
        [COMPILER, *flags, f"-Wl,-rpath,{library}", SOURCE, "-lfacetalk", "-o", program], check=True
    )
    sound = speech[: 2 * 16_000]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(20)
        port = str(receiver.getsockname()[1])
        done = subprocess.run(
            [program, lisping, "127.0.0.1", port], input=sound.tobytes(), capture_output=True, check=True
        )
        packets = [read(receiver.recv(2048)) for _ in range(50)]
    assert done.stdout == b"50 frames, 200 ms behind the sound\n"
    assert [frame for _, frame, _, _ in packets] == list(range(50))
    assert {(name, rate) for name, _, rate, _ in packets} == {("facetalk", 25)}
    values = np.array([row for *_, row in packets])
    model = NativeModel(lisping)
    stream = model.stream(pose=True)
    curves, contacts, pose = Frames.joined([stream.push(sound), stream.finish()])
    assert contacts is not None and pose is not None
    # Jaw and mouth have left before right in packets; inner brows and cheeks are one shape each.
    places = {0: ["eyeBlink_L"], 15: ["jawLeft"], 16: ["jawRight"], 17: ["jawOpen"], 21: ["mouthLeft"],
              43: ["browInnerUp_L", "browInnerUp_R"], 50: ["noseSneer_R"]}  # fmt: skip
    for at, names in places.items():
        expected = curves[:, [model.names.index(name) for name in names]].mean(axis=1)
        assert np.abs(values[:, at] - expected).max() < 1e-6
    out = model.tongue_weights(contacts, curves)[:, 2]
    assert np.abs(values[:, 51] - out).max() < 1e-6 and out.max() > 0.01
    assert ANGLE_NAMES[:3] == ("headYaw", "headPitch", "headRoll")
    assert np.abs(values[:, 52:55] - pose[:, [1, 0, 2]]).max() < 1e-6 and np.ptp(pose[:, 0]) > 0.02
    assert not values[:, 55:].any()
