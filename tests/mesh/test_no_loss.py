"""What an export may replace, and what not."""

import numpy as np
import pytest
import soundfile

from facetalk.cli import main
from facetalk.errors import InputError
from facetalk.mesh import Mesh
from facetalk.mesh.export import check_output, export
from facetalk.mesh.sound import is_ours, write_wav


@pytest.fixture
def mesh():
    return Mesh(np.eye(3, dtype=np.float32), np.array([[0, 1, 2]]))


@pytest.fixture
def speech(tmp_path):
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "speech.flac"
    soundfile.write(path, 0.2 * np.sin(np.arange(3000)), 16000)
    return path


def test_the_sound_of_somebody_beside_a_glb_stays(tmp_path, mesh, speech):
    talk, beside = tmp_path / "talk.glb", tmp_path / "talk.wav"
    soundfile.write(beside, 0.1 * np.ones((500, 2)), 96000, subtype="PCM_24")
    content = beside.read_bytes()
    with pytest.raises(InputError, match=r"talk\.wav.*--force"):
        export(talk, [mesh], fps=25, audio=speech)
    assert beside.read_bytes() == content and not talk.exists()
    export(talk, [mesh], fps=25)  # without sound nothing is in the way
    assert beside.read_bytes() == content
    export(talk, [mesh], fps=25, audio=beside)  # the recording itself: named, not rewritten
    assert beside.read_bytes() == content
    export(talk, [mesh], fps=25, audio=speech, force=True)
    assert is_ours(beside)
    export(talk, [mesh], fps=25, audio=(np.zeros(800), 16000))  # our own: replaced without a word
    assert len(soundfile.read(beside)[0]) == 800
    assert {path.name for path in tmp_path.iterdir()} == {"in", "talk.glb", "talk.wav"}


def test_our_sound_is_known_until_it_is_changed(tmp_path, speech):
    path = tmp_path / "o.wav"
    write_wav(path, speech)
    assert is_ours(path) and soundfile.info(path).frames == 3000
    samples, rate = soundfile.read(path, dtype="int16")
    np.testing.assert_allclose(samples / 32768, soundfile.read(speech)[0], atol=1e-4)
    content = path.read_bytes()
    for changed in (
        content[:100] + b"\7\7" + content[102:], content[:-1], content + b"x", content[:30], b"", b"RIFF" * 30
    ):  # fmt: skip
        path.write_bytes(changed)
        assert not is_ours(path)
    soundfile.write(path, samples, rate)
    assert not is_ours(path)


def test_folders_of_frames(tmp_path, mesh, speech):
    folder = tmp_path / "talk.ply"
    export(folder, [mesh, mesh], fps=25, audio=speech)
    export(folder, [mesh], fps=25)
    assert [path.name for path in folder.iterdir()] == ["frame_00000.ply"]
    others = {
        "notes.txt": b"mine",
        "frame_00001.ply": b"ply\nformat ascii 1.0\ncomment Blender\n",
        "talk.wav": speech.read_bytes(),
        "frame_1.ply": (folder / "frame_00000.ply").read_bytes(),
    }
    for name, content in others.items():
        (folder / name).write_bytes(content)
        with pytest.raises(InputError, match="--force"):
            export(folder, [mesh, mesh], fps=25)
        with pytest.raises(InputError, match="--force"):
            check_output(folder)
        assert (folder / name).read_bytes() == content
        (folder / name).unlink()
    (folder / "notes.txt").touch()
    export(folder, [mesh], fps=25, force=True)
    assert [path.name for path in folder.iterdir()] == ["frame_00000.ply"]


def test_a_link_to_a_folder_is_replaced_and_not_what_it_names(tmp_path, mesh):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "precious").touch()
    (tmp_path / "o.ply").symlink_to("real")
    with pytest.raises(InputError, match="--force"):
        export(tmp_path / "o.ply", [mesh], fps=25)
    export(tmp_path / "o.ply", [mesh], fps=25, force=True)
    assert (tmp_path / "real" / "precious").exists() and not (tmp_path / "o.ply").is_symlink()


def test_the_command_line_refuses_before_it_works(capsys, monkeypatch, tmp_path, speech):
    from facetalk.pipeline import FaceTalk

    monkeypatch.setattr(FaceTalk, "from_pretrained", lambda *args: pytest.fail("the model was loaded"))
    (tmp_path / "scans.ply").mkdir()
    (tmp_path / "scans.ply" / "notes.txt").touch()
    (tmp_path / "talk.wav").write_bytes(b"mine")
    (tmp_path / "m.safetensors").write_bytes(b"x")
    same = tmp_path / "in" / "speech.glb"  # a recording may have any name
    same.write_bytes(speech.read_bytes())
    for words in (
        ["generate", speech, "-o", tmp_path / "scans.ply"],
        ["generate", speech, "-o", tmp_path / "talk.glb"],
        ["generate", same, "-o", same],
        ["generate", speech, "-o", tmp_path / "a.safetensors", "--motion", tmp_path / "a.safetensors"],
        ["export", tmp_path / "m.safetensors", "-o", tmp_path / "scans.ply"],
        ["render", same, "-o", tmp_path / "o.mp4", "--audio", tmp_path / "o.mp4"],
        ["render", same, "--audio", speech, "-o", speech.with_suffix(".mp4")],
    ):
        speech.with_suffix(".mp4").unlink(missing_ok=True)
        speech.with_suffix(".mp4").hardlink_to(speech)
        assert main([str(word) for word in words]) == 2
        err = capsys.readouterr().err
        assert err.startswith("error: ") and err.count("\n") == 1, err
    assert (tmp_path / "talk.wav").read_bytes() == b"mine" and (tmp_path / "scans.ply" / "notes.txt").exists()
