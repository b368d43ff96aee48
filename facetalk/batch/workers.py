"""Workers: processes of this machine, or of a Ray cluster, that a driver gives recordings to.

Both are given the same function, and both answer with the futures of Python's ``concurrent.futures``.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from facetalk.batch.listing import Recording
from facetalk.batch.work import Result, Task, failure
from facetalk.errors import InputError

_TRIES = 2
"""How often a recording may end the worker that does nothing else beside it."""
_RETRIES = 3
"""How often Ray tries a recording again whose worker or machine died."""
_HOPELESS = 3
"""Recordings in a row, from the first on, that ended their workers: then it is not the recordings."""


class Workers(Protocol):
    """What a driver needs of workers."""

    share_fate: bool
    """Whether one death ends everything that is under way."""

    def width(self) -> int:
        """How many recordings may be under way."""

    def submit(self, recording: Recording) -> Future[Result]:
        """Give a recording to a worker."""

    def is_death(self, error: BaseException | None) -> bool:
        """Whether the error of a future says that a worker died."""

    def answer(self, future: Future[Result]) -> Result:
        """The result of a task, or what it raised."""

    def renew(self) -> None:
        """Bring new workers in after a death."""

    def close(self, *, now: bool) -> None:
        """Send the workers home; ``now``: also those that are at something."""


class Pool:
    """Processes of this machine, started afresh (not forked: threads of the driver would be lost in them).

    Args:
        task: what a worker does with a recording.
        settings: of the task.
        count: how many processes.
        folder: where they put outputs, so that only rows pass through the pipe: a worker that is killed
            within a long message would leave the driver waiting for the rest of it.
    """

    share_fate = True

    def __init__(self, task: Task, settings: Any, count: int, folder: Path) -> None:
        self._call = (task, settings)
        self._count, self._folder = count, folder
        # Nobody writes into it: it ends with the driver, however that ends, and so do those who read it.
        self._theirs, self._ours = multiprocessing.get_context("spawn").Pipe(duplex=False)
        self.renew()

    def width(self) -> int:
        """One more than can be worked on, so that nobody waits for the driver."""
        return self._count + 1

    def is_death(self, error: BaseException | None) -> bool:
        """Whether a process ended without an answer."""
        return isinstance(error, BrokenProcessPool)

    def answer(self, future: Future[Result]) -> Result:
        """What the process sent."""
        return future.result()

    def renew(self) -> None:
        """Start new processes."""
        self._executor = ProcessPoolExecutor(
            self._count, multiprocessing.get_context("spawn"), _end_with_driver, (self._theirs,)
        )

    def submit(self, recording: Recording) -> Future[Result]:
        """Give a recording to a process."""
        task, settings = self._call
        try:
            return self._executor.submit(task, settings, recording, self._folder)
        except BrokenProcessPool:  # one died that had nothing to do
            self.renew()
            return self._executor.submit(task, settings, recording, self._folder)

    def close(self, *, now: bool) -> None:
        """End the processes."""
        if now:
            self._ours.close()
        self._executor.shutdown(cancel_futures=True)
        for end in (self._ours, self._theirs):
            end.close()


def _end_with_driver(driver: Connection) -> None:
    """In a worker: end when the driver does, and leave Ctrl-C, which reaches both, to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A lock between processes would be left behind by one that ends in the middle, and told of at the end.
    tqdm.set_lock(threading.RLock())

    def watch() -> None:
        with contextlib.suppress(EOFError, OSError):
            driver.recv_bytes()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class RayCluster:
    """Processes of a Ray cluster. Ray places the tasks, and does them again when a worker or a machine dies.

    Args:
        task: what a worker does with a recording.
        settings: of the task; ``settings.device`` tells whether a worker gets a GPU of its own.
        address: as ``ray.init`` takes it: ``auto``, ``HOST:PORT``, ``ray://HOST:PORT``; or ``local``, a
            cluster of this machine that ends with the driver.
        count: how many recordings are under way at most; of a local cluster, its workers.

    Raises:
        InputError: Ray is not installed, or there is no cluster at the address.
    """

    share_fate = False

    def __init__(self, task: Task, settings: Any, address: str, count: int | None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told of who uses it
        try:
            import ray
        except ImportError as error:
            raise InputError("Ray is not installed; `pip install 'facetalk[ray]'`") from error
        self._ray, self._settings, self._count = ray, settings, count
        self._gpu = str(getattr(settings, "device", "cpu")).startswith("cuda")
        self._own = not ray.is_initialized()
        if self._own:
            options: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": "error"}
            if address == "local":
                options |= {"num_cpus": count, "include_dashboard": False}
            ends = signal.getsignal(signal.SIGTERM)
            try:
                ray.init(**options)
            except Exception as error:  # ConnectionError, ValueError, RuntimeError: by the kind of address
                reason = " ".join(str(error).split())[:200]
                raise InputError(f"no Ray cluster at {address!r}: {reason}") from error
            finally:
                # Ray ends the process at SIGTERM by a handler of its own, past what we clean up then.
                if threading.current_thread() is threading.main_thread():
                    signal.signal(signal.SIGTERM, ends)
        # A worker is one thread (OMP_NUM_THREADS as well, which Ray sets by the number of CPUs).
        remote: Any = ray.remote(num_cpus=1, num_gpus=int(self._gpu), max_retries=_RETRIES)
        self._task = remote(task)

    def width(self) -> int:
        """Twice the cluster's processors (or GPUs), which may become more as it runs."""
        if self._count is not None:
            return self._count
        return 2 * max(1, int(self._ray.cluster_resources().get("GPU" if self._gpu else "CPU", 1)))

    def submit(self, recording: Recording) -> Future[Result]:
        """Give a recording to Ray."""
        future: Future[Result] = self._task.remote(self._settings, recording).future()
        return future

    def is_death(self, error: BaseException | None) -> bool:
        """Whether Ray gave a task up, having tried again; an error of the task itself is none."""
        known = self._ray.exceptions
        return isinstance(error, known.RayError) and not isinstance(error, known.RayTaskError)

    def answer(self, future: Future[Result]) -> Result:
        """What the task gave.

        Raises:
            InputError: it could not be run there.
            OSError: it found no space.
        """
        try:
            return future.result()
        except OSError:
            raise
        except self._ray.exceptions.RayTaskError as error:
            reason = " ".join(str(error.cause).split())[-300:]
            raise InputError(
                f"a worker of the cluster cannot do its task; install the same facetalk and Python there: "
                f"{reason}"
            ) from error

    def renew(self) -> None:
        """Nothing: Ray does it."""

    def close(self, *, now: bool) -> None:
        """Leave the cluster; what the driver still has under way there ends."""
        if self._own:
            self._ray.shutdown()


def results(workers: Workers, recordings: Iterable[Recording]) -> Iterator[tuple[Recording, Result]]:
    """Do recordings and yield what came of them, as it comes.

    Where a death ends all that is under way, the recordings that were are done again one by one, so that the
    one that ends its worker is found, and becomes a row.

    Raises:
        InputError: the workers die whatever they are given.
        OSError: a worker found no space for an output.
    """
    waiting, suspects = deque(recordings), deque[Recording]()
    running: dict[Future[Result], Recording] = {}
    tries, lost, alive = Counter[str](), 0, False
    while waiting or suspects or running:
        if suspects and not running:
            suspect = suspects.popleft()
            running[workers.submit(suspect)] = suspect
        while waiting and not suspects and len(running) < workers.width():
            recording = waiting.popleft()
            running[workers.submit(recording)] = recording
        done = wait(running, return_when=FIRST_COMPLETED).done
        if workers.share_fate and any(workers.is_death(future.exception()) for future in done):
            done = wait(running).done
        dead = []
        for future in done:
            recording = running.pop(future)
            if workers.is_death(future.exception()):
                dead.append(recording)
            else:
                alive = True
                yield recording, workers.answer(future)
        if not dead:
            continue
        workers.renew()
        certain = not workers.share_fate or len(dead) == 1
        for recording in dead:
            tries[recording.name] += certain
            if workers.share_fate and tries[recording.name] < _TRIES:
                suspects.append(recording)
                continue
            lost += 1
            if lost >= _HOPELESS and not alive:
                raise InputError(
                    "workers die before they finish anything: too little memory (use fewer workers), or a "
                    'script that starts a batch outside `if __name__ == "__main__":`'
                )
            yield recording, Result(failure(recording, "the worker died of it: too little memory?"))
