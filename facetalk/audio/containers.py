"""Opening sound and video files with FFmpeg: the file that was named, and nothing else."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from facetalk.errors import InputError
from facetalk.optional import needed_for

RATES, MAX_CHANNELS = (1000, 768_000), 64
"""Sampling rates in Hz, and channels, that a recording may have; a header with others is damaged."""

# Demuxers that read the one file they are given. FFmpeg's playlists and lists of files (hls, concat, dash,
# sdp, imf and more) would open others, named inside, wherever they are.
_FORMATS = (
    "aac,ac3,adx,aiff,alaw,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,dv,eac3,flac,flv,g722,g723_1,g726,g726le,"
    "g729,gsm,gxf,ircam,loas,matroska,mmf,mov,mp3,mpc,mpc8,mpeg,mpegts,mulaw,mxf,nistsphere,nut,ogg,oma,paf,"
    "qcp,qoa,rm,sbc,shn,sln,tak,tta,voc,w64,wav,wtv,wv,xwma"
)


@contextlib.contextmanager
def open_container(path: str | os.PathLike[str]) -> Iterator[Any]:
    """The file as an ``av`` container.

    It is opened here, not by FFmpeg, to which the name "a:b.wav" is one of its protocols, and a name that is
    not UTF-8 is none.

    Raises:
        NotInstalledError: PyAV is missing.
    """
    with needed_for(f"{path}: what libsndfile does not read"):
        import av

    with open(path, "rb", buffering=0) as file:
        # FFmpeg tells headerless formats (G.722) by the suffix, so it gets that.
        suffix = Path(path).suffix.lower()
        file.name = "sound" + (suffix if re.fullmatch(r"\.[a-z0-9]{1,8}", suffix) else "")  # type: ignore[misc]
        with av.open(file, options={"format_whitelist": _FORMATS}) as container:
            yield container


def check_form(path: object, rate: float, channels: int) -> None:
    """Refuse what a header says if no recording is like it.

    Raises:
        InputError: a rate or a number of channels that cannot be.
    """
    if not RATES[0] <= rate <= RATES[1]:
        raise InputError(
            f"{path}: its header says {rate:g} Hz, a recording has {RATES[0]} to {RATES[1]}; it is damaged"
        )
    if not 1 <= channels <= MAX_CHANNELS:
        raise InputError(
            f"{path}: its header says {channels} channels, a recording has 1 to {MAX_CHANNELS}; it is damaged"
        )
