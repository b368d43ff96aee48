"""``facetalk live``: the whole verb with a stream that needs no model, and everything that can be wrong."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from live_face import CountingStream, listener

from facetalk.cli import main
from facetalk.pipeline import FaceTalk

# A process whose model is the counting stream.
FAKE = """
import sys
sys.path.insert(0, {helpers!r})
from live_face import CountingStream
from facetalk.cli import main
from facetalk.pipeline import FaceTalk
FaceTalk.stream = lambda self, **options: CountingStream(**options)
raise SystemExit(main(sys.argv[1:]))
"""


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
    assert [line for line in lines if "nobody listens" in line] == [
        f"warning: osc://127.0.0.1:{port}: nobody listens at 127.0.0.1:{port} yet; frames are sent all the same"
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


def started(words: list[str], **pipes: object) -> subprocess.Popen[bytes]:
    code = FAKE.format(helpers=str(Path(__file__).parents[1] / "helpers"))
    return subprocess.Popen([sys.executable, "-c", code, "live", *words], stderr=subprocess.PIPE, **pipes)  # type: ignore[call-overload]


def test_ctrl_c_ends_a_pipe_that_is_silent_and_a_server_with_a_client_that_sleeps() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    process = started(["--from", "-", "--rate", "16000", "--to", "stdout", "--to", f"ws://127.0.0.1:{port}"],
                      stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    process.stdin.write(bytes(2 * 16_000))
    process.stdin.flush()
    assert select.select([process.stdout], [], [], 120.0)[0], "the first frame"
    with socket.create_connection(("127.0.0.1", port)) as sleeper:
        sleeper.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n")  # fmt: skip
        assert sleeper.recv(12) == b"HTTP/1.1 101"
        process.send_signal(signal.SIGINT)
        assert process.wait(30.0) == 130
    error = process.stderr.read().decode()
    assert "Traceback" not in error and error.splitlines()[-1] == "interrupted"
    assert any(line.startswith("-: ") and "frames sent" in line for line in error.splitlines())


def test_a_reader_that_leaves_ends_it(recording: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = started(["--from", str(recording), "--to", "stdout"], stdout=writer)
    os.close(writer)
    assert process.wait(120.0) == 0
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read().decode()
