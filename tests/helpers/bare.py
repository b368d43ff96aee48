"""A Python that has nothing but what ``pip install facetalk`` brings, as a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import facetalk
from facetalk.optional import EXTRAS

_HIDE = """
import sys
HIDDEN = {hidden!r}
class Hiding:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in HIDDEN else self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)
sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]
sys.path.insert(0, {home!r})
"""


def run_bare(code: str, folder: Path, *, hide: bool = True) -> str:
    """Run code where no extra is installed, and return what it prints.

    Args:
        code: the program.
        folder: its working directory.
        hide: False leaves everything that is installed where it is.
    """
    hidden = sorted(EXTRAS) if hide else []
    home = str(Path(facetalk.__file__).resolve().parents[1])
    done = subprocess.run(
        [sys.executable, "-c", _HIDE.format(hidden=hidden, home=home) + code],
        capture_output=True, text=True, cwd=folder, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout
