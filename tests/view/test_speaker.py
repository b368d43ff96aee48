"""The work behind the page with the built-in model: what it gives is what the library gives."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from facetalk.errors import InputError
from facetalk.mesh.gltf_read import GlbFile
from facetalk.motion import Motion
from facetalk.pipeline import FaceTalk
from facetalk.view import speaker as module
from facetalk.view.speaker import Settings, Speaker

DEMO = Path(__file__).resolve().parents[2] / "examples/demo.flac"


@pytest.fixture(scope="module")
def model() -> FaceTalk:
    return FaceTalk.from_pretrained("default", "cpu")


@pytest.fixture
def speaker(model: FaceTalk, tmp_path: Path) -> Speaker:
    return Speaker(model, tmp_path)


def document(glb: bytes) -> dict:
    assert glb[:4] == b"glTF"
    return json.loads(glb[20 : 20 + struct.unpack("<I", glb[12:16])[0]])


def test_a_recording_is_spoken(speaker: Speaker, model: FaceTalk, tmp_path: Path) -> None:
    sound, rate = soundfile.read(DEMO, dtype="int16", frames=16_000)
    place = speaker.place("../me.wav")
    soundfile.write(place, sound, rate)
    talk = speaker.talk(place, Settings(steps=1, guidance=1.2, seed=5))
    motion = model.generate(place, steps=1, guidance=1.2, seed=5, pad=None)
    assert (talk.frames, talk.steps, talk.guidance) == (len(motion), 1, 1.2)
    (tmp_path / "back.wav").write_bytes(talk.sound)
    heard, _ = soundfile.read(tmp_path / "back.wav", dtype="int16")
    assert len(heard) == len(sound) + round(sum(motion.pad) * rate)
    made, still = document(talk.glb), document(speaker.head)
    assert made["asset"]["extras"]["frames"] == len(motion)
    names = [each["meshes"][0]["extras"]["targetNames"] for each in (made, still)]
    assert names[0] == names[1] == speaker.names, "curves of the microphone move the head at rest"


def test_heads_have_the_textures_that_were_asked_for(model: FaceTalk, tmp_path: Path) -> None:
    place = tmp_path / "me.wav"
    soundfile.write(place, *soundfile.read(DEMO, dtype="int16", frames=8000))
    for size, wide in ((256, 256), (0, 0)):
        speaker = Speaker(model, tmp_path, size)
        for name, glb in (("head", speaker.head), ("talk", speaker.talk(place, Settings(steps=1)).glb)):
            (tmp_path / name).write_bytes(glb)
            file = GlbFile(tmp_path / name)
            views = [file.view(image["bufferView"]) for image in file.document.get("images", [])]
            found = max((Image.open(io.BytesIO(view)).width for view in views), default=0)
            assert found == wide, (name, size)


def test_settings_of_the_controls_are_the_models(speaker: Speaker, model: FaceTalk) -> None:
    about = speaker.describe()
    assert about["steps"] in about["few"] and about["range"][0] <= about["guidance"] <= about["range"][1]
    motion = model.motion_model
    assert about["steps"] == motion.steps_for(None) and about["guidance"] == motion.default_guidance
    json.dumps(about)


def test_the_microphone_hears_what_a_stream_hears(speaker: Speaker, model: FaceTalk) -> None:
    sound, rate = soundfile.read(DEMO, dtype="int16", frames=16_000)
    with speaker.listen(rate, 0.1, Settings(steps=1)) as mine, model.stream(steps=1, look_ahead=0.1) as other:
        found = [mine.push(sound[i : i + 320]).expressions for i in range(0, len(sound), 320)]
        expected = other.push(sound).expressions
    np.testing.assert_allclose(np.concatenate(found), expected, atol=1e-5)
    assert np.ptp(expected, axis=0).max() > 0.01


@pytest.mark.parametrize("settings", [Settings(steps=0), Settings(steps=10**12),
                                      Settings(steps=4, guidance=9.0)])  # fmt: skip
def test_settings_beyond_the_model(speaker: Speaker, settings: Settings) -> None:
    with pytest.raises(InputError):
        speaker.listen(16_000, 0.2, settings)


def test_what_is_no_recording_or_too_long_a_one(speaker: Speaker, monkeypatch: pytest.MonkeyPatch) -> None:
    place = speaker.place("a.wav")
    place.write_bytes(b"RIFF nothing")
    with pytest.raises(InputError) as caught:
        speaker.talk(place, Settings())
    assert str(place.parent) not in speaker.public(str(caught.value))
    monkeypatch.setattr(module, "MOST_SECONDS", 0.5)
    soundfile.write(place, np.zeros(16_000), 16_000)
    with pytest.raises(InputError, match="longer than"):
        speaker.talk(place, Settings())


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("talk.wav", "talk.wav"),
        ("../../etc/passwd", "passwd"),
        ("C:\\me\\a b.wav", "a b.wav"),
        ("..", "recording"),
        ("", "recording"),
        ("/", "recording"),
        (".bashrc", "bashrc"),
        ("a\0b\n$(x).wav", "a_b__(x).wav"),
        ("é" * 300 + ".mp3", "é" * 76 + ".mp3"),
    ],
)
def test_names_that_people_send_lead_nowhere(speaker: Speaker, tmp_path: Path, name: str, kept: str) -> None:
    place = speaker.place(name)
    assert place == tmp_path / "in" / kept
    place.write_bytes(b"")


def test_curves_of_the_page_have_the_tongue_last(speaker: Speaker, model: FaceTalk) -> None:
    codes = np.random.default_rng(0).random((4, 53)).astype(np.float32)
    tongue = np.random.default_rng(1).random((4, 3)).astype(np.float32)
    found = speaker.curves(Motion(codes, 25.0, tongue=tongue))
    np.testing.assert_array_equal(found, np.hstack([codes, tongue]))
    still = speaker.curves(Motion(codes, 25.0))
    np.testing.assert_array_equal(still, np.hstack([codes, np.zeros((4, 3), np.float32)]))
    assert speaker.names[-3:] == ["tongueUp", "tongueForward", "tongueOut"] and len(speaker.names) == 56
