from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from live_face import CountingStream

from facetalk.arrays import Float32
from facetalk.errors import InputError
from facetalk.motion import Motion
from facetalk.view.files import File
from facetalk.view.server import ViewServer
from facetalk.view.speaker import Settings, Speaker, Talk


class StandIn(Speaker):
    """Work without a model: a recording comes back as it was sent."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.asked: list[Settings] = []
        self.heard: list[CountingStream] = []

    def talk(self, recording: Path, settings: Settings) -> Talk:
        self.asked.append(settings)
        content = recording.read_bytes()
        if content == b"bad":
            raise InputError(f"{recording}: no sound in it")
        if content == b"broken":
            raise RuntimeError("a defect")
        return Talk(b"glTF" + recording.name.encode(), content, 25, 4, 1.5, ["quiet"])

    def curves(self, motion: Motion) -> Float32:
        return motion.expressions

    def listen(self, rate: float, look_ahead: float, settings: Settings) -> CountingStream:  # type: ignore[override]
        if rate > 400_000:
            raise InputError("rate must be lower")
        self.asked.append(settings)
        self.heard.append(CountingStream(rate=rate, look_ahead=look_ahead))
        return self.heard[-1]


@pytest.fixture
def speaker(tmp_path: Path) -> StandIn:
    return StandIn(tmp_path)


@pytest.fixture
def server(speaker: StandIn) -> Iterator[ViewServer]:
    there = ViewServer("127.0.0.1", 0)
    html = b'<script type="importmap">{}</script><script src="/a.js"></script>'
    there.start({"/": File(html, "text/html"), "/a.js": File(b"1" * 3_000_000, "text/javascript")}, speaker)
    yield there
    there.close()


def said(message: str | bytes) -> dict[str, object]:
    assert isinstance(message, str), "expected text"
    return dict(json.loads(message))


def samples(count: int) -> bytes:
    return np.zeros(count, "<i2").tobytes()
