"""The recording beside an animation: a plain WAV, written block by block."""

from __future__ import annotations

import hashlib
import itertools
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from facetalk.arrays import Float32
from facetalk.audio.load import AudioReader, open_audio
from facetalk.audio.load import Source as Audio
from facetalk.audio.riff import segments
from facetalk.units import SAMPLE_RATE

Source = Audio | AudioReader

_BLOCK_S = 1.0
_MAX_RATE = 48_000
_MAX_BYTES = 2**32 - 2**16  # what the header of a WAV can count
_FORM = struct.Struct("<HHIIHH")  # format, channels, rate, bytes a second, bytes a frame, bits
_EXTENSIBLE, _LONGEST_FORM = 0xFFFE, 64
_KEPT_RATE, _KEPT_CHANNELS = 192_000, 8  # of samples that are kept as they are
_MARK = b"facetalk "  # entry "software" of the file's INFO list, followed by a digest of the samples


def write_wav(path: Path, source: Source, pad: tuple[float, float] = (0.0, 0.0)) -> None:
    """Write ``source`` as WAV, with ``pad`` seconds of silence before and after it.

    A WAV file of 16, 24 or 32 bits keeps its samples, bit by bit. Other files become 16-bit, with their rate
    (up to 48 kHz) and one or two channels; everything else, and any ``(samples, rate)``, becomes 16 kHz
    mono. Sound lies where the audio loader puts it: holes are silence.

    Raises:
        InputError: the recording cannot be read.
    """
    form, pieces = _form_and_bytes(source)
    _, _, rate, _, width, _ = _FORM.unpack(form[: _FORM.size])
    before, after = (bytes(round(seconds * rate) * width) for seconds in pad)
    digest = hashlib.sha256()
    # Not by libsndfile, whose error on a full disk does not tell what it is.
    with open(path, "wb") as file:
        file.write(_header(form, 0, 0))
        length = 0
        for data in itertools.chain([before], pieces, [after]):
            digest.update(data)
            length += len(data)
            file.write(data)
        file.write(b"\0" * (length % 2))
        file.write(_mark(digest.hexdigest()))
        size = file.tell()
        file.seek(0)
        file.write(_header(form, length, size))


def _header(form: bytes, length: int, size: int) -> bytes:
    """What is before samples of ``length`` bytes in a file of ``size`` bytes."""
    head = struct.pack("<4sI4s4sI", b"RIFF", max(0, size - 8), b"WAVE", b"fmt ", len(form))
    return head + form + struct.pack("<4sI", b"data", length)


def _mark(digest: str) -> bytes:
    """The list chunk that tells who wrote the file, and of which samples."""
    text = _MARK + digest[:32].encode() + b"\0"
    text += b"\0" * (len(text) % 2)
    return struct.pack("<4sI4s4sI", b"LIST", len(text) + 12, b"INFO", b"ISFT", len(text)) + text


def is_ours(path: Path) -> bool:
    """Whether a sound file was written by :func:`write_wav` and never changed since."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            head = file.read(20)
            if len(head) < 20 or head[:4] != b"RIFF" or head[8:16] != b"WAVEfmt ":
                return False
            file.seek(min(int(struct.unpack("<I", head[16:])[0]), _LONGEST_FORM), 1)
            head = file.read(8)
            if len(head) < 8 or head[:4] != b"data":
                return False
            left = length = int(struct.unpack("<I", head[4:])[0])
            while left > 0:
                data = file.read(min(left, 1 << 20))
                if not data:
                    return False
                digest.update(data)
                left -= len(data)
            return file.read(1 << 10) == b"\0" * (length % 2) + _mark(digest.hexdigest())
    except OSError:
        return False


def _form_and_bytes(source: Source) -> tuple[bytes, Iterator[bytes]]:
    """Content of the chunk ``fmt``, and the samples as they follow it."""
    sound = open_audio(source)  # complains in one line about what is missing, empty or not sound
    if isinstance(sound, AudioReader) and (kept := _as_it_is(sound)) is not None:
        return kept
    rate, channels, blocks = _decoded(sound)
    form = _FORM.pack(1, channels, rate, 2 * channels * rate, 2 * channels, 16)

    def pieces() -> Iterator[bytes]:
        for block in blocks:
            samples = np.clip(np.rint(np.nan_to_num(block) * 32767.0), -32768, 32767)
            yield samples.astype("<i2").tobytes()

    return form, pieces()


def _as_it_is(sound: AudioReader) -> tuple[bytes, Iterator[bytes]] | None:
    """The samples of a WAV file of whole numbers whose header is right about them; None for others."""
    if sound.spooled:
        return None
    found, notes = segments(sound.path)
    if len(found) != 1 or notes or set(found[0].patches) - {4} or len(found[0].form) < _FORM.size:
        return None
    form = found[0].form
    tag, channels, rate, _, width, bits = _FORM.unpack(form[: _FORM.size])
    plain = tag == 1 or (tag == _EXTENSIBLE and form[24:26] == b"\1\0")
    if not plain or bits not in (16, 24, 32) or width * 8 != bits * channels or len(form) > _LONGEST_FORM:
        return None
    if rate > _KEPT_RATE or channels > _KEPT_CHANNELS or found[0].stop - found[0].start > _MAX_BYTES:
        return None

    def pieces() -> Iterator[bytes]:
        with open(sound.path, "rb") as file:
            file.seek(found[0].start + 12)
            while True:
                name, size = struct.unpack("<4sI", file.read(8))
                if name == b"data":
                    break
                file.seek(size + size % 2, 1)
            left = (found[0].stop - file.tell()) // width * width
            while left and (data := file.read(min(left, 1 << 20))):
                left -= len(data)
                yield data

    return form, pieces()


def _decoded(sound: Iterable[Float32]) -> tuple[int, int, Iterator[Float32]]:
    if not isinstance(sound, AudioReader):
        return SAMPLE_RATE, 1, iter(sound)
    size = 2 * (sound.duration or 0.0) * sound.rate * sound.channels
    if sound.rate > _MAX_RATE or sound.channels > 2 or size > _MAX_BYTES:
        return SAMPLE_RATE, 1, sound.blocks()
    return sound.rate, sound.channels, sound.channel_blocks(_BLOCK_S)
