"""Clips that start or end in a word come from rest and go to rest, and the sound stays in step."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from facetalk import FaceTalk, InputError, Motion, export
from facetalk.audio.load import load_audio
from facetalk.cli import main
from facetalk.mesh.gltf_read import GlbFile
from facetalk.metrics.lips import lip_gap
from facetalk.motion import ease_ends
from facetalk.render.render import render
from facetalk.units import SAMPLE_RATE

DEMO = Path(__file__).resolve().parents[1] / "examples" / "demo.flac"

pytestmark = pytest.mark.skipif(not DEMO.exists(), reason="needs the source tree")


@pytest.fixture(scope="module")
def model() -> FaceTalk:
    return FaceTalk.from_pretrained("default", "cpu")


@pytest.fixture(scope="module")
def word() -> np.ndarray:
    """Two seconds of speech, cut in a word on both sides."""
    return load_audio(DEMO)[round(1.91 * SAMPLE_RATE) :][: 2 * SAMPLE_RATE]


def test_the_face_comes_from_rest_and_goes_to_rest(model: FaceTalk, word: np.ndarray) -> None:
    rest = lip_gap(model.landmarks(model.generate((np.zeros(16000), SAMPLE_RATE), seed=0))).mean()
    bare = model.generate((word, SAMPLE_RATE), seed=0)
    assert bare.pad == (0.0, 0.0) and len(bare) == 50
    assert lip_gap(model.landmarks(bare))[-1] > rest + 3.0  # there is something to do
    for pad in (None, 0.48):
        motion = model.generate((word, SAMPLE_RATE), seed=0, pad=pad)
        seconds = 0.2 if pad is None else pad
        assert motion.pad == (seconds, seconds) and len(motion) == 50 + 2 * round(25 * seconds)
        gap = lip_gap(model.landmarks(motion))
        assert abs(gap[0] - rest) < 0.6 and abs(gap[-1] - rest) < 0.6
        # The word itself is said as it was, in step with the sound.
        start = round(25 * seconds)
        said, before = gap[start : start + 50], lip_gap(model.landmarks(bare))
        # Not to the bit: noise belongs to frames, and the padding moves them.
        assert np.corrcoef(said[5:-5], before[5:-5])[0, 1] > 0.8
        assert np.abs(np.diff(gap)).max() <= 1.3 * np.abs(np.diff(before)).max()  # without a jump


def test_whole_recordings_stay_as_they_are(model: FaceTalk) -> None:
    sound = (load_audio(DEMO), SAMPLE_RATE)
    one, other = model.generate(sound, seed=0), model.generate(sound, seed=0, pad=None)
    np.testing.assert_array_equal(one.expressions, other.expressions)
    assert other.pad == (0.0, 0.0) and "pad" not in other.provenance
    with pytest.raises(InputError, match="pad"):
        model.generate(sound, seed=0, pad=-1.0)


def test_easing_leads_to_what_the_silence_does() -> None:
    motion = np.ones((30, 2), np.float32)
    motion[:8], motion[-6:] = 0.25, 0.5
    out = ease_ends(motion, (8, 6), (4, 5))
    assert out.shape == (16, 2) and out.dtype == np.float32
    np.testing.assert_allclose(out[[0, -1]], [[0.25, 0.25], [0.5, 0.5]])
    np.testing.assert_array_equal(out[4:-5], 1.0)
    assert (np.diff(out[:5, 0]) > 0).all() and (np.diff(out[-6:, 0]) < 0).all()
    np.testing.assert_array_equal(ease_ends(motion, (0, 0), (0, 0)), motion)
    np.testing.assert_array_equal(ease_ends(motion, (0, 6), (0, 0)), motion[:-6])
    assert (motion[8] == 1.0).all()  # the argument stays as it is
    assert ease_ends(motion, (14, 14), (9, 9)).shape == (2, 2)


def test_a_motion_knows_its_padding(tmp_path: Path) -> None:
    motion = Motion(np.zeros((20, 3), np.float32), provenance={"pad": [0.2, 0.1]})
    assert Motion.load(motion.save(tmp_path / "m.safetensors")).pad == (0.2, 0.1)
    assert motion.smooth(0.1).pad == (0.2, 0.1) and motion[5:].pad == (0.0, 0.0)
    for wrong in ("ab", [0.2], [0.2, -1], [1e9, 0], 3, [None, 1]):
        with pytest.raises(InputError, match="pad"):
            _ = Motion(motion.expressions, provenance={"pad": wrong}).pad


def test_the_sound_beside_is_padded_alike(
    model: FaceTalk,
    word: np.ndarray,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(FaceTalk, "from_pretrained", lambda *_, **__: model)
    soundfile.write(tmp_path / "cut.wav", word, SAMPLE_RATE, subtype="PCM_16")
    content = (tmp_path / "cut.wav").read_bytes()

    def talk(*words: str) -> tuple[int, np.ndarray]:
        """Frames of talk.glb and the sound beside it."""
        out = str(tmp_path / "talk.glb")
        assert main([words[0], str(tmp_path / words[1]), "-o", out, *words[2:]]) == 0
        return GlbFile(Path(out)).document["asset"]["extras"]["frames"], load_audio(tmp_path / "talk.wav")

    for frames, sound in (
        talk("generate", "cut.wav", "--steps", "1", "--motion", str(tmp_path / "m.safetensors")),
        talk("export", "m.safetensors", "--audio", str(tmp_path / "cut.wav")),
    ):
        assert frames == 60 and len(sound) == round(2.4 * SAMPLE_RATE)
        np.testing.assert_allclose(sound[3200:-3200], word, atol=1e-4)
        assert not sound[:3200].any() and not sound[-3200:].any()
    assert (
        "0.2 s of silence before the recording, 0.2 s after it: it is cut in a word"
        in capsys.readouterr().out
    )
    frames, sound = talk("generate", "cut.wav", "--steps", "1", "--pad", "0")
    assert frames == 50 and len(sound) == len(word)
    # The recording itself lies beside: it stays, and so the face begins with it.
    assert main(["generate", str(tmp_path / "cut.wav"), "-o", str(tmp_path / "cut.glb"), "--steps", "1"]) == 0
    assert GlbFile(tmp_path / "cut.glb").document["asset"]["extras"]["frames"] == 50
    (tmp_path / "cut.glb").unlink()
    assert main(["generate", str(tmp_path / "cut.wav"), "-o", str(tmp_path / "cut.glb"), "--pad", "0.3"]) == 2
    assert "needs a sound of its own" in capsys.readouterr().err
    assert (tmp_path / "cut.wav").read_bytes() == content and not (tmp_path / "cut.glb").exists()


@pytest.mark.parametrize("samples", [15_700, 15_999, 16_000, 16_001, 16_300])
@pytest.mark.parametrize("fps", [25, 30])
def test_the_last_picture_is_that_of_the_end_of_the_sound(tmp_path: Path, samples: int, fps: int) -> None:
    from mesh_scenes import talking_ball

    sound = (0.1 * np.sin(np.arange(samples) * 0.3)).astype(np.float32)
    export(tmp_path / "talk.glb", talking_ball(25), fps=25, audio=(sound, SAMPLE_RATE))
    out = render(tmp_path / "talk.glb", tmp_path / "talk.mp4", size=(32, 32), fps=fps)
    with av.open(str(out)) as video:
        pictures = sum(1 for _ in video.decode(video=0))
    with av.open(str(out)) as video:
        heard = sum(frame.samples for frame in video.decode(audio=0))
    assert (pictures - 1) / fps < samples / SAMPLE_RATE <= pictures / fps + 1e-3
    assert heard >= samples  # to whole frames of AAC: nothing is cut off
