"""Packages of npm that tests read files with, kept in the user's cache."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def packages(*wanted: str, large: bool = False) -> Path:
    """A folder with ``node_modules`` of packages like ``three@0.187.0``; else the test is skipped.

    Large ones, which take a minute to install, are fetched with ``FACETALK_NPM=all`` alone.
    """
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip(f"node and npm are needed for {wanted[0]}")
    name = "_".join(package.replace("@", "-").replace("/", "-").strip("-") for package in wanted)
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "facetalk" / name
    if not (cache / "done").is_file():
        if large and os.environ.get("FACETALK_NPM") != "all":
            pytest.skip(f"{wanted[0]} takes a minute to install: set FACETALK_NPM=all")
        cache.mkdir(parents=True, exist_ok=True)
        command = [
            "npm",
            "install",
            "--no-save",
            "--silent",
            "--ignore-scripts",
            "--prefix",
            str(cache),
            *wanted,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240)
        if done.returncode:
            pytest.skip(f"npm could not install {wanted[0]}: {done.stderr.strip()[-200:]}")
        (cache / "done").touch()
    return cache
