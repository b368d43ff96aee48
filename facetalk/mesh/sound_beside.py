"""Which sound lies beside an animation: a WAV made of the recording, or the recording's own file, copied."""

from __future__ import annotations

import filecmp
import os
import shutil
from pathlib import Path
from typing import Literal, get_args

from facetalk.arguments import real_number
from facetalk.audio.load import AudioReader, open_audio
from facetalk.errors import InputError
from facetalk.files import check_replaceable
from facetalk.mesh.sound import Source, is_ours, write_wav
from facetalk.units import MAX_PAD

Sound = Literal["wav", "original"]
SOUNDS: tuple[Sound, ...] = get_args(Sound)

COPIED = (".wav", ".mp3", ".ogg", ".oga", ".opus", ".flac", ".m4a", ".aac")
"""Files of sound alone that browsers play, and with them the players of glTF that are made of one. What they
decode begins where :func:`facetalk.audio.load.load_audio` has it (``tests/view/test_sound_players.py``)."""


def sound_place(out: Path, audio: Source, sound: Sound) -> Path:
    """Where the sound of ``out`` goes.

    Raises:
        InputError: the recording cannot be copied as it is, or there is no such way to keep it.
    """
    if sound not in SOUNDS:
        raise InputError(f"sound must be one of {', '.join(SOUNDS)}, got {sound!r}")
    if sound == "wav":
        return out.with_suffix(".wav")
    file = file_of(audio)
    if file is None:
        raise InputError(
            "a recording that is kept as it is has to be a file, and this is samples or a stream; leave out "
            "--sound original"
        )
    if file.suffix.lower() not in COPIED:
        raise InputError(
            f"{file} cannot be kept as it is: players of glTF read {', '.join(COPIED)}; leave out "
            "--sound original for a .wav"
        )
    return out.with_suffix(file.suffix.lower())


def write_sound(path: Path, audio: Source, sound: Sound, pad: tuple[float, float]) -> None:
    """Write the sound of an animation, ``pad`` seconds of silence around it where it is a new WAV.

    Raises:
        InputError: the recording cannot be read.
    """
    file = file_of(audio)
    if sound == "wav" or file is None:
        write_wav(path, audio, pad)
        return
    open_audio(audio)  # complains in one line about what is missing, empty or not sound
    shutil.copyfile(file, path)


def check_beside(out: Path, audio: Source, sound: Sound, *, force: bool) -> None:
    """Check that the sound beside ``out`` may be written.

    Raises:
        InputError: what lies there was written by somebody else, and ``force`` does not say to replace it.
    """
    beside = sound_place(out, audio, sound)
    check_replaceable(beside)
    if not os.path.lexists(beside) or force or same_file(audio, beside) or is_ours(beside):
        return
    file = file_of(audio)
    if sound == "original" and file is not None and _same_bytes(file, beside):
        return
    raise InputError(
        f"cannot write {beside}, the sound of {out.name}: facetalk did not write the file that is there, "
        f"or it was changed since; choose another -o, or replace it with --force (force=True)"
    )


def check_pad(out: Path, audio: Source | None, pad: float | None, sound: Sound = "wav") -> float:
    """Seconds of silence beside the recording, after checking that it can be put there; None is 0.

    Raises:
        InputError: it is no number of seconds in [0, 60], or the sound beside is the recording itself.
    """
    seconds = 0.0 if pad is None else real_number("pad", pad)
    if not 0.0 <= seconds <= MAX_PAD:
        raise InputError(f"pad must lie in 0..{MAX_PAD:g} seconds, got {seconds:g}")
    if not seconds or audio is None:
        return seconds
    if sound == "original" and out.suffix.lower() != ".ply":
        raise InputError(
            "a recording that is kept as it is has no silence around it; leave out --sound original, or "
            "make the motion without it (--pad 0, pad=0)"
        )
    if is_beside(audio, out):
        raise InputError(
            f"{out} with silence around its sound needs a sound of its own, but "
            f"{out.with_suffix('.wav').name} is the recording itself; choose another -o, or a pad of 0"
        )
    return seconds


def is_beside(audio: Source, out: Path, sound: Sound = "wav") -> bool:
    """Whether the recording is the very file that would lie beside ``out``, which is then used as it is."""
    return out.suffix.lower() != ".ply" and same_file(audio, sound_place(out, audio, sound))


def file_of(audio: Source | None) -> Path | None:
    """The file that a recording is read from; None for samples, pipes and open files."""
    if isinstance(audio, AudioReader):
        return None if audio.spooled else audio.path
    return Path(audio) if isinstance(audio, str | os.PathLike) else None


def same_file(audio: Source, path: Path) -> bool:
    """Whether a recording is read from ``path``, whatever it is called."""
    file = file_of(audio)
    return file is not None and path.exists() and file.exists() and file.samefile(path)


def _same_bytes(one: Path, other: Path) -> bool:
    try:
        return filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False
