"""The command line in a child of this process, which has everything loaded already."""

from __future__ import annotations

import os
import signal
import sys
import time

import torch

from facetalk.cli import main


def started(words: list[str], stdin: int, stdout: int, stderr: int) -> int:
    """The verb in a process of its own, which has everything loaded already; returns its number."""
    child = os.fork()
    if child == 0:
        status = 99
        try:
            for there, descriptor in enumerate((stdin, stdout, stderr)):
                os.dup2(descriptor, there)
            sys.stdout, sys.stderr = (os.fdopen(os.dup(there), "w") for there in (1, 2))
            signal.signal(signal.SIGINT, signal.default_int_handler)
            torch.set_num_threads(1)  # OpenMP's threads did not come along
            status = main(words)
            sys.stderr.flush()
        finally:
            os._exit(status)
    return child


def ended(child: int, seconds: float = 30.0) -> int:
    """Exit status of a process, which has to end in time."""
    limit = time.monotonic() + seconds
    while (found := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > limit:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.02)
    return os.waitstatus_to_exitcode(found[1])
