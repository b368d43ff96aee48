"""``facetalk live``: the whole verb with a stream that needs no model, and everything that can be wrong."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from forked import ended, started
from live_face import CountingStream, free_port, listener

from facetalk.cli import main
from facetalk.data.arkit import ArkitFace
from facetalk.errors import InputError
from facetalk.pipeline import FaceTalk
from facetalk.style import Style


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "talk.wav"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 16_000), 16_000)
    return path


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> list[CountingStream]:
    made: list[CountingStream] = []

    def stream(self: FaceTalk, **options: object) -> CountingStream:
        made.append(CountingStream(**options))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr(FaceTalk, "stream", stream, raising=False)
    return made


def test_lines_of_a_recording(
    recording: Path, counting: list[CountingStream], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["live", "--from", str(recording), "--to", "stdout", "--fast"]) == 0
    out, error = capfd.readouterr()
    frames = [json.loads(line) for line in out.splitlines()]
    assert [frame["frame"] for frame in frames] == list(range(25))
    assert [frame["weights"]["jawOpen"] for frame in frames] == [i / 1000 for i in range(25)]
    assert error == "talk.wav: 25 frames sent\n"
    assert counting[0].finished and counting[0].heard == 16_000


@pytest.mark.parametrize(
    ("words", "default"),
    [(["live", "--from", "{sound}", "--to", "stdout", "--fast"], "model"),
     (["view", "--no-browser", "--port", "0"], "auto")],
)  # fmt: skip
def test_the_encoder_that_is_asked_for_hears_live(
    words: list[str], default: str, recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def load(*given: object, **told: object) -> FaceTalk:
        asked.append(told["encoder"])
        raise InputError("enough")

    monkeypatch.setattr(FaceTalk, "from_pretrained", load)
    said = [word.replace("{sound}", str(recording)) for word in words]
    assert [main(said), main([*said, "--encoder", "whisper"])] == [2, 2]
    assert asked == [default, "whisper"]


def test_a_recording_plays_in_real_time_to_several_receivers(
    recording: Path, counting: list[CountingStream], capfd: pytest.CaptureFixture[str]
) -> None:
    with listener() as unreal, listener() as avatar:
        places = [there.getsockname()[1] for there in (unreal, avatar)]
        start = time.monotonic()
        status = main(["live", "--from", str(recording), "--to", f"livelink://127.0.0.1:{places[0]}",
                       "--to", f"vmc://127.0.0.1:{places[1]}"])  # fmt: skip
        assert status == 0 and time.monotonic() - start >= 1.0
        assert unreal.recv(65536)[0] == 6 and b"/VMC/Ext/OK" in avatar.recv(65536)
    assert "frames sent" in capfd.readouterr().err


def test_nobody_listens_and_that_is_said_once(
    recording: Path, counting: list[CountingStream], capfd: pytest.CaptureFixture[str]
) -> None:
    with listener() as there:
        port = there.getsockname()[1]
    assert main(["live", "--from", str(recording), "--to", f"osc://127.0.0.1:{port}"]) == 0
    lines = capfd.readouterr().err.splitlines()
    place = f"127.0.0.1:{port}"
    assert [line for line in lines if "nobody listens" in line] == [
        f"warning: osc://{place}: nobody listens at {place} yet; frames are sent all the same"
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--from", "talk.wav"], "--to"),
        (["--from", "gone.wav", "--to", "stdout"], "no such file"),
        (["--from", "talk.wav", "--to", "talk.csv"], "not an address"),
        (["--from", "talk.wav", "--to", "livelink://no.such.host.invalid"], "no host"),
        (["--from", "talk.wav", "--to", "stdout", "--to", "stdout"], "given twice"),
        (["--from", "talk.wav", "--to", "osc://", "--to", "osc://127.0.0.1:9000/x"], "given twice"),
        (["--from", "talk.wav", "--to", "osc://", "--fast"], "--fast"),
        (["--from", "talk.wav", "--to", "stdout", "--encoder", "whisper", "--look-ahead", "2"], "up to 1 s"),
        (["--from", "mic", "--to", "stdout", "--fast"], "--fast"),
        (["--from", "talk.wav", "--to", "stdout", "--rate", "16000"], "--rate"),
        (["--from", "talk.wav", "--to", "stdout", "--seed", "-1"], "--seed"),
        (["--from", "talk.wav", "--to", "stdout", "--model", "nobody"], "no model"),
        (["--from", "talk.wav", "--to", "ws://127.0.0.1:{taken}"], "in use"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], said: str, recording: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(recording.parent)
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = str(other.getsockname()[1])
        try:
            status = main(["live", *(word.replace("{taken}", taken) for word in words)])
        except SystemExit as leave:  # argparse
            status = int(str(leave.code))
    out, error = capfd.readouterr()
    assert status == 2 and out == "" and said in error
    assert "Traceback" not in error


def test_ctrl_c_ends_a_silent_pipe_and_a_server_whose_client_sleeps(
    counting: list[CountingStream], tmp_path: Path
) -> None:
    port = free_port()
    sound, speak = os.pipe()
    lines, out = os.pipe()
    with (tmp_path / "errors").open("w+b") as errors:
        child = started(["live", "--from", "-", "--rate", "16000", "--to", "stdout", "--to", f"ws://127.0.0.1:{port}"],
                        sound, out, errors.fileno())  # fmt: skip
        os.write(speak, bytes(32_000))
        assert select.select([lines], [], [], 60.0)[0], "the first frame"
        with socket.create_connection(("127.0.0.1", port)) as sleeper:
            words = ["GET / HTTP/1.1", "Host: x", "Upgrade: websocket", "Connection: Upgrade",
                     f"Sec-WebSocket-Key: {'A' * 22}==", "Sec-WebSocket-Version: 13", "", ""]  # fmt: skip
            sleeper.sendall("\r\n".join(words).encode())
            assert sleeper.recv(12) == b"HTTP/1.1 101"
            os.kill(child, signal.SIGINT)
            assert ended(child) == 130
        said = (tmp_path / "errors").read_text().splitlines()
    for descriptor in (sound, speak, lines, out):
        os.close(descriptor)
    assert said[-1] == "interrupted" and "Traceback" not in said[0]
    assert any(line.startswith("-: ") and "frames sent" in line for line in said)


def test_a_reader_that_leaves_ends_it(
    recording: Path, counting: list[CountingStream], tmp_path: Path
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with (tmp_path / "errors").open("w+b") as errors, open(os.devnull, "rb") as nothing:
        words = ["live", "--from", str(recording), "--to", "stdout"]
        assert ended(started(words, nothing.fileno(), writer, errors.fileno())) == 0
    os.close(writer)
    assert "Traceback" not in (tmp_path / "errors").read_text()


def test_the_built_in_model_says_what_it_generates(
    recording: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The whole way, without a fake: lines of the stream against the motion of the same look-ahead."""
    status = main(["live", "--from", str(recording), "--to", "stdout", "--fast", "--steps", "1",
                   "--seed", "3", "--look-ahead", "0.1", "--smile", "0.4"])  # fmt: skip
    out, error = capfd.readouterr()
    assert status == 0, error
    lines = [json.loads(line) for line in out.splitlines()]
    found = [list(line["weights"].values()) for line in lines]
    model = FaceTalk.from_pretrained(device="cpu")
    motion = model.generate(recording, steps=1, seed=3, look_ahead=0.1, style=Style(smile=0.4))
    expected, angles = ArkitFace(model.head.expression_names)(motion.expressions, motion.pose)
    turned = np.array([list(line["angles"].values()) for line in lines])
    assert np.abs(turned - angles).max() < 2e-5 and np.abs(turned[:, :3]).max() > 0.005
    assert np.abs(np.array(found) - expected).max() < 2e-5
    assert np.ptp(expected, axis=0).max() > 0.01, "a face that does not move proves nothing"
