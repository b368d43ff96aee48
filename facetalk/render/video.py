"""Pictures and sound into an .mp4: H.264 and AAC through PyAV."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from facetalk.arrays import UInt8
from facetalk.audio.containers import check_form, open_container
from facetalk.errors import InputError
from facetalk.reading import one_line

_CODECS = ("libx264", "libopenh264", "h264", "mpeg4")
_BT709 = 1  # in FFmpeg's lists of primaries, transfer curves and matrices alike
_NARROW = 1  # FFmpeg's "tv" range


def write_video(
    path: Path,
    pictures: Iterable[UInt8],
    *,
    size: tuple[int, int],
    fps: float,
    duration: float,
    audio: Path | None = None,
) -> None:
    """Write pictures, and sound when there is one, as a video that starts playing before it is loaded.

    Args:
        path: .mp4 to write.
        pictures: (height, width, 3) uint8 sRGB, read one at a time.
        size: width and height in pixels, both even.
        fps: pictures per second.
        duration: seconds after which the sound is cut.
        audio: any recording that FFmpeg reads.

    Raises:
        InputError: odd size, no H.264 encoder, or an unreadable recording.
    """
    if size[0] % 2 or size[1] % 2:
        raise InputError(f"a video needs an even width and height, got {size[0]}x{size[1]}")
    rate = Fraction(fps).limit_denominator(1001)
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(_url(path))
        out = stack.enter_context(av.open(url, "w", format="mp4", options={"movflags": "+faststart"}))
        video = _video_stream(out, size, rate)
        sound = None if audio is None else _Sound(out, audio, duration, stack)
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
                format="yuv420p", dst_colorspace="ITU709", src_color_range="JPEG", dst_color_range="MPEG"
            )
            frame.pts, frame.time_base = number, 1 / rate
            out.mux(video.encode(frame))
            if sound is not None:
                sound.write_until((number + 1) / float(rate))
        out.mux(video.encode(None))
        if sound is not None:
            sound.finish()


@contextlib.contextmanager
def _url(path: Path) -> Iterator[str]:
    """A file to write, as FFmpeg takes it whatever its name is.

    A plain name with a colon would be one of its protocols. A Python file object will not do, because FFmpeg
    opens the file a second time to move its index to the front.
    """
    place = str(path.absolute())
    try:
        place.encode("utf-8")
    except UnicodeEncodeError:  # only Linux has such names
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            yield f"file:/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
    else:
        yield f"file:{place}"


def _video_stream(out: Any, size: tuple[int, int], rate: Fraction) -> Any:
    for codec in _CODECS:
        try:
            stream = out.add_stream(codec, rate=rate)
        except (ValueError, av.FFmpegError):
            continue
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.time_base = 1 / rate
        context = stream.codec_context
        context.color_primaries = context.color_trc = context.colorspace = _BT709
        context.color_range = _NARROW
        if codec == "libx264":
            stream.options = {"crf": "17", "preset": "veryfast"}
        else:
            stream.bit_rate = int(0.12 * size[0] * size[1] * float(rate))
        return stream
    raise InputError("PyAV has no H.264 encoder here; install another build of av, or render to .png")


class _Sound:
    """The sound track, written as far as the pictures have come, so that little of either waits in memory."""

    def __init__(self, out: Any, path: Path, duration: float, stack: contextlib.ExitStack) -> None:
        self._path, self._out = path, out
        try:
            self._source = stack.enter_context(open_container(path))
            track = self._source.streams.audio[0]
            rate, channels = int(track.rate or 0), int(track.channels or 0)
        except IndexError as error:
            raise InputError(f"cannot read the sound {path}: it has no audio track") from error
        except Exception as error:  # PyAV's errors are of every kind there is
            raise InputError(f"cannot read the sound {path}: {one_line(error)}") from error
        check_form(path, rate, channels)
        self._rate = min(rate, 48_000)
        layout = "mono" if channels == 1 else "stereo"
        try:
            self._stream = out.add_stream("aac", rate=self._rate, layout=layout)
            self._stream.bit_rate = 96_000 * (1 if layout == "mono" else 2)
            self._stream.codec_context.open()
        except (av.FFmpegError, ValueError) as error:
            raise InputError(
                f"the sound {path} has {rate} Hz, which no video here can hold; convert it to 48000 Hz"
            ) from error
        self._left, self._written = round(duration * self._rate), 0
        self._frames = self._resampled(track, layout)

    def _resampled(self, track: Any, layout: str) -> Iterator[Any]:
        try:
            resampler = av.AudioResampler(format="fltp", layout=layout, rate=self._rate, frame_size=1024)
            for frame in self._source.decode(track):
                yield from resampler.resample(frame)
            yield from resampler.resample(None)
        except Exception as error:
            raise InputError(f"cannot read the sound {self._path}: {one_line(error)}") from error

    def write_until(self, seconds: float) -> None:
        """Encode sound up to ``seconds``, or to its end."""
        while self._left > 0 and self._written < seconds * self._rate:
            frame = next(self._frames, None)
            if frame is None:
                self._left = 0
                break
            if frame.samples > self._left:
                cut = np.ascontiguousarray(frame.to_ndarray()[:, : self._left])
                frame = av.AudioFrame.from_ndarray(cut, format="fltp", layout=frame.layout.name)
                frame.sample_rate = self._rate
            frame.pts, frame.time_base = self._written, Fraction(1, self._rate)
            self._written += frame.samples
            self._left -= frame.samples
            self._out.mux(self._stream.encode(frame))

    def finish(self) -> None:
        """Encode what is left."""
        self.write_until(float("inf"))
        self._out.mux(self._stream.encode(None))
