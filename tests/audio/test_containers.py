"""What FFmpeg is allowed to open, and names that are hard to hand to it."""

import shutil

import av
import numpy as np
import pytest
import soundfile

from facetalk.audio import AudioReader, load_audio
from facetalk.audio.ffmpeg import FFmpegDecoder
from facetalk.errors import InputError
from facetalk.mesh.sound import write_wav
from facetalk.render.video import write_video

SECONDS = 0.5


@pytest.fixture
def other(tmp_path):
    """A recording that nobody named."""
    path = tmp_path / "other.wav"
    soundfile.write(path, 0.3 * np.sin(np.arange(round(16000 * SECONDS)) * 0.1), 16000)
    return path


@pytest.fixture
def m4a(tmp_path, other):
    path = tmp_path / "speech.m4a"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(load_audio(other)[None], format="fltp", layout="mono")
        frame.sample_rate = 16000
        for packet in (*stream.encode(frame), *stream.encode(None)):
            out.mux(packet)
    return path


PLAYLISTS = {
    "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{url}\n#EXT-X-ENDLIST\n",
    "list.ffconcat": "ffconcat version 1.0\nfile other.wav\n",
    "concat.wav": "ffconcat version 1.0\nfile other.wav\n",
    "list.mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><AdaptationSet '
    'mimeType="audio/wav"><Representation><BaseURL>{url}</BaseURL></Representation></AdaptationSet></Period></MPD>',
    "list.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
    "list.pls": "[playlist]\nFile1={url}\nNumberOfEntries=1\n",
}


@pytest.mark.parametrize("name", PLAYLISTS)
def test_playlists_load_nothing(tmp_path, other, name):
    path = tmp_path / name
    path.write_text(PLAYLISTS[name].format(url=other.as_uri()))
    with pytest.raises(InputError, match=name):
        load_audio(path)
    picture = np.zeros((32, 32, 3), np.uint8)
    with pytest.raises(InputError, match=name):
        write_video(tmp_path / "o.mp4", [picture], size=(32, 32), fps=25, duration=0.04, audio=path)


@pytest.mark.parametrize("name", ["take:1", "http:x", "-i", "größe", "a\udcffb", "%d", "a b'c"])
@pytest.mark.parametrize("suffix", [".wav", ".m4a"])
def test_any_name(tmp_path, monkeypatch, other, m4a, name, suffix):
    source = other if suffix == ".wav" else m4a
    monkeypatch.chdir(tmp_path)  # a relative name is where a colon makes a protocol
    shutil.copy(source, name + suffix)
    np.testing.assert_array_equal(load_audio(name + suffix), load_audio(source))
    write_wav(tmp_path / (name + "-copy.wav"), name + suffix)
    video = tmp_path / (name + ".mp4")
    pictures = [np.full((32, 32, 3), n, np.uint8) for n in range(5)]
    write_video(video, pictures, size=(32, 32), fps=25, duration=0.2, audio=name + suffix)
    shutil.copy(video, "plain.mp4")
    with av.open("plain.mp4") as written:
        assert {stream.type for stream in written.streams} == {"audio", "video"}
    assert video.read_bytes().find(b"moov") < video.read_bytes().find(b"mdat"), "the index is not in front"


@pytest.mark.parametrize(("rate", "channels"), [(1, 1), (2_130_000_000, 1), (16000, 65), (999, 1)])
def test_headers_that_cannot_be(tmp_path, rate, channels):
    path = tmp_path / "odd.wav"
    soundfile.write(path, np.zeros((100, min(channels, 65))), 16000)
    content = bytearray(path.read_bytes())
    content[24:28] = rate.to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"odd\.wav.*its header says"):
        AudioReader(path)


def test_a_codec_that_is_unknown(tmp_path):
    path = tmp_path / "nocodec.wav"
    header = b"RIFF\x34\0\0\0WAVEfmt \x10\0\0\0\x99\x99\x01\0\x80\x3e\0\0\0\x7d\0\0\x02\0\x10\0"
    path.write_bytes(header + b"data\x10\0\0\0" + b"\1\2" * 8)
    with pytest.raises(InputError, match=r"nocodec\.wav"):
        load_audio(path)


@pytest.mark.parametrize("channels", [1, 2, 8, 9, 24, 64])
def test_ffmpeg_gives_every_channel(tmp_path, channels):
    """PyAV keeps eight planes of a frame where it can be read; more crashed."""
    path = tmp_path / "many.wav"
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, (4000, channels)).astype(np.float32)
    soundfile.write(path, sound, 16000, subtype="FLOAT")
    found = np.concatenate(list(FFmpegDecoder(path).read(1000, print)))
    np.testing.assert_array_equal(found, sound)
