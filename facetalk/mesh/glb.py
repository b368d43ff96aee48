"""The binary glTF container: numpy arrays to accessors (glTF 2.0, sections 3.6 and 4)."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from facetalk.errors import InputError
from facetalk.mesh.gltf_json import Json

_MAGIC, _VERSION, _JSON, _BIN = 0x46546C67, 2, 0x4E4F534A, 0x004E4942
_LIMIT = 2**32 - 1  # lengths in the container have 32 bits
_COMPONENT = {"int8": 5120, "uint8": 5121, "int16": 5122, "uint16": 5123, "uint32": 5125, "float32": 5126}
_TYPE = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}
VERTEX_DATA, INDEX_DATA = 34962, 34963


class GlbWriter:
    """Collects arrays into one buffer on disk and writes the .glb around it.

    The buffer is spooled to a file beside the output, so memory does not grow with the number of arrays.

    Args:
        path: .glb to write when :meth:`finish` is called; nothing appears there before.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.document: Json = {"asset": {"version": "2.0"}, "accessors": [], "bufferViews": []}
        self._spool_path = path.with_name(path.name + ".bin")
        self._spool: IO[bytes] = open(self._spool_path, "wb")  # noqa: SIM115  # closed by finish or __exit__
        self._size = 0

    def __enter__(self) -> GlbWriter:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the spooled buffer."""
        self._spool.close()
        self._spool_path.unlink(missing_ok=True)

    def view(self, data: NDArray[Any], *, target: int | None = None, stride: int | None = None) -> int:
        """Append the bytes of ``data`` as a buffer view and return its number."""
        raw = np.ascontiguousarray(data)
        entry: Json = {"buffer": 0, "byteOffset": self._size, "byteLength": raw.nbytes}
        if stride is not None:
            entry["byteStride"] = stride
        if target is not None:
            entry["target"] = target
        self._spool.write(raw.tobytes())
        padding = -raw.nbytes % 4
        self._spool.write(b"\0" * padding)
        self._size += raw.nbytes + padding
        if self._size + 2**24 > _LIMIT:
            raise InputError(
                f"{self.path.name} would pass the 4 GiB that a .glb can hold; write a .ply folder instead"
            )
        self.document["bufferViews"].append(entry)
        return len(self.document["bufferViews"]) - 1

    def accessor(
        self, data: NDArray[Any], *, target: int | None = None, normalized: bool = False, bounds: bool = False
    ) -> int:
        """Append ``data`` (N,) or (N, columns) as an accessor and return its number.

        Vertex attributes are padded so that each element starts at a multiple of four bytes, as the format
        asks.
        """
        array = np.ascontiguousarray(data)
        rows = array.reshape(len(array), -1)
        entry = self._entry(rows, normalized, bounds)
        width, stride = rows.shape[1] * rows.itemsize, None
        if target == VERTEX_DATA and width % 4:
            padded = np.zeros((len(rows), rows.shape[1] + (4 - width % 4) // rows.itemsize), rows.dtype)
            padded[:, : rows.shape[1]] = rows
            rows, stride = padded, padded.shape[1] * padded.itemsize
        entry["bufferView"] = self.view(rows, target=target, stride=stride)
        return self.add("accessors", entry)

    def sparse(
        self,
        data: NDArray[Any],
        rows: NDArray[Any],
        index_view: int,
        *,
        normalized: bool = False,
        bounds: bool = False,
    ) -> int:
        """Append an accessor of zeros except in ``rows``, whose numbers are in buffer view ``index_view``.

        Args:
            data: (N, columns) all elements; those outside ``rows`` are zero.
            rows: (n,) rising numbers, n at least 1.
            index_view: view made by :meth:`row_numbers`; one view may serve several accessors.
            normalized: integers stand for fractions.
            bounds: note the smallest and largest value per column.
        """
        entry = self._entry(data, normalized, bounds)
        entry["sparse"] = {
            "count": len(rows),
            "indices": {"bufferView": index_view, "componentType": _COMPONENT[_index_dtype(len(data)).name]},
            "values": {"bufferView": self.view(data[rows])},
        }
        return self.add("accessors", entry)

    def zeros(self, data: NDArray[Any], view: int, *, normalized: bool = False) -> int:
        """Append an accessor of zeros of the shape and type of ``data``, with bounds, and return its number.

        Args:
            data: (N, columns), of which only shape and type are used.
            view: a view that holds enough zeros.
            normalized: integers stand for fractions.
        """
        entry = self._entry(np.zeros_like(data), normalized, True)
        entry["bufferView"] = view
        return self.add("accessors", entry)

    def row_numbers(self, rows: NDArray[Any], count: int) -> int:
        """Append the row numbers of a sparse accessor of ``count`` elements and return the view's number."""
        return self.view(rows.astype(_index_dtype(count)))

    def add(self, kind: str, entry: Json) -> int:
        """Append ``entry`` to a list of the document and return its number."""
        self.document.setdefault(kind, []).append(entry)
        return len(self.document[kind]) - 1

    def finish(self) -> None:
        """Write the file."""
        self._spool.close()
        self.document["buffers"] = [{"byteLength": self._size}]
        text = json.dumps(self.document, separators=(",", ":"), allow_nan=False).encode()
        text += b" " * (-len(text) % 4)
        total = 12 + 8 + len(text) + 8 + self._size
        if total > _LIMIT:
            raise InputError(
                f"{self.path.name} would pass the 4 GiB that a .glb can hold; write a .ply folder instead"
            )
        with open(self.path, "wb") as out, open(self._spool_path, "rb") as spool:
            out.write(struct.pack("<III", _MAGIC, _VERSION, total))
            out.write(struct.pack("<II", len(text), _JSON) + text)
            out.write(struct.pack("<II", self._size, _BIN))
            shutil.copyfileobj(spool, out, 1 << 20)

    def _entry(self, rows: NDArray[Any], normalized: bool, bounds: bool) -> Json:
        entry: Json = {
            "componentType": _COMPONENT[rows.dtype.name],
            "count": len(rows),
            "type": _TYPE[rows.shape[1]],
        }
        if normalized:
            entry["normalized"] = True
        if bounds:
            entry["min"], entry["max"] = rows.min(axis=0).tolist(), rows.max(axis=0).tolist()
        return entry


def _index_dtype(count: int) -> np.dtype:
    return np.dtype(np.uint16 if count <= 0xFFFF else np.uint32)
