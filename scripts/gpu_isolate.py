"""pytest -p gpu_isolate: each test's fate on disk at once, and an end to a process whose device is broken.

GPU_PROGRESS names a file of JSON lines; tests that are in it are not run again. So after a crash, a hang or
an error that sticks to the CUDA context, the same command started anew goes on behind the guilty test:
gpu_run.py does that. It needs pytest alone.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator

import pytest

BROKEN = 86
"""The exit status of a process that ended because its device answers nothing any more."""

_PATH = os.environ.get("GPU_PROGRESS", "")
_MOST = 1500  # characters of a failure's text
_phases: list[pytest.TestReport] = []


def note(**entry: object) -> None:
    """Add a line to the file, and be sure that it is there."""
    if not _PATH:
        return
    with open(_PATH, "a") as file:
        file.write(json.dumps(entry | {"at": round(time.time(), 2)}) + "\n")
        file.flush()
        os.fsync(file.fileno())


def lines(path: str) -> list[dict[str, object]]:
    """The file's lines; one that a killed process left in the middle is passed over."""
    found = []
    try:
        with open(path, errors="replace") as file:
            text = file.read()
    except OSError:
        return []
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            found.append(entry)
    return found


def _device_error() -> str:
    """What the device says when it is waited for; empty where all is well, or no device was touched."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return ""
    try:
        torch.cuda.synchronize()
    except Exception as error:
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what had its turn."""
    seen = {entry.get("test") for entry in lines(_PATH)} if _PATH else set()
    items[:] = [item for item in items if item.nodeid not in seen]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Say how many are left."""
    note(what="collected", count=len(session.items))


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Say which file does not import."""
    if report.failed:
        note(test=report.nodeid, what="not collected", why=str(report.longrepr)[-_MOST:])


def pytest_runtest_logstart(nodeid: str) -> None:
    """Say which test runs."""
    _phases.clear()
    note(test=nodeid, what="start")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """Keep the reports of its phases."""
    report = yield
    _phases.append(report)  # type: ignore[arg-type]
    return report  # type: ignore[return-value]


def pytest_runtest_logfinish(nodeid: str) -> None:
    """Say what became of it, and of the device."""
    worst = next((r for r in _phases if r.failed), None) or next((r for r in _phases if r.skipped), None)
    seconds = round(sum(r.duration for r in _phases), 3)
    error = _device_error()
    if error or (worst is not None and worst.failed):
        why = str(worst.longrepr)[-_MOST:] if worst is not None and worst.failed else ""
        what = "broke the device" if error else "failed"
        note(test=nodeid, what=what, seconds=seconds, why=f"{error}\n{why}".strip())
    elif worst is not None:
        reason = worst.longrepr[2] if isinstance(worst.longrepr, tuple) else str(worst.longrepr)
        note(test=nodeid, what="skipped", seconds=seconds, why=reason.removeprefix("Skipped: ")[-_MOST:])
    else:
        note(test=nodeid, what="passed", seconds=seconds)
    if error:
        sys.stdout.flush()
        os._exit(BROKEN)


def pytest_sessionfinish(exitstatus: int) -> None:
    """Say that this is the end."""
    note(what="finished", status=int(exitstatus))
