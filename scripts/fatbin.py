"""Reads which GPUs a compiled module has machine code for, from the fat binaries inside it, without CUDA.

    python scripts/fatbin.py facetalk/_C.cpython-311-x86_64-linux-gnu.so

nvcc puts a "fat binary" per source file into section .nv_fatbin: a header (magic, version, header size,
bytes that follow), then images, each with a header of its own: kind (1 PTX, 2 machine code), its header's
size, its payload's size and, at byte 28, the compute capability. The layout is not documented; tests hold
this reader against modules whose architectures are known.
"""

import struct
import sys
from collections import Counter
from pathlib import Path

_MAGIC = 0xBA55ED50
_KINDS = {1: "compute", 2: "sm"}


def section(data: bytes, name: str) -> bytes:
    """Return the bytes of a section of a 64-bit little-endian ELF file, empty where there is none.

    Raises:
        ValueError: if this is no such file.
    """
    if data[:6] != b"\x7fELF\x02\x01":
        raise ValueError("expected a 64-bit little-endian ELF file")
    (table,) = struct.unpack_from("<Q", data, 0x28)
    size, count, names_at = struct.unpack_from("<HHH", data, 0x3A)

    def header(number: int) -> tuple[int, int, int]:
        name_offset, _, _, _, offset, length = struct.unpack_from("<IIQQQQ", data, table + number * size)
        return name_offset, offset, length

    _, names, _ = header(names_at)
    for number in range(count):
        name_offset, offset, length = header(number)
        start = names + name_offset
        if data[start : data.index(b"\0", start)].decode() == name:
            return data[offset : offset + length]
    return b""


def images(path: Path) -> Counter[str]:
    """Return how many images a module has of each target: {"sm_90": 7, "compute_120": 7}.

    Raises:
        ValueError: if the file is no ELF file, or its fat binaries are laid out in an unknown way.
    """
    fat = section(path.read_bytes(), ".nv_fatbin")
    found: Counter[str] = Counter()
    at = 0
    while at + 16 <= len(fat):
        magic, _, header_size, length = struct.unpack_from("<IHHQ", fat, at)
        if magic == 0:  # padding between fat binaries
            at += 4
            continue
        if magic != _MAGIC:
            raise ValueError(f"{path}: no fat binary at byte {at} of .nv_fatbin")
        at += header_size
        end = at + length
        while at < end:
            kind, _, image_header, payload = struct.unpack_from("<HHIQ", fat, at)
            (capability,) = struct.unpack_from("<I", fat, at + 28)
            if kind not in _KINDS or image_header < 32:
                raise ValueError(f"{path}: an image of unknown kind {kind} at byte {at} of .nv_fatbin")
            found[f"{_KINDS[kind]}_{capability}"] += 1
            at += image_header + payload
    return found


def main() -> None:
    """Print the targets of each file named on the command line."""
    for name in sys.argv[1:]:
        path = Path(name)
        targets = ", ".join(f"{target} x{count}" for target, count in sorted(images(path).items()))
        print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB, {targets or 'no CUDA code'}")


if __name__ == "__main__":
    main()
