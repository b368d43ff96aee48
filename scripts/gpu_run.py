"""Runs the steps of gpu_check.py: each in a process group of its own, every line of its result on disk at
once.

Nothing here is lost to what goes wrong on a device: a test that hangs, crashes or leaves an error that
sticks is named, and the tests behind it run in a fresh process; a step that is left out for want of time
says so.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from gpu_isolate import BROKEN, lines

POLL_S = 0.2
COLLECT_S = 240  # torch and its like are imported, from a disk that nobody has read yet
LEAST_S = 15  # below which no process is started
_TAIL = 3000  # characters of a log that explain a failure


class Record:
    """The file of a command's result: JSON lines, each of them there when it has happened."""

    def __init__(self, path: Path, log: Path) -> None:
        self.path, self.log = path, log
        for file in (path, log):
            file.parent.mkdir(parents=True, exist_ok=True)
            if file.exists():  # of an earlier run
                number = 1
                while (aside := file.with_name(f"{file.stem}.{number}{file.suffix}")).exists():
                    number += 1
                file.rename(aside)

    def add(self, text: str = "", **entry: Any) -> None:
        """Write a line, and say it."""
        with self.path.open("a") as file:
            file.write(json.dumps(entry | {"at": round(time.time(), 2)}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        if text:
            print(text, flush=True)

    def tail(self, since: int = 0) -> str:
        """The end of the log, of what was added behind `since` bytes."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(since, self.log.stat().st_size - _TAIL))
                return file.read().decode(errors="replace")
        except OSError:
            return ""

    def size(self) -> int:
        """Of the log, in bytes."""
        return self.log.stat().st_size if self.log.exists() else 0


class Clock:
    """The time that a command has."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds."""
        return self._end - time.monotonic()


def end(process: subprocess.Popen[bytes], *, gently: bool = False) -> None:
    """End a process and all that it started; one that the driver holds is left behind."""
    for number, patience in ((signal.SIGINT, 8), (signal.SIGKILL, 10)):
        if number == signal.SIGINT and not gently:
            continue
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)
            if number == signal.SIGKILL:
                return
    with suppress(ProcessLookupError, PermissionError):  # what it started and left
        os.killpg(process.pid, signal.SIGKILL)


def run(
    record: Record,
    command: Sequence[str],
    seconds: float,
    watch: Callable[[], str] = lambda: "",
    environment: dict[str, str] | None = None,
) -> tuple[int, str]:
    """Run a command with its words in the log.

    Args:
        record: whose log it is.
        command: and its arguments.
        seconds: it may take.
        watch: called several times a second; a text is the reason to end it.
        environment: variables besides this process's.

    Returns:
        its status (a negative number: the signal that ended it), and why it was ended, if it was.
    """
    limit = time.monotonic() + seconds
    with record.log.open("ab") as log:
        log.write(f"\n== {' '.join(command)}\n".encode())
        log.flush()
        try:
            process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                start_new_session=True, env=os.environ | (environment or {}),
            )  # fmt: skip
        except OSError as error:
            log.write(f"{error}\n".encode())
            return 127, str(error)
        why = ""
        try:
            while process.poll() is None:
                why = watch() or ("the time was over" if time.monotonic() > limit else "")
                if why:
                    end(process, gently=why == "the time was over")
                    break
                time.sleep(POLL_S)
        finally:
            if process.poll() is None:
                end(process)
        watch()
    return process.returncode if process.returncode is not None else -int(signal.SIGKILL), why


