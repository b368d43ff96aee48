"""Batches drawn ahead: the same with any number of workers, and an end that leaves nothing behind."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from facetalk.errors import InputError
from facetalk.training import workers
from facetalk.training.processes import step_generator
from facetalk.training.workers import Batch, Drawn

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forks")


def draw(index: int) -> Batch:
    rng = step_generator(3, index)
    values = torch.from_numpy(rng.normal(size=(2, 4)).astype(np.float32))
    return {"values": values, "by": torch.tensor(os.getpid()), "seed": torch.tensor(index)}


def gone(process: int) -> bool:
    """Whether a process has ended, a few seconds given."""
    for _ in range(100):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("room", [True, False])
def test_batches_are_the_same_whoever_draws_them(room: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_fits_shared_memory", lambda size: room)
    with Drawn(draw, 2) as drawn:
        found = [drawn(index) for index in (5, 6, 7, 8, 20, 21)]  # a resumed training begins anywhere
    for index, batch in zip((5, 6, 7, 8, 20, 21), found, strict=True):
        assert torch.equal(batch["values"], draw(index)["values"]) and int(batch["seed"]) == index
    others = {int(batch["by"]) for batch in found} - {os.getpid()}
    assert len(others) > 1 and all(map(gone, others))


def test_none_draws_in_the_training_itself() -> None:
    with Drawn(draw) as drawn:
        assert int(drawn(4)["by"]) == os.getpid()


def test_a_worker_that_dies_is_told_in_one_line() -> None:
    died = r"a worker that draws batches died .*--resume"
    with pytest.raises(InputError, match=died) as told, Drawn(draw, 2) as drawn:
        drawn(0)
        os.kill(int(drawn(1)["by"]), signal.SIGKILL)
        for index in range(2, 40):
            drawn(index)
            time.sleep(0.05)
    assert "\n" not in str(told.value)


def test_a_death_told_while_workers_are_ended_hides_nothing() -> None:
    class Ending:
        def _shutdown_workers(self) -> None:
            raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")

    with pytest.raises(InputError, match="as it was"), Drawn(draw, 1) as drawn:
        drawn._stream = Ending()  # type: ignore[assignment]
        raise InputError("as it was")


def test_signals_are_the_trainings() -> None:
    """Ctrl-C of a terminal goes to all of its processes; the training saves first, with its workers alive."""
    with Drawn(draw, 1) as drawn:
        drawn(0)
        worker = int(drawn(1)["by"])
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(worker, number)
        assert [int(drawn(index)["by"]) for index in range(2, 12)] == [worker] * 10
    assert gone(worker)


def test_what_the_function_refers_to_is_shared_and_not_sent(tmp_path: Path) -> None:
    class Corpus:
        def __reduce__(self) -> tuple[object, ...]:
            raise AssertionError("pickled")

        sound = np.arange(5)

    corpus = Corpus()
    with Drawn(lambda index: {"x": torch.tensor(int(corpus.sound[index]))}, 1) as drawn:
        assert [int(drawn(index)["x"]) for index in range(4)] == [0, 1, 2, 3]


def test_no_number_of_workers() -> None:
    with pytest.raises(InputError, match="the number of workers is -1"):
        Drawn(draw, -1)
