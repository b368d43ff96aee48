"""Cameras where there are none: by structure from motion in one moment's pictures, with COLMAP.

J. L. Schönberger, J.-M. Frahm, "Structure-from-motion revisited", CVPR 2016: SIFT on the CPU, every two
pictures matched, cameras placed one after the other. The scale and the axes are whatever they turn out to be;
a fit finds both by landmarks.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from facetalk.errors import InputError
from facetalk.files import atomic_path
from facetalk.fitting import colmap_run
from facetalk.fitting.colmap import read_cameras
from facetalk.fitting.pictures import Pictures
from facetalk.fitting.progress import key_of
from facetalk.optional import explain
from facetalk.reading import read_json

__all__ = ["Entry", "Lens", "find_cameras"]

Entry = dict[str, Any]
"""K, R, t and distortion of a camera, as JSON values."""

_MADE_BY = "structure from motion"
_FOCAL = (0.3, 20.0)  # of the longer side of a picture; beyond, pictures were not explained by a lens
_LOGGED = re.compile(r"[EF]\d{8} ")  # lines of glog on errors
_STEPS = 3  # that colmap_run tells of


@dataclasses.dataclass(frozen=True)
class Lens:
    """What is known about the lenses.

    Attributes:
        radial: whether they bend lines, which is one coefficient; else they are pinholes.
        shared: whether one focal length is that of all cameras.
        focal: it, in pixels, where it is known, of pictures of one size; None to find it.
    """

    radial: bool = False
    shared: bool = True
    focal: float | None = None


def find_cameras(
    path: Path, names: Sequence[str], pictures: Sequence[Pictures], lens: Lens, kept: Path | None = None
) -> dict[int, Entry]:
    """K, R, t and distortion of those cameras that can be placed, by their numbers, in a scale of their own.

    They are looked for in the moment that most cameras have a picture of; of several the first, and where it
    does not place all of them, one in the middle and the last.

    Args:
        path: of the capture, for messages.
        names: of the cameras.
        pictures: of each.
        lens: what is known about their lenses.
        kept: file where they are kept, and found by the next run with the same pictures; None keeps nothing.

    Raises:
        InputError: pycolmap is not installed, pictures of one lens have several sizes, fewer than two cameras
            can be placed, or another file lies where they are kept.
    """
    key = key_of(1, lens, list(names), [(one.names, one.stamp) for one in pictures])
    found = None if kept is None else _read(kept, key)
    if found is not None:
        return found
    sizes = {one.size for one in pictures}
    if (lens.shared or lens.focal) and len(sizes) > 1:
        some = " and ".join(f"{width} x {height}" for width, height in sorted(sizes)[:2])
        raise InputError(
            f'{path}: pictures of {some} pixels are not of one lens; say "shared": false, without a focal '
            f"length, or give K, R and t"
        )
    if importlib.util.find_spec("pycolmap") is None:
        told = explain(
            ModuleNotFoundError(name="pycolmap"),
            f"{path}: its cameras have no K, R, t (give them if you know them), and finding them in pictures",
        )
        assert told is not None
        raise told
    best: dict[int, Entry] = {}
    for moment in _moments(pictures):
        there = {i: one for i, one in enumerate(pictures) if moment < len(one) and one.has(moment)}
        placed = _placed(path, {i: one[moment] for i, one in there.items()}, lens)
        if len(placed) > len(best):
            best = placed
        if len(best) == len(there):
            break
    if len(best) < 2:
        raise InputError(
            f"{path}: no places of its {len(pictures)} cameras were found in their pictures, which have to "
            f"overlap, and to show sharp skin or surroundings with texture; give each camera K, R and t"
        )
    if kept is not None:
        rows = [{"name": names[i], "number": i, **entry} for i, entry in sorted(best.items())]
        with atomic_path(kept) as temporary:
            content = {"made_by": _MADE_BY, "key": key, "cameras": rows}
            temporary.write_text(json.dumps(content, indent=1) + "\n")
    return best


def _read(kept: Path, key: str) -> dict[int, Entry] | None:
    """What an earlier run found; None where it is of other pictures, or there is none."""
    if not kept.exists():
        return None
    told: dict[str, Any] = {}
    with contextlib.suppress(InputError):
        told = read_json(kept)
    if told.get("made_by") != _MADE_BY:
        raise InputError(f"{kept}: another file is where cameras are kept; move it, or choose another -o")
    if told.get("key") != key:
        return None
    try:
        return {
            int(row["number"]): {name: row[name] for name in ("K", "R", "t", "distortion")}
            for row in told["cameras"]
        }
    except (KeyError, TypeError, ValueError):
        return None


def _moments(pictures: Sequence[Pictures]) -> list[int]:
    """Numbers of frames to look at, the best first."""
    counts = np.zeros(max(len(one) for one in pictures), int)
    for one in pictures:
        counts[[t for t in range(len(one)) if one.has(t)]] += 1
    full = np.flatnonzero(counts == counts.max())
    return list(dict.fromkeys(int(full[i]) for i in (0, len(full) // 2, -1)))


def _placed(path: Path, shown: dict[int, Any], lens: Lens) -> dict[int, Entry]:
    """The largest set of cameras that hang together."""
    from PIL import Image

    with tempfile.TemporaryDirectory(prefix="facetalk-") as name:
        folder, work = Path(name) / "pictures", Path(name) / "work"
        folder.mkdir()
        work.mkdir()
        for i, picture in shown.items():
            Image.fromarray(picture).save(folder / f"{i}.png", compress_level=1)
        height, width = next(iter(shown.values())).shape[:2]
        _run(path, folder, work, lens, (width, height))
        models = [read_cameras(one) for one in sorted((work / "models").iterdir()) if one.is_dir()]
    largest: dict[str, Entry] = max(models, key=len, default={})
    placed = {}
    for file, entry in largest.items():
        number = int(Path(file).stem)
        focal = entry["K"][0][0] / max(shown[number].shape[:2])
        if _FOCAL[0] < focal < _FOCAL[1]:
            placed[number] = {key: np.asarray(value).tolist() for key, value in entry.items()}
    return placed


def _run(path: Path, folder: Path, work: Path, lens: Lens, size: tuple[int, int]) -> None:
    """COLMAP, in a process of its own; see :mod:`facetalk.fitting.colmap_run`."""
    options = {
        "model": "SIMPLE_RADIAL" if lens.radial else "SIMPLE_PINHOLE", "shared": lens.shared,
        "threads": torch.get_num_threads(),
        "known": lens.focal and [lens.focal, size[0] / 2, size[1] / 2, *[0.0] * lens.radial],
    }  # fmt: skip
    words = [sys.executable, "-P", colmap_run.__file__, str(folder), str(work), json.dumps(options)]
    # What it says goes to a file, so that it never waits for somebody to read it.
    with (
        (work / "errors.txt").open("w+b") as errors,
        subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors) as child,
        tqdm(total=_STEPS, unit="step", desc="cameras", disable=None) as bar,
    ):
        try:
            assert child.stdout is not None
            for _ in child.stdout:
                bar.update()
        except BaseException:
            child.kill()
            raise
        if child.wait() != 0:
            errors.seek(0)
            why = _reason(errors.read().decode(errors="replace"))
            raise InputError(
                f"{path}: COLMAP could not look for cameras ({why}); give each camera K, R and t"
            )


def _reason(said: str) -> str:
    """One line of a traceback, which ends with its reason, or of COLMAP's log, which begins with it."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    logged = [line.partition("] ")[2] for line in lines if _LOGGED.match(line)]
    return (logged or lines[-1:] or ["it says nothing"])[0][:200]