class Tail:
    """The lines of a file that have come since the last look; one that is not whole yet is kept for the
    next.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._at, self._rest = path, 0, ""

    def new(self) -> Iterator[dict[str, Any]]:
        """The entries."""
        try:
            with self.path.open(errors="replace") as file:
                file.seek(self._at)
                text = self._rest + file.read()
                self._at = file.tell()
        except OSError:
            return
        whole, _, self._rest = text.rpartition("\n")
        for line in whole.splitlines():
            with suppress(ValueError):
                entry = json.loads(line)
                if isinstance(entry, dict):
                    yield entry


class Isolated:
    """A series of tests, run again and again until each has had its turn.

    Args:
        record: of the command.
        step: its name.
        arguments: of pytest, by which tests are found.
        each: seconds that one test may take.
        work: a folder for the files of the series.
        environment: variables besides this process's.
        wrapper: a command to run pytest under.
    """

    def __init__(
        self,
        record: Record,
        step: str,
        arguments: Sequence[str],
        each: float,
        work: Path,
        environment: dict[str, str] | None = None,
        wrapper: Sequence[str] = (),
    ) -> None:
        self.record, self.step, self.each = record, step, each
        self.progress, self.rows = work / f"{step}.progress", work / f"{step}.rows"
        for path in (self.progress, self.rows):
            path.unlink(missing_ok=True)
        scripts = str(Path(__file__).resolve().parent)
        paths = [scripts, *filter(None, [os.environ.get("PYTHONPATH")])]
        self.environment = {
            **(environment or {}),
            "GPU_PROGRESS": str(self.progress.resolve()),
            "FACETALK_BENCH_JSON": str(self.rows.resolve()),
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONUNBUFFERED": "1",
        }
        self.command = [
            *wrapper, sys.executable, "-m", "pytest", "-p", "gpu_isolate", "-p", "no:cacheprovider", "-q",
            "--tb=short", "--continue-on-collection-errors", *arguments,
        ]  # fmt: skip
        self.counts: dict[str, int] = {}
        self._told: set[str] = set()
        self._entries, self._figures = Tail(self.progress), Tail(self.rows)
        self._running, self._since, self._finished = "", time.monotonic(), False

    def _fate(self, test: str, what: str, why: str = "", seconds: float | None = None) -> None:
        if test in self._told:  # a file that does not import is found at each new start
            return
        self._told.add(test)
        self.counts[what] = self.counts.get(what, 0) + 1
        entry: dict[str, Any] = {"step": self.step, "test": test, "what": what}
        if seconds is not None:
            entry["seconds"] = seconds
        first = why.strip().splitlines()[-1][:160] if why.strip() and what != "skipped" else ""
        text = f"   {what:<16} {test}" + (f"  ({seconds} s)" if seconds is not None else "")
        self.record.add(
            text + (f"\n      {first}" if first else ""), **entry, **({"why": why} if why else {})
        )

    def _watch(self) -> str:
        """Take down what has come; the reason to end the process, if there is one."""
        for row in self._figures.new():
            self.record.add(step=self.step, row=row)
        for entry in self._entries.new():
            self._since = time.monotonic()
            if entry.get("what") == "start":
                self._running = str(entry["test"])
            elif entry.get("what") == "finished":
                self._finished = True
            elif "test" in entry:
                self._running = ""
                why = str(entry.get("why", ""))
                self._fate(str(entry["test"]), str(entry["what"]), why, entry.get("seconds"))
        waited = time.monotonic() - self._since
        if self._running and waited > self.each:
            return f"no end after {self.each:.0f} s"
        if not self._running and waited > COLLECT_S:
            return f"nothing for {COLLECT_S} s"
        return ""

    def run(self, seconds: float) -> str:
        """Run for so long at most; what became of it: ok, failed, or why it did not come to its end."""
        clock = Clock(seconds)
        while clock.left() > LEAST_S:
            before, size = sum(self.counts.values()), self.record.size()
            self._running, self._since, self._finished = "", time.monotonic(), False
            status, why = run(self.record, self.command, clock.left() - 2, self._watch, self.environment)
            guilty = self._running
            if why == "the time was over":
                return f"the time was over{f', in {guilty}' if guilty else ''}"
            if guilty:
                how = f"hung: {why}" if why else f"ended the process with {_status(status)}"
                with self.progress.open("a") as file:  # so that it is not run again
                    file.write("\n" + json.dumps({"test": guilty, "what": "died"}) + "\n")
                self._entries = Tail(self.progress)
                list(self._entries.new())
                self._fate(guilty, "hung" if why else "died", f"{self.record.tail(size)}\n{how}")
            elif self._finished and status in (0, 1, 5):
                break
            elif status != BROKEN and sum(self.counts.values()) == before:
                return f"pytest ended with {_status(status)} before a test: {self.record.tail(size)}"
        else:
            return "the time was over"
        bad = sum(count for what, count in self.counts.items() if what not in ("passed", "skipped"))
        return "failed" if bad else "ok" if self.counts else "no test was found"


def _status(number: int) -> str:
    if number < 0:
        with suppress(ValueError):
            return signal.Signals(-number).name
    return f"status {number}"


__all__ = ["LEAST_S", "Clock", "Isolated", "Record", "Tail", "lines", "run"]
