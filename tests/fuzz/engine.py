"""One process of the fuzzer: many iterations of a target, each from its own seed, under limits of memory.

    python tests/fuzz/engine.py TARGET SEED FIRST COUNT STATE FAILURES FOLDER

What it is doing stands in the file STATE, so that whoever waits for it knows where it died or hangs.
"""

from __future__ import annotations

import json
import mmap
import os
import resource
import sys
import threading
import time
import traceback
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np

MEMORY = 2 * 2**30
"""Bytes that iterations may take on top of what the process has once it is ready."""

FIELDS = ("iteration", "since", "done", "ok", "refused", "tracebacks", "out_of_memory", "finished")
"""int64 numbers of the state: the iteration that runs, since when (monotonic ns), how many ended and how."""

KEPT = 20
"""Failures that a process writes down; the rest is only counted."""


class Wrong(AssertionError):
    """A result that must not be."""


def generator(target: str, seed: int, iteration: int) -> np.random.Generator:
    """Of an iteration, whatever came before it."""
    return np.random.default_rng([seed, zlib.crc32(target.encode()), iteration])


def open_state(path: Path, *, fresh: bool = False) -> np.ndarray:
    """The numbers of FIELDS, shared by all who open the file."""
    if fresh:
        path.write_bytes(bytes(8 * len(FIELDS)))
    with open(path, "r+b") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), 0), np.int64)


def limit_memory() -> None:
    """Bound the address space."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, now + MEMORY))


def place(error: BaseException) -> str:
    """An error's kind and text, and where in the package it came from."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "facetalk" in f.filename]
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "tests"
    text = " ".join(str(error).split())[:200]
    return f"{type(error).__name__} at {where}: {text}"


def hear_hidden() -> list[str]:
    """A list that gets errors which Python prints and does not raise: of callbacks, ``__del__``, threads."""
    hidden: list[str] = []

    def hear(told: Any) -> None:
        error = told.exc_value or told.exc_type()
        hidden.append(f"{place(error)} ({getattr(told, 'err_msg', None) or 'in a thread'})")

    sys.unraisablehook = threading.excepthook = hear
    return hidden


def main(arguments: list[str]) -> None:
    name, seed, first, count = arguments[0], *map(int, arguments[1:4])
    state_path, failures_path, folder = map(Path, arguments[4:7])
    from targets import TARGETS

    warnings.simplefilter("ignore")
    state = open_state(state_path)
    target = TARGETS[name]
    run = target.make(folder)
    if os.environ.get("FACETALK_FUZZ_UNLIMITED") != "1":  # sanitizers reserve terabytes of addresses
        limit_memory()
    kept, hidden = 0, hear_hidden()
    for iteration in range(first, first + count):
        state[0], state[1] = iteration, time.monotonic_ns()
        rng = generator(name, seed, iteration)
        hidden.clear()
        failure, ended = None, "ok"
        try:
            run(rng)
        except target.allowed as error:
            ended = "refused"
            if target.one_line and "\n" in str(error):
                failure, ended = f"a message of several lines: {place(error)}", "tracebacks"
        except MemoryError as error:
            failure, ended = place(error), "out_of_memory"
        except Exception as error:  # what this looks for
            failure, ended = place(error), "tracebacks"
        if hidden:
            failure, ended = f"printed and ignored: {hidden[0]}", "tracebacks"
        state[FIELDS.index(ended)] += 1
        if failure is not None and kept < KEPT:
            kept += 1
            with open(failures_path, "a") as file:
                file.write(json.dumps({"target": name, "iteration": iteration, "what": failure}) + "\n")
        state[2] += 1
    state[7] = 1


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent / "helpers"))
    main(sys.argv[1:])
    # What a broken operation left behind must not be freed on the way out: all is counted by now.
    os._exit(0)
