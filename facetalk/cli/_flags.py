"""``python -m facetalk --cflags --libs``: what a compiler, or CMake, needs to use the C library."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from facetalk.library import get_include, get_library


def run(words: Sequence[str]) -> int:
    """Print the flags that are asked for, in one line."""
    parser = argparse.ArgumentParser(prog="python -m facetalk", description=__doc__)
    parser.add_argument("--cflags", action="store_true", help="where facetalk.h is, for the compiler")
    parser.add_argument("--libs", action="store_true", help="the library and where it is, for the linker")
    parser.add_argument("--include", action="store_true", help="the folder of facetalk.h")
    parser.add_argument("--library", action="store_true", help="the path of libfacetalk.so")
    parser.add_argument("--cmakedir", action="store_true", help="the folder for CMake's facetalk_DIR")
    asked = parser.parse_args(words)
    folder = str(Path(get_library()).parent)
    out = []
    if asked.include:
        out.append(get_include())
    if asked.library:
        out.append(get_library())
    if asked.cmakedir:
        out.append(str(Path(folder).parent / "cmake"))
    if asked.cflags:
        out.append(shlex.quote(f"-I{get_include()}"))
    if asked.libs:
        # The path at run time too, so that what was linked finds it where it is.
        out += [shlex.quote(f"-L{folder}"), shlex.quote(f"-Wl,-rpath,{folder}"), "-lfacetalk"]
    print(" ".join(out))
    return 0
