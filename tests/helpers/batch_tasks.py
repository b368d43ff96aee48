"""A task of a batch that takes no model, whose recordings say by their names what happens to them.

As a script it is a driver that a test can kill: ``batch_tasks.py OUT SECONDS NAME...``.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from facetalk.batch.generate import drive
from facetalk.batch.listing import Recording
from facetalk.batch.place import Place
from facetalk.batch.work import Result, failure
from facetalk.batch.workers import Pool
from facetalk.errors import InputError

SETTINGS = {"to": "text"}


def task(pause: Any, recording: Recording, folder: Path | None = None) -> Result:
    """Text of the recording's name; "deadly" ends its process, "bad" is refused, "full" finds no space,
    "barred" has a bar of progress."""
    name = recording.name
    if "barred" in name:
        tqdm(disable=True).close()  # as whatever has a bar to show where somebody watches
    time.sleep(float(pause))
    if "deadly" in name:
        os.kill(os.getpid(), signal.SIGKILL)
    if "bad" in name:
        return Result(failure(recording, InputError(f"{name}: no sound")))
    if "full" in name:
        raise OSError(28, "no space left on the device")
    if "unfit" in name:
        return Result({}, fatal="these options fit no model")
    data = (name * 1000).encode()
    row = {
        "id": name, "audio": recording.audio, "status": "done", "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(), "pid": os.getpid(),
    }  # fmt: skip
    if folder is None:
        return Result(row, data)
    place = folder / f"done.{hashlib.sha256(name.encode()).hexdigest()}"
    place.write_bytes(data)
    return Result(row, place)


def recordings(names: list[str]) -> list[Recording]:
    """Recordings that no file is behind."""
    return [Recording(name, f"sound://{name}") for name in names]


def run(out: object, names: list[str], *, pause: float = 0.0, workers: int = 2, **more: Any) -> Any:
    """A batch of such recordings on a pool."""
    hire = more.pop("hire", None) or (lambda folder: Pool(task, pause, workers, folder))
    settings = more.pop("settings", SETTINGS)
    return drive(recordings(names), Place(str(out)), settings, hire, suffix=".txt", **more)


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[3:], pause=float(sys.argv[2]))
