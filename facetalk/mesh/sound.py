"""The recording beside an animation: a plain 16-bit WAV, written block by block."""

from __future__ import annotations

import hashlib
import os
import struct
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from facetalk.errors import InputError
from facetalk.reading import one_line
from facetalk.units import SAMPLE_RATE

Source = str | os.PathLike[str] | tuple[Any, float]

_BLOCK = 1 << 16
_MAX_RATE = 48_000
_MAX_BYTES = 2**32 - 2**16  # what the header of a WAV can count
_MARK = b"facetalk "  # entry "software" of the file's INFO list, followed by a digest of the samples


def write_wav(path: Path, source: Source) -> None:
    """Write ``source`` as 16-bit PCM WAV.

    A file that libsndfile reads keeps its rate (up to 48 kHz) and one or two channels; everything else, and
    any ``(samples, rate)``, goes through the audio loader and becomes 16 kHz mono.

    Raises:
        InputError: the recording cannot be read.
    """
    rate, channels, blocks = _open(source)
    digest = hashlib.sha256()
    # Not by libsndfile, whose error on a full disk does not tell what it is.
    with open(path, "wb") as file:
        out = wave.open(file)  # noqa: SIM115  # its end writes, which must not hide an error of the middle
        out.setnchannels(channels)
        out.setsampwidth(2)
        out.setframerate(rate)
        for block in blocks:
            samples = np.clip(np.rint(np.nan_to_num(block) * 32767.0), -32768, 32767)
            data = samples.astype("<i2").tobytes()
            digest.update(data)
            out.writeframesraw(data)
        out.close()
        file.write(_mark(digest.hexdigest()))
        size = file.tell()
        file.seek(4)
        file.write(struct.pack("<I", size - 8))


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


def _open(source: Source) -> tuple[int, int, Iterator[NDArray[np.float32]]]:
    from facetalk.audio.load import AudioReader, load_audio

    if isinstance(source, tuple):
        return SAMPLE_RATE, 1, iter([load_audio(source)])
    reader = AudioReader(source)  # complains in one line about what is missing, empty or not sound
    try:
        with open(source, "rb") as file:
            info = soundfile.info(file)
    except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError):
        return SAMPLE_RATE, 1, reader.blocks()
    size = 2 * info.frames * info.channels
    if not 1000 <= info.samplerate <= _MAX_RATE or info.channels > 2 or size > _MAX_BYTES:
        return SAMPLE_RATE, 1, reader.blocks()
    return info.samplerate, info.channels, _file_blocks(source)


def _file_blocks(source: str | os.PathLike[str]) -> Iterator[NDArray[np.float32]]:
    try:
        with open(source, "rb") as raw, soundfile.SoundFile(raw) as file:
            while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
                yield block
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise InputError(f"cannot read {source}: {one_line(error)}") from error
