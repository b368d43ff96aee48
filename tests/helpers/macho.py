"""What a library for macOS says of itself: its name, what it needs, what it gives."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

PROCESSORS = {0x0100000C: "arm64", 0x01000007: "x86_64"}


@dataclass
class Dylib:
    """A thin 64-bit Mach-O file."""

    processor: str
    name: str = ""
    needs: list[str] = field(default_factory=list)
    exports: list[str] = field(default_factory=list)


def read_dylib(path: Path) -> Dylib:
    """Reads load commands and the symbols that others see (mach-o/loader.h, nlist.h)."""
    data = path.read_bytes()
    magic, processor, _, kind, count, *_ = struct.unpack_from("<7I", data)
    assert magic == 0xFEEDFACF and kind == 6, "no 64-bit dylib"
    told = Dylib(PROCESSORS[processor])
    at = 32
    for _ in range(count):
        command, size = struct.unpack_from("<2I", data, at)
        command &= 0x7FFFFFFF
        if command in (0xC, 0xD):  # LC_LOAD_DYLIB, LC_ID_DYLIB
            start = at + struct.unpack_from("<I", data, at + 8)[0]
            name = data[start : data.index(b"\0", start)].decode()
            if command == 0xD:
                told.name = name
            else:
                told.needs.append(name)
        elif command == 0x2:  # LC_SYMTAB
            symbols, number, strings, _ = struct.unpack_from("<4I", data, at + 8)
            for i in range(number):
                text, flags, _, _, _ = struct.unpack_from("<IBBHQ", data, symbols + 16 * i)
                # External, defined in a section, neither private nor for a debugger.
                if flags & 0xF1 == 0x1 and flags & 0x0E == 0x0E:
                    first = strings + text
                    told.exports.append(data[first : data.index(b"\0", first)].decode())
        at += size
    return told
