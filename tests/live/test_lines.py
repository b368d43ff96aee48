"""Lines of JSON: what a reader finds in them, and that a reader who sleeps holds nobody up."""

from __future__ import annotations

import fcntl
import json
import os
import select
import threading
from pathlib import Path

import numpy as np
import pytest
from live_face import frame

from facetalk.data.arkit import ANGLE_NAMES, ARKIT_NAMES
from facetalk.live.frame import Frame
from facetalk.live.lines import LineSender


def test_a_line_holds_a_frame() -> None:
    reader, writer = os.pipe()
    LineSender(descriptor=writer).send(frame(5))
    os.close(writer)
    with os.fdopen(reader) as file:
        (line,) = file.read().splitlines()
    content = json.loads(line)
    assert (content["frame"], content["time"]) == (5, 0.22)
    assert list(content["weights"]) == list(ARKIT_NAMES) and list(content["angles"]) == list(ANGLE_NAMES)
    assert content["weights"]["jawOpen"] == frame().weights[ARKIT_NAMES.index("jawOpen")].round(5)


def test_the_longest_line_fits_a_pipe_at_once() -> None:
    long = Frame(2**40, 123456789.123456, np.full(52, 0.123456, np.float32), np.full(9, -3.14159, np.float32))
    assert len(long.to_json()) + 1 <= select.PIPE_BUF


def test_a_reader_who_sleeps_loses_frames_and_costs_nothing() -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 8192)
    sender = LineSender(descriptor=writer)
    for index in range(50):
        sender.send(frame(index))
    assert 40 <= sender.dropped < 50 and "slower" in sender.trouble
    os.close(writer)
    with os.fdopen(reader) as file:
        lines = file.read().splitlines()
    assert len(lines) == 50 - sender.dropped
    assert [json.loads(line)["frame"] for line in lines] == list(range(len(lines)))


def test_one_who_waits_loses_nothing() -> None:
    reader, writer = os.pipe()
    sender = LineSender(descriptor=writer, wait=True)
    with os.fdopen(reader) as file:
        found: list[str] = []
        thread = threading.Thread(target=lambda: found.extend(file.read().splitlines()))
        thread.start()
        for index in range(100):
            sender.send(frame(index))
        os.close(writer)
        thread.join(10.0)
    assert len(found) == 100 and sender.dropped == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_told_by_the_receivers_name() -> None:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(OSError, match="No space left") as caught:
        LineSender(descriptor=descriptor).send(frame())
    os.close(descriptor)
    assert caught.value.filename == "stdout"


def test_a_reader_who_is_gone_ends_it() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        LineSender(descriptor=writer).send(frame())
    os.close(writer)
