"""Reading glTF 2.0 files from anybody: accessors as arrays, every size checked before anything is allocated.

A file may say anything: sizes that its data does not have, strides of 2^62, buffers that are somebody's
password file. What is read here takes memory in proportion to the file's own bytes, and comes from the file
itself; from files beside it only when the caller allows that.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import stat
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from facetalk.errors import InputError
from facetalk.mesh.gltf_json import Fields, Json

MAX_FILE = 2**32
"""Bytes of a file: what the lengths in a .glb, which have 32 bits, can say."""
MAX_JSON = 2**26
"""Bytes of JSON. A talking head has some kB, a flip-book one kB a frame; parsed, it takes ten times this."""
MAX_ELEMENTS = 2**24
"""Elements of an accessor without data (zeros, or zeros with exceptions), whose size nothing else bounds."""

_MAGIC, _VERSION, _JSON, _BIN = 0x46546C67, 2, 0x4E4F534A, 0x004E4942
_DTYPE = {
    code: np.dtype(name).newbyteorder("<")
    for name, code in (
        ("int8", 5120),
        ("uint8", 5121),
        ("int16", 5122),
        ("uint16", 5123),
        ("uint32", 5125),
        ("float32", 5126),
    )
}
_WIDTH = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
_STRIDES = (4, 252)  # glTF 2.0, section 5.11
_BUFFER_SUFFIXES = (".bin", ".glbin", ".glbuf")  # section 3.6.1.1: the media type model/gltf-buffer
_BUFFER_TYPES = ("application/octet-stream", "application/gltf-buffer")


class GlbFile:
    """A .glb or .gltf file whose accessors can be read as arrays.

    Args:
        path: the file.
        allow_external: read buffers from files of a .gltf's own folder, or below it.

    Attributes:
        document: the JSON, as it is.
        root: the same, with checks.
        size: bytes of all buffers.

    Raises:
        InputError: the file is missing, not glTF 2.0, cut short, damaged, or needs another file that it may
            not read.
    """

    def __init__(self, path: Path, *, allow_external: bool = False) -> None:
        self.path = path
        raw = _read(path, MAX_FILE)
        try:
            if raw[:4] != b"glTF" and raw[:64].lstrip(b"\xef\xbb\xbf \t\r\n")[:1] != b"{":
                raise ValueError(
                    "it begins neither as a .glb nor as a .gltf does; give what facetalk generate or export "
                    "wrote as talk.glb"
                    if raw
                    else "it is empty"
                )
            text, binary = _split_glb(raw) if raw[:4] == b"glTF" else (raw, None)
            document = _parse(text)
            self.root = Fields(document, "", path)
            if self.root.child("asset").text("version", default="?").split(".")[0] != "2":
                raise ValueError("it is not glTF 2.0")
            self._read_already: dict[Path, bytes] = {}
            self._buffers = [
                self._buffer(entry, binary if number == 0 else None, allow_external)
                for number, entry in enumerate(self.root.children("buffers"))
            ]
        except InputError:
            raise
        except (ValueError, RecursionError, struct.error) as error:
            reason = "its JSON is nested too deeply" if isinstance(error, RecursionError) else error
            raise InputError(f"{path} is not a readable glTF file: {reason}") from error
        self.document: Json = document
        self.size = sum(len(data) for data in self._buffers)
        self._views = self.root.children("bufferViews")
        self._accessors = self.root.children("accessors")

    def list(self, kind: str) -> Sequence[Json]:
        """Entries of a top-level list of the document, empty where it is absent; all are objects.

        Raises:
            InputError: it is something else.
        """
        self.root.children(kind)
        return self.document.get(kind, [])

    def shape(self, number: int) -> tuple[int, int]:
        """(elements, columns) of an accessor, without reading it: there are as many, or MAX_ELEMENTS at most.

        Raises:
            InputError: there is no such accessor, or no data for it.
        """
        entry = self._accessor(number)
        dtype, columns, count = self._layout(entry)
        if "bufferView" in entry:
            self._rows(entry, entry, dtype, columns, count)
        return count, columns

    def has_data(self, number: int) -> bool:
        """Whether an accessor says more than that everything is 0."""
        entry = self._accessor(number)
        return "bufferView" in entry or "sparse" in entry

    def array(self, number: int) -> NDArray[Any]:
        """(N,) or (N, columns) values of an accessor; normalised integers come as float32 fractions.

        Raises:
            InputError: there is no such accessor, no data for it, or floats that are not finite.
        """
        entry = self._accessor(number)
        dtype, columns, count = self._layout(entry)
        # Looked for before there is room made for it.
        rows = self._rows(entry, entry, dtype, columns, count) if "bufferView" in entry else None
        values = np.zeros((count, columns), dtype.newbyteorder("="))
        if rows is not None:  # else all are zeros, which cost no memory until they are changed
            values[:] = rows
        if "sparse" in entry:
            sparse = entry.child("sparse")
            exceptions = sparse.integer("count", low=1, high=max(1, count))
            where, data = sparse.child("indices"), sparse.child("values")
            kind = _DTYPE.get(where.integer("componentType", high=65535))
            if kind is None or kind.kind != "u":
                raise where.wrong("has no unsigned componentType")
            places = self._rows(where, where, kind, 1, exceptions)[:, 0]
            # Compared as they are, before anything narrower could turn them around.
            if int(places.max()) >= count:
                raise where.wrong(f"names element {int(places.max())} of {count}")
            values[places] = self._rows(data, data, dtype, columns, exceptions)
        if dtype.kind == "f":
            if not np.isfinite(values).all():
                raise entry.wrong("has a number that is not finite")
        elif entry.get("normalized"):
            if dtype.itemsize > 2:
                raise entry.wrong("is normalized, which 32-bit integers cannot be")
            # glTF 2.0, section 3.11: c / 127, max(c / 127, -1) and so on.
            values = np.maximum(values.astype(np.float32) / np.float32(np.iinfo(dtype).max), np.float32(-1.0))
        return values[:, 0] if columns == 1 else values

    def view(self, number: int) -> bytes:
        """The bytes of a buffer view, such as an image's.

        Raises:
            InputError: there is no such view, or no data for it.
        """
        if not 0 <= number < len(self._views):
            raise self.root.wrong(f"names buffer view {number} of {len(self._views)}")
        view = self._views[number]
        data = self._buffers[view.index("buffer", len(self._buffers))]
        start = view.integer("byteOffset", high=len(data), default=0)
        return bytes(data[start : start + view.integer("byteLength", high=len(data) - start)])

    def _accessor(self, number: int) -> Fields:
        if not 0 <= number < len(self._accessors):
            raise self.root.wrong(f"names accessor {number} of {len(self._accessors)}")
        return self._accessors[number]

    def _layout(self, entry: Fields) -> tuple[np.dtype[Any], int, int]:
        """(component, columns, count) of an accessor."""
        dtype = _DTYPE.get(entry.integer("componentType", high=65535))
        columns = _WIDTH.get(entry.text("type", default=""))
        if dtype is None or columns is None:
            raise entry.wrong("has no type that glTF 2.0 knows")
        most = MAX_FILE if "bufferView" in entry else MAX_ELEMENTS
        return dtype, columns, entry.integer("count", high=most)

    def _rows(
        self, entry: Fields, offsets: Fields, dtype: np.dtype[Any], columns: int, count: int
    ) -> NDArray[Any]:
        """(count, columns) view of bytes, each element inside the buffer view that ``entry`` names."""
        view = self._views[entry.index("bufferView", len(self._views))]
        data = self._buffers[view.index("buffer", len(self._buffers))]
        start = view.integer("byteOffset", high=len(data), default=0)
        length = view.integer("byteLength", high=len(data) - start)
        step = columns * dtype.itemsize
        stride = step
        if "byteStride" in view:
            stride = view.integer("byteStride", low=max(_STRIDES[0], step), high=max(_STRIDES[1], step))
        offset = offsets.integer("byteOffset", high=length, default=0)
        # All terms are sizes below 2^33, so nothing here can wrap around.
        if count and offset + (count - 1) * stride + step > length:
            raise entry.wrong("asks for more data than its buffer view has")
        if not count:
            return np.zeros((0, columns), dtype)
        return np.ndarray((count, columns), dtype, data, start + offset, (stride, dtype.itemsize))

    def _buffer(self, entry: Fields, binary: memoryview | None, allow_external: bool) -> memoryview:
        uri = entry.get("uri")
        length = entry.integer("byteLength", high=MAX_FILE)
        data: memoryview | None
        if uri is None:
            data = binary
        elif not isinstance(uri, str):
            raise entry.wrong("has a uri that is not a string")
        elif uri[:5].lower() == "data:":
            data = memoryview(_inline(entry, uri))
        else:
            data = memoryview(self._external(entry, uri, allow_external))
        if data is None or len(data) < length:
            raise ValueError("its binary data ends early")
        return data[:length]

    def _external(self, entry: Fields, uri: str, allowed: bool) -> bytes:
        """The bytes of a file in the document's own folder.

        Raises:
            InputError: not allowed, not a file of buffers, or not inside the folder.
        """
        shown = uri if len(uri) <= 60 else uri[:57] + "..."
        if not allowed:
            raise InputError(
                f"{self.path}: {entry.place} lies in another file, {shown!r}, which is not read unless you "
                "say --allow-external"
            )

        def refuse(reason: str) -> NoReturn:
            raise entry.wrong(f"names {shown!r}, {reason}")

        try:
            parts = urlsplit(uri)
            name = unquote(parts.path, errors="strict")
        except (ValueError, UnicodeDecodeError):
            refuse("which is no address of a file")
        inner = Path(name)
        if parts.scheme or parts.netloc or parts.query or parts.fragment or "\\" in name or "\0" in name:
            refuse("which is no file beside it")
        if inner.is_absolute() or ".." in inner.parts or not inner.parts:
            refuse("which is outside of its folder")
        if inner.suffix.lower() not in _BUFFER_SUFFIXES:
            refuse(f"which is no buffer ({', '.join(_BUFFER_SUFFIXES)})")
        try:
            folder = self.path.parent.resolve()
            source = (folder / inner).resolve()
        except (OSError, RuntimeError):  # RuntimeError: links in a circle
            refuse("which cannot be found")
        # After links are followed: a link may lead anywhere.
        if not source.is_relative_to(folder):
            refuse("which leads outside of its folder")
        if source not in self._read_already:  # a thousand buffers may name it
            self._read_already[source] = _read(source, MAX_FILE)
        return self._read_already[source]


def _read(path: Path, most: int) -> bytes:
    """The bytes of a regular file.

    Raises:
        InputError: missing, not a file (a device or a pipe may never end), or larger than ``most``.
    """
    try:
        # Opening a pipe would wait for its writer.
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise InputError(f"cannot read {path}: it is not a file")
            if status.st_size > most:
                raise InputError(f"{path} has {status.st_size} bytes; at most {most} are read")
            return file.read(status.st_size)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:  # a null character in its name
        raise InputError(f"cannot read {str(path)!r}: {error}") from error


def _split_glb(raw: bytes) -> tuple[memoryview, memoryview | None]:
    """The JSON and the binary chunk of a .glb."""
    _, version, total = struct.unpack_from("<III", raw)
    if version != _VERSION or total > len(raw):
        raise ValueError("it is cut short" if total > len(raw) else f"it has container version {version}")
    whole = memoryview(raw)
    chunks: dict[int, memoryview] = {}
    at = 12
    while at + 8 <= total:
        length, kind = struct.unpack_from("<II", raw, at)
        if at + 8 + length > total:
            raise ValueError("it is cut short")
        chunks.setdefault(kind, whole[at + 8 : at + 8 + length])
        at += 8 + length
    if _JSON not in chunks:
        raise ValueError("it has no JSON chunk")
    return chunks[_JSON], chunks.get(_BIN)


def _parse(text: bytes | memoryview) -> Any:
    if len(text) > MAX_JSON:
        raise ValueError(f"its JSON has {len(text)} bytes; at most {MAX_JSON} are read")

    def constant(name: str) -> NoReturn:
        raise ValueError(f"{name} is no number in JSON")

    return json.loads(bytes(text).decode(), parse_constant=constant)


def _inline(entry: Fields, uri: str) -> bytes:
    """The bytes of a data: address."""
    head, comma, body = uri.partition(",")
    kind, _, encoding = head[5:].partition(";")
    if not comma or encoding != "base64" or kind not in _BUFFER_TYPES:
        raise entry.wrong(f"holds data that is not base64 of {' or '.join(_BUFFER_TYPES)}")
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise entry.wrong(f"holds data that is not base64 ({error})") from error
