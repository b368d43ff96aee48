"""Sound that is kept as it is begins in a browser, and its players of glTF, where facetalk hears it begin."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from facetalk.audio.load import load_audio
from facetalk.mesh.sound_beside import COPIED
from facetalk.units import SAMPLE_RATE
from tests.helpers.chromium import PROGRAM, Chromium

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium (Debian: chromium)")

_DECODE = """
(async () => {
  const bytes = Uint8Array.from(atob("%s"), (c) => c.charCodeAt(0));
  const sound = await new OfflineAudioContext(1, 1, 16000).decodeAudioData(bytes.buffer);
  const peaks = [], samples = sound.getChannelData(0);
  for (let i = 0; i < samples.length; i++) if (Math.abs(samples[i]) > 0.1) { peaks.push(i); i += 1600; }
  return JSON.stringify([samples.length, peaks]);
})()
"""


def write(path: Path, samples: np.ndarray) -> None:
    if path.suffix not in (".m4a", ".aac"):
        kinds = {".oga": ("OGG", "VORBIS"), ".opus": ("OGG", "OPUS")}
        form, subtype = kinds.get(path.suffix, (None, None))
        soundfile.write(path, samples, 48_000, format=form, subtype=subtype)
        return
    with av.open(str(path), "w", format="ipod" if path.suffix == ".m4a" else "adts") as out:
        stream = out.add_stream("aac", rate=48_000, layout="mono")
        for start in range(0, len(samples), 1024):
            piece = samples[None, start : start + 1024].astype(np.float32)
            frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 48_000, start
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def test_what_is_copied_plays_in_step(tmp_path: Path) -> None:
    """Bursts at three moments: the browser's and facetalk's samples rise within 3 ms of each other."""
    time = np.arange(48_000) / 48_000
    bursts = sum(np.exp(-(((time - at) * 300.0) ** 2)) for at in (0.2, 0.5, 0.8))
    tone = 0.5 * np.sin(2 * np.pi * 440.0 * time) * bursts
    with Chromium(tmp_path / "profile") as browser:
        for suffix in COPIED:
            path = tmp_path / f"tone{suffix}"
            write(path, tone)
            data = base64.b64encode(path.read_bytes()).decode()
            length, peaks = json.loads(browser.run(_DECODE % data))
            ours = load_audio(path)
            mine, at = [], 0
            while at < len(ours):
                if abs(ours[at]) > 0.1:
                    mine.append(at)
                    at += SAMPLE_RATE // 10
                at += 1
            assert len(mine) == 3, suffix
            np.testing.assert_allclose(peaks, mine, atol=0.003 * SAMPLE_RATE, err_msg=suffix)
            assert abs(length - len(ours)) < 0.05 * SAMPLE_RATE, suffix
