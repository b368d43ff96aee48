"""Work that is shared by processes: in order, with what it holds, and with a word where one dies."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest

from facetalk.errors import InputError
from facetalk.training.processes import in_processes


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_come_in_the_order_of_the_items(workers: int) -> None:
    held = np.arange(5)  # shared, and a closure, which could not be sent
    found = list(in_processes(lambda item: (item, int(held[item % 5])), iter(range(20)), workers))
    assert found == [(item, item % 5) for item in range(20)]


def test_others_do_the_work() -> None:
    assert os.getpid() not in set(in_processes(lambda _: os.getpid(), range(8), 2))


def test_an_error_of_the_work_is_the_callers() -> None:
    def refuse(item: int) -> int:
        if item == 3:
            raise InputError("three")
        return item

    with pytest.raises(InputError, match="three"):
        list(in_processes(refuse, range(6), 2))


def test_a_process_that_is_killed_is_told_of() -> None:
    def die(item: int) -> int:
        if item == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return item

    with pytest.raises(InputError, match=r"one of 2 processes was killed.*fewer --workers"):
        list(in_processes(die, range(6), 2))
