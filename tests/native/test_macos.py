"""The library for macOS, which nothing here can run: whether it is one, and what it says of itself.

`scripts/macos.sh` makes it for both processors (`make macos`); without it nothing here runs.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from macho import read_dylib

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("processor", ["arm64", "x86_64"])
def test_it_is_found_beside_the_program_and_gives_the_header(processor: str) -> None:
    path = ROOT / "build/macos" / processor / "lib/libfacetalk.dylib"
    if not path.is_file():
        pytest.skip("no library for macOS here: make macos")
    told = read_dylib(path)
    assert told.processor == processor and told.name == "@rpath/libfacetalk.0.dylib"
    # The C++ library is inside, and takes the library's own memory.
    assert told.needs == ["/usr/lib/libSystem.B.dylib"]
    header = (ROOT / "csrc/facetalk.h").read_text()
    declared = re.findall(r"^FACETALK_API .*?\b(facetalk_\w+)\(", header, re.M)
    linkers = {"__mh_dylib_header", "___dso_handle"}  # zig's, which no program asks for
    assert sorted(set(told.exports) - linkers) == sorted(f"_{name}" for name in declared)
