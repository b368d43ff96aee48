"""The clock: frames go out in time, late ones are dropped and counted, the newest never is."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest
from live_face import CountingStream

from facetalk.data.arkit import ARKIT_NAMES, ArkitFace
from facetalk.data.expressions import EXPRESSION_NAMES
from facetalk.live.frame import Frame, Sender
from facetalk.live.session import LATE_S, Session
from facetalk.live.sources import Chunk

JAW = ARKIT_NAMES.index("jawOpen")


class Notebook(Sender):
    where = "notebook"

    def __init__(self, trouble: str = "") -> None:
        self.frames: list[tuple[Frame, float]] = []
        self.trouble = trouble

    def send(self, frame: Frame) -> None:
        self.frames.append((frame, time.monotonic()))

    def close(self) -> None:
        pass

    @property
    def numbers(self) -> list[int]:
        return [frame.index for frame, _ in self.frames]


class Blocks:
    """A second of silence in 20 ms, due from ``begin`` on; None: without a clock."""

    name, rate, lost = "blocks", 16_000, 0.0

    def __init__(self, begin: float | None, seconds: float = 1.0, step: float = 0.02) -> None:
        self.begin, self.count, self.step = begin, round(seconds / step), step

    def __iter__(self) -> Iterator[Chunk]:
        for block in range(1, self.count + 1):
            due = None if self.begin is None else self.begin + block * self.step
            yield Chunk(np.zeros(round(self.step * self.rate), np.float32), due)

    def close(self) -> None:
        pass


def session(*senders: Sender, look_ahead: float = 0.2) -> Session:
    return Session(CountingStream(look_ahead=look_ahead), ArkitFace(EXPRESSION_NAMES), senders)


def test_without_a_clock_every_frame_goes_out_in_order() -> None:
    notebook = Notebook()
    run = session(notebook)
    run.run(Blocks(None))
    assert notebook.numbers == list(range(25)) and run.late == 0
    for frame, _ in notebook.frames:
        assert frame.weights[JAW] == pytest.approx(frame.index / 1000.0)
        assert frame.time == (frame.index + 0.5) / 25.0
    assert run.report(Blocks(None)) == "blocks: 25 frames sent"


def test_no_frame_goes_out_before_its_time() -> None:
    """What the end of the sound sets free at once is not sent at once either."""
    notebook = Notebook()
    begin = time.monotonic() - 0.9
    session(notebook, look_ahead=0.2).run(Blocks(begin))
    for frame, sent in notebook.frames:
        assert sent >= begin + frame.time + 0.2 - 1e-3
    assert notebook.numbers[-1] == 24


def test_what_is_late_is_dropped_and_counted() -> None:
    notebook = Notebook()
    run = session(notebook)
    # Everything was heard ten seconds ago, in two pieces.
    run.run(Blocks(time.monotonic() - 10.0, step=0.5))
    # The newest of each piece, and of the end: half a second, a second, and what waited.
    assert notebook.numbers == [7, 19, 24]
    assert run.late == 22
    assert run.report(Blocks(None)) == "blocks: 3 frames sent, 22 dropped, being late"


def test_a_little_late_is_no_matter() -> None:
    notebook = Notebook()
    run = session(notebook)
    run.run(Blocks(time.monotonic() - 1.2 - 0.2 * LATE_S, step=0.02))
    assert run.frames == 25 and run.late == 25 - len(notebook.frames)


def test_sound_cards_that_go_slower_than_the_clock_never_make_it_late() -> None:
    """Of an hour of drift nothing is left: due is what came last, not what the first promised."""
    notebook = Notebook()
    run = session(notebook, look_ahead=0.0)

    class Slow(Blocks):
        def __iter__(self) -> Iterator[Chunk]:
            for chunk in super().__iter__():
                time.sleep(0.03)  # 20 ms of sound every 30 ms
                yield Chunk(chunk.samples, time.monotonic())

    run.run(Slow(0.0))
    assert run.late == 0 and notebook.numbers == list(range(25))


def test_all_receivers_get_all_and_trouble_is_told_once() -> None:
    told: list[str] = []
    senders = [Notebook(), Notebook("nobody listens"), Notebook()]
    senders[2].dropped = 4
    run = Session(CountingStream(), ArkitFace(EXPRESSION_NAMES), senders, warn=told.append)
    run.run(Blocks(None))
    assert all(len(sender.frames) == 25 for sender in senders)
    assert told == ["notebook: nobody listens"]
    assert run.report(Blocks(None)) == "blocks: 25 frames sent, 4 dropped by notebook"
