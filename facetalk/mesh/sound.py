"""The recording beside an animation: a plain 16-bit WAV, written block by block."""

from __future__ import annotations

import hashlib
import itertools
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from facetalk.arrays import Float32
from facetalk.audio.load import AudioReader, open_audio
from facetalk.audio.load import Source as Audio
from facetalk.units import SAMPLE_RATE

Source = Audio | AudioReader

_BLOCK_S = 1.0
_MAX_RATE = 48_000
_MAX_BYTES = 2**32 - 2**16  # what the header of a WAV can count
_MARK = b"facetalk "  # entry "software" of the file's INFO list, followed by a digest of the samples


def write_wav(path: Path, source: Source, pad: tuple[float, float] = (0.0, 0.0)) -> None:
    """Write ``source`` as 16-bit PCM WAV, with ``pad`` seconds of silence before and after it.

    A file keeps its rate (up to 48 kHz) and one or two channels; everything else, and any ``(samples,
    rate)``, becomes 16 kHz mono. Sound lies where the audio loader puts it: holes are silence.

    Raises:
        InputError: the recording cannot be read.
    """
    rate, channels, blocks = _open(source)
    before, after = (np.zeros((round(seconds * rate), channels), np.float32) for seconds in pad)
    digest = hashlib.sha256()
    # Not by libsndfile, whose error on a full disk does not tell what it is.
    with open(path, "wb") as file:
        file.write(_header(rate, channels, 0, 0))
        length = 0
        for block in itertools.chain([before], blocks, [after]):
            samples = np.clip(np.rint(np.nan_to_num(block) * 32767.0), -32768, 32767)
            data = samples.astype("<i2").tobytes()
            digest.update(data)
            length += len(data)
            file.write(data)
        file.write(_mark(digest.hexdigest()))
        size = file.tell()
        file.seek(0)
        file.write(_header(rate, channels, length, size))


def _header(rate: int, channels: int, length: int, size: int) -> bytes:
    """The 44 bytes before 16-bit samples of ``length`` bytes in a file of ``size`` bytes."""
    head = struct.pack("<4sI4s", b"RIFF", max(0, size - 8), b"WAVE")
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, channels, rate, 2 * channels * rate, 2 * channels, 16)
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
            head = file.read(44)
            if len(head) < 44 or head[:4] != b"RIFF" or head[8:16] != b"WAVEfmt " or head[36:40] != b"data":
                return False
            left = int(struct.unpack("<I", head[40:])[0])
            while left > 0:
                data = file.read(min(left, 1 << 20))
                if not data:
                    return False
                digest.update(data)
                left -= len(data)
            return file.read(1 << 10) == _mark(digest.hexdigest())
    except OSError:
        return False


def _open(source: Source) -> tuple[int, int, Iterator[Float32]]:
    sound = open_audio(source)  # complains in one line about what is missing, empty or not sound
    if not isinstance(sound, AudioReader):
        return SAMPLE_RATE, 1, iter(sound)
    size = 2 * (sound.duration or 0.0) * sound.rate * sound.channels
    if sound.rate > _MAX_RATE or sound.channels > 2 or size > _MAX_BYTES:
        return SAMPLE_RATE, 1, sound.blocks()
    return sound.rate, sound.channels, sound.channel_blocks(_BLOCK_S)
