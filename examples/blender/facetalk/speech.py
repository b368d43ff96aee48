"""The ``facetalk`` command as a process beside Blender. Needs nothing of Blender."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from .take import Take, TakeError, read_take

__all__ = ["SLIDERS", "Job", "SpeechError", "arguments", "find"]

SLIDERS: dict[str, tuple[float, float, float, str]] = {
    "intensity": (0.0, 2.0, 1.0, "Factor of what the face expresses beside speech"),
    "smile": (-1.0, 1.0, 0.0, "Corners of the mouth up, or down below 0"),
    "brow_activity": (0.0, 3.0, 1.0, "Factor of what the brows do"),
    "blink_rate": (0.0, 3.0, 1.0, "Factor of the number of blinks"),
    "gaze_steadiness": (0.0, 1.0, 0.0, "0: the eyes wander as they do, 1: they look straight ahead"),
    "head_motion": (0.0, 2.0, 1.0, "Factor of the motion of the head"),
    "jaw": (0.0, 2.0, 1.0, "Factor of how far the jaw opens"),
    "lips": (0.0, 2.0, 1.0, "Factor of how far lips are rounded, spread and parted"),
}
"""The sliders of ``facetalk generate``: smallest, largest, the value that changes nothing, what it does."""

_RATES = (1.0, 1000.0)
_PATIENCE_S = 5.0
"""Given to a process that was asked to end, before it is ended."""


class SpeechError(RuntimeError):
    """No motion came out, in one line that says why."""


def find(executable: str) -> str:
    """Where the command is; an empty name looks for ``facetalk`` on the PATH.

    Raises:
        SpeechError: there is none.
    """
    name = executable.strip() or "facetalk"
    with contextlib.suppress(RuntimeError):  # ~nobody has no home
        name = str(Path(name).expanduser())
    found = shutil.which(name)
    if found is None:
        raise SpeechError(
            f"the command {name} was not found: install facetalk, or say where its command is in the "
            "preferences of this add-on"
        )
    return found


def arguments(sound: Path, rate: float, seed: int, sliders: Mapping[str, float]) -> list[str]:
    """What ``facetalk`` is asked for: curves at the scene's own frames, so that nothing is resampled.

    Of a rate that it does not give, curves come at its own and are read between rows.
    """
    words = ["generate", str(sound), "--seed", str(seed)]
    if _RATES[0] <= rate <= _RATES[1]:
        words += ["--fps", repr(rate)]
    for name, value in sliders.items():
        if value != SLIDERS[name][2]:
            words += [f"--{name.replace('_', '-')}", f"{value:.6g}"]
    return words


class Job:
    """A run of the command. Nothing of it stays on disk.

    Args:
        executable: of the command.
        words: its arguments without ``-o``.
        limit_s: seconds that it may take.

    Raises:
        SpeechError: it cannot be started.
    """

    def __init__(self, executable: str, words: list[str], limit_s: float) -> None:
        # A folder that is still in use on Windows is not worth an error.
        self._folder = tempfile.TemporaryDirectory(prefix="facetalk-", ignore_cleanup_errors=True)
        place = Path(self._folder.name)
        self._take, self._log = place / "take.json", place / "log.txt"
        self._end, self._limit = time.monotonic() + limit_s, limit_s
        try:
            # A file takes any number of lines; a pipe that nobody reads would hold the process up.
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    [executable, *words, "-o", str(self._take)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=log,
                    start_new_session=True,  # it is ended with all that it started
                    creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
                )
        except (OSError, ValueError) as error:
            self._folder.cleanup()
            raise SpeechError(f"{executable} cannot be run: {error}") from None

    def done(self) -> bool:
        """Whether it has ended. One that takes longer than it may is ended.

        Raises:
            SpeechError: it took too long.
        """
        if self._process.poll() is not None:
            return True
        if time.monotonic() > self._end:
            self.cancel()
            raise SpeechError(f"facetalk was not done after {self._limit / 60.0:g} minutes, and was ended")
        return False

    def result(self) -> tuple[Take, list[str]]:
        """What it made, and what it warned of; once, when it is done.

        Raises:
            SpeechError: it failed, by what it says itself.
        """
        try:
            said = self._log.read_bytes()[-10_000:].decode("utf-8", "replace").splitlines()
            lines = [" ".join(line.split())[:300] for line in said if line.strip()]
            if self._process.returncode != 0:
                last = lines[-1].removeprefix("error: ") if lines else "it says nothing"
                raise SpeechError(f"facetalk failed ({self._process.returncode}): {last}")
            if not self._take.is_file():
                raise SpeechError(f"{self._process.args[0]} wrote no take; is it facetalk's command?")
            try:
                take = read_take(self._take)
            except TakeError as error:
                raise SpeechError(f"what facetalk wrote cannot be read: {error}") from None
            return take, [line for line in lines if line.startswith("warning: ")]
        finally:
            self._folder.cleanup()

    def wait(self) -> tuple[Take, list[str]]:
        """:meth:`result`, as soon as it is done."""
        while not self.done():
            time.sleep(0.02)
        return self.result()

    def cancel(self) -> None:
        """End it, and what it started."""
        if self._process.poll() is None:
            self._signal("SIGTERM")
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_PATIENCE_S)
        if self._process.poll() is None:
            self._signal("SIGKILL")
            self._process.wait()
        self._folder.cleanup()

    def _signal(self, name: str) -> None:
        with contextlib.suppress(ProcessLookupError):
            if os.name == "posix":
                os.killpg(self._process.pid, getattr(signal, name))
            else:
                self._process.terminate()
