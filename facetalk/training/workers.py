"""Batches drawn ahead in worker processes, over torch's ``DataLoader``.

A batch is a function of the step's number alone (:func:`facetalk.training.processes.step_generator`), so it
is the same whoever draws it, and a training that is resumed, with any number of workers, goes on as one that
was never broken off. Workers are forks: they share what the function refers to, a
corpus for example, with the training and with each other, and nothing of it is copied or sent. They never
touch CUDA.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from facetalk.errors import InputError
from facetalk.reading import one_line
from facetalk.training.processes import check_workers

__all__ = ["Batch", "Drawn"]

Batch = dict[str, Tensor]
_AHEAD = 3
"""Batches that each worker has ready or in hand."""
_SHARED_MEMORY = "/dev/shm"
_LOST = re.compile(r"DataLoader worker|worker process", re.IGNORECASE)


class Drawn:
    """The batch of a step, drawn ahead where there are workers.

    A context manager: leaving it ends the workers. If one dies, which torch may tell at any moment of the
    training, it says so in one line.

    Args:
        make: the batch of a step, a function of its number; called in the workers.
        workers: processes; 0 calls ``make`` in this one.
        pinned: have the batches in memory from which CUDA copies without waiting.
    """

    def __init__(self, make: Callable[[int], Batch], workers: int = 0, *, pinned: bool = False) -> None:
        check_workers(workers)
        self._make, self._workers, self._pinned = make, workers, pinned
        self._stream: Iterator[dict[str, Any]] | None = None
        self._next = -1

    def __call__(self, index: int) -> Batch:
        """The batch of step ``index``; asking for the one after the last is what was prepared for."""
        if not self._workers:
            return self._make(index)
        if self._stream is not None and index == self._next:
            self._next += 1
            try:
                drawn = next(self._stream)
            except (ConnectionError, EOFError, FileNotFoundError) as error:
                # It died with a batch in hand, whose memory was its to pass on.
                raise _died(error) from error
            return {name: torch.as_tensor(value) for name, value in drawn.items()}
        self._end()
        batch = self._make(index)
        size = sum(value.numel() * value.element_size() for value in batch.values())
        shared = _fits_shared_memory(size * self._workers * _AHEAD)
        self._next = index + 1
        loader: DataLoader[Any] = DataLoader(
            _Steps(self._make, shared),
            batch_size=None,
            sampler=itertools.count(self._next),  # type: ignore[arg-type]  # an iterable without an end
            num_workers=self._workers,
            collate_fn=_as_is,
            prefetch_factor=_AHEAD,
            pin_memory=self._pinned,
            worker_init_fn=_prepare,
            multiprocessing_context="fork",
        )
        self._stream = iter(loader)
        return batch

    def _end(self) -> None:
        """End the workers now: the stream's own way waits until nothing refers to it, a traceback for one."""
        stream, self._stream = self._stream, None
        if stream is None:
            return
        try:
            stream._shutdown_workers()  # type: ignore[attr-defined]
        except RuntimeError as error:
            # torch tells of a dead worker whenever the signal comes, in the middle of ending them too.
            if not _LOST.search(str(error)):
                raise

    def __enter__(self) -> Drawn:
        """Nothing is started before the first batch."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the workers.

        Raises:
            InputError: the training ended because one of them did.
        """
        self._end()
        if isinstance(error, RuntimeError) and _LOST.search(str(error)):
            raise _died(error) from error


def _died(error: BaseException) -> InputError:
    return InputError(
        f"a worker that draws batches died ({one_line(error, 120)}); there may be too little memory: "
        f"--resume with fewer --workers, or with none"
    )


class _Steps(Dataset[Any]):
    """Batches by number, as tensors in shared memory or as arrays that go through a pipe."""

    def __init__(self, make: Callable[[int], Batch], shared: bool) -> None:
        self._make, self._shared = make, shared

    def __getitem__(self, index: int) -> dict[str, Any]:
        batch = self._make(index)
        return batch if self._shared else {name: value.numpy() for name, value in batch.items()}


def _as_is(batch: Any) -> Any:
    return batch


def _fits_shared_memory(size: int) -> bool:
    """Whether there is room for so many bytes: containers often have 64 MB, and a process that writes beyond
    that is killed."""
    try:
        state = os.statvfs(_SHARED_MEMORY)
    except OSError:
        return False
    return state.f_bavail * state.f_frsize > 2 * size


def _prepare(number: int) -> None:
    """In a worker: signals that end a run are the training's, which ends its workers when it has saved."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
