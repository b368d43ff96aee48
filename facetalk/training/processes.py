"""Processes: those that share a training (``accelerate launch``), and those that prepare its data."""

from __future__ import annotations

import contextlib
import datetime
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import numpy as np
import torch

from facetalk.errors import InputError

__all__ = [
    "by_main_process",
    "check_workers",
    "in_processes",
    "is_main_process",
    "main_process_first",
    "process_count",
    "process_index",
    "quick_products",
    "step_generator",
]

Item = TypeVar("Item")
Result = TypeVar("Result")


def process_index() -> int:
    """Number of this process among those of a launch, from 0; launchers state it in the environment."""
    return int(os.environ.get("RANK", "0"))


def process_count() -> int:
    """Number of processes of a launch, 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Whether this is the process that writes."""
    return process_index() == 0


_PATIENCE = datetime.timedelta(days=7)
"""How long processes wait for what the main one does for all; torch's own limit is minutes."""


def by_main_process(work: Callable[[], object], what: str) -> None:
    """Have the main process of a launch do what is to be done once, while the others wait for it.

    It begins when all have come here, so it may remove what they read before, and find what they wrote.

    Args:
        work: what is done; its result is dropped.
        what: what it is, for the others' message if it fails: the beginning of a sentence.

    Raises:
        InputError: in the others, the main process did not get to the end.
        BaseException: in the main process, what ``work`` raised.
    """
    if process_count() < 2:
        work()
        return
    from accelerate import Accelerator  # a second, and only launches need it

    Accelerator()  # joins the processes of the launch as the training's own will have them
    # Over the host's network whatever the processes train on: a GPU's collectives do not wait for long.
    group = torch.distributed.new_group(backend="gloo", timeout=_PATIENCE)
    torch.distributed.barrier(group)
    done = torch.zeros(1)
    if is_main_process():
        try:
            work()
            done += 1
        finally:
            torch.distributed.broadcast(done, 0, group)
    else:
        torch.distributed.broadcast(done, 0, group)
    torch.distributed.destroy_process_group(group)
    if not done:
        raise InputError(f"{what} failed in the main process, which says why")


def main_process_first(work: Callable[[], Result], what: str) -> Result:
    """Do the same in all processes of a launch, in the main one first: the others find the files it wrote.

    Args:
        work: what is done; it looks for files and makes those that are missing.
        what: what it is, see :func:`by_main_process`.

    Returns:
        What ``work`` returned in this process.

    Raises:
        InputError: in the others, the main process did not get to the end.
        BaseException: what ``work`` raised in this process.
    """
    results: list[Result] = []
    by_main_process(lambda: results.append(work()), what)
    return results[0] if results else work()


def step_generator(seed: int, index: int) -> np.random.Generator:
    """Random numbers of a step, the same in every session, and others in every process of a launch."""
    rank = process_index()
    return np.random.default_rng((seed, index, rank) if rank else (seed, index))


def check_workers(workers: int) -> None:
    """Refuse a number of workers that is none, or that this system cannot have.

    Raises:
        InputError: it is negative, or processes cannot be forked here.
    """
    if workers < 0:
        raise InputError(f"the number of workers is {workers}; give 0 (this process does it all) or more")
    if workers and sys.platform in ("win32", "darwin"):
        raise InputError(f"workers need fork, which is not to be had on {sys.platform}; leave --workers out")


def in_processes(work: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """``map(work, items)`` by several processes, in order.

    What ``work`` holds is shared with this process, not sent; items and results are sent. To be called before
    a GPU is used, which a copy of a process cannot.

    Args:
        work: what is done to an item, on one thread.
        items: what it is done to.
        workers: processes; below 2 this process does it.

    Raises:
        InputError: a process was killed, or that number cannot be had.
    """
    check_workers(workers)
    if workers < 2:
        yield from map(work, items)
        return
    fork = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(workers, mp_context=fork, initializer=_begin, initargs=(work,))
    try:
        yield from pool.map(_do, items)
    except BrokenProcessPool as error:
        raise InputError(
            f"one of {workers} processes was killed, for want of memory perhaps; use fewer --workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


_work: Callable[[Any], Any]
"""Of a process of a pool."""


def _begin(work: Callable[[Any], Any]) -> None:
    global _work
    _work = work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that waits for this one says what happens
    torch.set_num_threads(1)


def _do(item: Any) -> Any:
    return _work(item)


@contextlib.contextmanager
def quick_products(device: torch.device) -> Iterator[None]:
    """On CUDA, matrix products with TF32's ten bits of mantissa, many times as fast; sums stay float32."""
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
