"""The recording beside an animation: a plain 16-bit WAV, written block by block."""

from __future__ import annotations

import os
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from facetalk.errors import InputError
from facetalk.units import SAMPLE_RATE

Source = str | os.PathLike[str] | tuple[Any, float]

_BLOCK = 1 << 16
_MAX_RATE = 48_000
_MAX_BYTES = 2**32 - 2**16  # what the header of a WAV can count


def write_wav(path: Path, source: Source) -> None:
    """Write ``source`` as 16-bit PCM WAV.

    A file that libsndfile reads keeps its rate (up to 48 kHz) and one or two channels; everything else, and
    any ``(samples, rate)``, goes through the audio loader and becomes 16 kHz mono.

    Raises:
        InputError: the recording cannot be read.
    """
    rate, channels, blocks = _open(source)
    # Not by libsndfile, whose error on a full disk does not tell what it is.
    with open(path, "wb") as file, wave.open(file) as out:
        out.setnchannels(channels)
        out.setsampwidth(2)
        out.setframerate(rate)
        for block in blocks:
            samples = np.clip(np.rint(np.nan_to_num(block) * 32767.0), -32768, 32767)
            out.writeframesraw(samples.astype("<i2").tobytes())


def _open(source: Source) -> tuple[int, int, Iterator[NDArray[np.float32]]]:
    from facetalk.audio.load import AudioReader, load_audio

    if isinstance(source, tuple):
        return SAMPLE_RATE, 1, iter([load_audio(source)])
    reader = AudioReader(source)  # complains in one line about what is missing, empty or not sound
    try:
        info = soundfile.info(os.fspath(source))
    except (soundfile.LibsndfileError, RuntimeError):
        return SAMPLE_RATE, 1, reader.blocks()
    size = 2 * info.frames * info.channels
    if not 1000 <= info.samplerate <= _MAX_RATE or info.channels > 2 or size > _MAX_BYTES:
        return SAMPLE_RATE, 1, reader.blocks()
    return info.samplerate, info.channels, _file_blocks(source)


def _file_blocks(source: str | os.PathLike[str]) -> Iterator[NDArray[np.float32]]:
    try:
        with soundfile.SoundFile(os.fspath(source)) as file:
            while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
                yield block
    except soundfile.LibsndfileError as error:
        raise InputError(f"cannot read {source}: {error}") from error
