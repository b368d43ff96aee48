"""Reads which GPUs a compiled module has machine code for, from the fat binaries inside it, without CUDA.

    python scripts/fatbin.py facetalk/_C.cpython-311-x86_64-linux-gnu.so
    python scripts/fatbin.py --need 80,90 --most-mib 60 dist/facetalk-*.whl    # fails unless it is so

nvcc puts a "fat binary" per source file into section .nv_fatbin: a header (magic, version, header size,
bytes that follow), then images, each with a header of its own: kind (1 PTX, 2 machine code), its header's
size, its payload's size and, at byte 28, the compute capability, whose letter is in the flags at byte 40. The
layout is not documented; tests hold this reader against modules whose architectures are known.
"""

import argparse
import struct
import sys
import zipfile
from collections import Counter
from pathlib import Path

_MAGIC = 0xBA55ED50
_KINDS = {1: "compute", 2: "sm"}
_LETTERS = {1 << 20: "a", 1 << 21: "f"}  # by flag


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


def module_bytes(path: Path) -> bytes:
    """Return the bytes of a module, or of the one in a wheel.

    Raises:
        ValueError: if a wheel does not hold exactly one.
    """
    if path.suffix != ".whl":
        return path.read_bytes()
    with zipfile.ZipFile(path) as wheel:
        modules = [name for name in wheel.namelist() if name.startswith("facetalk/_C.")]
        if len(modules) != 1:
            raise ValueError(f"{path}: expected one facetalk/_C module, found {len(modules)}")
        return wheel.read(modules[0])


def images(path: Path) -> Counter[str]:
    """Return how many images a module or wheel has of each target: {"sm_90a": 7, "compute_120": 7}.

    Raises:
        ValueError: if the file is no ELF file, or its fat binaries are laid out in an unknown way.
    """
    fat = section(module_bytes(path), ".nv_fatbin")
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
            if kind not in _KINDS or image_header < 48:
                raise ValueError(f"{path}: an image of unknown kind {kind} at byte {at} of .nv_fatbin")
            (flags,) = struct.unpack_from("<Q", fat, at + 40)
            letter = "".join(name for flag, name in _LETTERS.items() if flags & flag)
            found[f"{_KINDS[kind]}_{capability}{letter}"] += 1
            at += image_header + payload
    return found


def main() -> None:
    """Print the targets of each file named on the command line, and check them if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("files", nargs="+", type=Path, help="modules or wheels")
    parser.add_argument("--need", default="", metavar="ARCHS", help='machine code there must be, as "80,90"')
    parser.add_argument("--most-mib", type=float, metavar="MIB", help="the size a file may have")
    args = parser.parse_args()
    failed = False
    for path in args.files:
        try:
            found, mib = images(path), path.stat().st_size / 2**20
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            sys.exit(f"error: {path}: {error}")
        targets = ", ".join(f"{target} x{count}" for target, count in sorted(found.items()))
        print(f"{path}: {mib:.1f} MiB, {targets or 'no CUDA code'}")
        missing = [arch for arch in args.need.split(",") if arch and f"sm_{arch}" not in found]
        if missing:
            print(f"error: no machine code for sm_{', sm_'.join(missing)}")
        if args.most_mib is not None and mib > args.most_mib:
            print(f"error: larger than {args.most_mib:g} MiB")
        failed |= bool(missing) or (args.most_mib is not None and mib > args.most_mib)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
