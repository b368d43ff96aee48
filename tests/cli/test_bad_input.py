"""Whatever a person gives: one line that says what was wrong, status 2, and nothing half-written."""

import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from facetalk.cli import VERBS, main
from facetalk.cli._options import rate
from facetalk.models import find_model
from facetalk.motion import Motion
from facetalk.pipeline import FaceTalk


def fails(capsys, *words):
    """Run the command line, expect a one-line error and status 2, and return the line."""
    try:
        status = main([str(word) for word in words])
    except SystemExit as stop:  # argparse
        status = stop.code
    _, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if "error:" in line]
    assert status == 2, err
    assert len(lines) == 1 and "Traceback" not in err, err
    return lines[0]


@pytest.fixture
def speech(tmp_path):
    path = tmp_path / "speech.wav"
    t = np.arange(16000) / 16000
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * 200 * t) * np.sin(2 * np.pi * 3 * t), 16000)
    return path


def padded_motion(path):
    """A second of a face at rest, after 0.2 s of silence."""
    head = FaceTalk.from_pretrained().head
    codes = np.zeros((30, len(head.expression_names)), np.float32)
    Motion(codes, 25.0, head.default_identity, {"pad": [0.2, 0.0]}).save(path)


def broken_audio(folder, kind):
    path = folder / f"{kind}.wav"
    if kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("this is not sound\n" * 50)
    elif kind == "no-samples":
        soundfile.write(path, np.zeros(0, np.float32), 16000)
    elif kind == "nan":
        soundfile.write(path, np.array([0, np.nan, 0.1] * 500, np.float32), 16000, subtype="FLOAT")
    elif kind == "truncated":
        soundfile.write(path, np.zeros(16000, np.float32), 16000)
        path.write_bytes(path.read_bytes()[:20])
    elif kind == "folder":
        path.mkdir()
    return path


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "no-samples", "nan", "truncated", "folder"])
def test_audio_that_cannot_be_used(capsys, tmp_path, kind):
    path = broken_audio(tmp_path, kind)
    line = fails(capsys, "generate", path, "-o", tmp_path / "talk.glb")
    assert path.name in line
    assert "Errno" not in line and "sound.wav" not in line  # of libraries, which call the file as they like
    assert not list(tmp_path.glob("*talk*"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--steps", "0"], "steps"),
        (["--steps", "-3"], "steps"),
        (["--steps", "100000"], "steps"),
        (["--steps", "many"], "steps"),
        (["--resolution", "1"], "resolution"),
        (["--resolution", "4096"], "resolution"),
        (["--resolution", "4096", "--topology", "marching-cubes"], "resolution"),
        (["--guidance", "nan"], "guidance"),
        (["--guidance", "1e9"], "guidance"),
        (["--seed", "-1"], "seed"),
        (["--fps", "30/0"], "divided by 0"),
        (["--fps", "30/x"], "fps"),
        (["--fps", "30/1/1"], "fps"),
        (["--fps", "1/inf"], "fps must lie in"),
        (["--look-ahead", "-1"], "--look-ahead: must lie in 0..60 seconds, got -1"),
        (["--look-ahead", "61"], "--look-ahead: must lie in 0..60 seconds, got 61"),
        (["--look-ahead", "nan"], "--look-ahead: must be a finite number, got 'nan'"),
        (["--look-ahead", "soon"], "--look-ahead: must be a number, got 'soon'"),
        (["--tolerance-mm", "0"], "tolerance"),
        (["--tolerance", "-1", "--topology", "marching-cubes"], "tolerance"),
        (["--tolerance", "inf", "--topology", "marching-cubes"], "tolerance"),
        (["--identity", "nobody.npy"], "nobody.npy"),
        (["--identity", "nobody.safetensors"], "nobody.safetensors"),
        (["--identity", "random:x"], "random:"),
        (["--identity", "random:-1"], "at least 0"),
        (["--identity", "random:" + "9" * 5000], "at least 0"),
        (["--identity", "voice:" + "9" * 5000], "at least 0"),
        (["--device", "cuda:99"], "cuda:99"),
        (["--device", "toaster"], "toaster"),
        (["--model", "no-such-model"], "no-such-model"),
        (["--topology", "cubes"], "topology"),
        (["--encoder", "ears"], "--encoder"),
        (["--encoder", "whisper", "--look-ahead", "1.5"], "look-ahead of up to 1 s"),
    ],
)
def test_options_out_of_range(capsys, tmp_path, speech, options, says):
    assert says in fails(capsys, "generate", speech, "-o", tmp_path / "talk.glb", *options)
    assert not list(tmp_path.glob("*talk*"))


@pytest.mark.parametrize(
    "verb",
    [["live", "--from", "no.wav"], ["convert", "--onnx", "no"], ["train", "tongue", "--out", "no"]],
)
def test_every_look_ahead_has_the_same_range(capsys, verb):
    said = fails(capsys, *verb, "--look-ahead", "60.5")
    assert said.endswith("argument --look-ahead: must lie in 0..60 seconds, got 60.5")


@pytest.mark.parametrize(
    ("output", "options", "says"),
    [
        ("talk.glb", ["--resolution", "64"], "--topology marching-cubes"),
        ("talk.ply", ["--topology", "fixed", "--resolution", "64"], "--topology marching-cubes"),
        ("talk.ply", ["--tolerance", "0.2"], "--tolerance is for"),
        ("talk.safetensors", ["--topology", "marching-cubes"], "leave out --topology"),
        ("talk.safetensors", ["--no-smooth", "--tolerance", "1"], "leave out --no-smooth, --tolerance"),
        ("talk.csv", ["--identity", "random:3"], "leave out --identity"),
        ("talk.json", ["--force"], "leave out --force"),
        ("talk.safetensors", ["--force"], "is one file of a motion: leave out --force"),
        ("talk.glb", ["--quantize", "--float"], "--float: not allowed with argument --quantize"),
        ("talk.SAFETENSORS", ["--temporal-sigma", "0.1"], "leave out --temporal-sigma"),
    ],
)
def test_options_that_would_do_nothing(capsys, tmp_path, speech, output, options, says):
    assert says in fails(capsys, "generate", speech, "-o", tmp_path / output, *options)
    assert not list(tmp_path.glob("*talk*"))


def test_a_rate_may_be_a_fraction() -> None:
    assert rate("30000/1001") == 30000 / 1001 and rate("24") == 24.0


def test_export_refuses_them_too(capsys, tmp_path):
    """Before it looks for the motion, so that nothing is read in vain."""
    words = ["export", tmp_path / "none.safetensors", "-o", tmp_path / "talk.glb", "--resolution", "64"]
    assert "--topology marching-cubes" in fails(capsys, *words)


def test_export_names_all_that_it_writes(capsys, tmp_path):
    line = fails(capsys, "export", tmp_path / "talk.safetensors", "-o", tmp_path / "talk.fbx")
    assert ".glb" in line and ".csv, .json" in line
    words = ["export", tmp_path / "talk.safetensors", "-o", tmp_path / "talk.csv", "--audio", "speech.wav"]
    assert fails(capsys, *words).endswith("leave out --audio")


def test_a_family_of_no_checkpoint(capsys):
    assert "--family belongs to --checkpoint" in fails(capsys, "bench", "--family", "nphm")


def test_help_names_no_default_that_is_none(capsys):
    with pytest.raises(SystemExit):
        main(["generate", "--help"])
    out = " ".join(capsys.readouterr().out.split())
    assert "(default: None)" not in out and "(default: False)" not in out
    assert "noise seed (default: 0)" in out and "(default: default)" in out


@pytest.mark.parametrize("words", [["render"], ["train", "nphm"], ["train", "audio"], ["data"]])
def test_help_tells_a_default_once(capsys, words):
    with pytest.raises(SystemExit):
        main([*words, "--help"])
    out = " ".join(capsys.readouterr().out.split())
    assert not [option for option in out.split(" --") if re.search(r"default.*\(default:", option)]
    assert "ict_facekit_light" not in out  # a path of this machine
    if words[0] == "train":
        assert "--seed SEED seed of" in out or "--seed SEED of everything" in out


@pytest.mark.parametrize(
    ("part", "options", "says"),
    [
        ("motion", ["--rate", "-1"], "--rate"),
        ("motion", ["--seed", "-1"], "--seed"),
        ("motion", ["--variants", "0"], "--variants"),
        ("motion", ["--cache-minutes", "nan"], "--cache-minutes"),
        ("motion", ["--steps", "0"], "--steps"),
        ("motion", ["--minutes", "nan"], "--minutes"),
        ("audio", ["--seed", "-1"], "--seed"),
        ("audio", ["--steps", "0"], "--steps"),
        ("nphm", ["--steps", "0"], "--steps"),
        ("nphm", ["--minutes", "0"], "--minutes"),
        ("nphm", ["--seed", "-1"], "--seed"),
        ("sync", ["--seed", "-1"], "--seed"),
        ("whisper", ["--seed", "-1"], "--seed"),
        ("whisper", ["--heard", "0"], "--heard"),
        ("whisper", ["--minutes", "nan"], "--minutes"),
        ("tongue", ["--seed", "-1"], "--seed"),
        ("tongue", ["--heard", "-1"], "--heard"),
        ("sync", ["--minutes", "nan"], "--minutes"),
    ],
)
def test_limits_of_trainings_are_checked_before_the_work(capsys, tmp_path, part, options, says):
    """Before a corpus is encoded for minutes, and with nothing left in --out."""
    places = {"motion": ["--corpus", tmp_path, "--audio", tmp_path], "nphm": []}
    words = ["train", part, *places.get(part, ["--corpus", tmp_path]), "--out", tmp_path / "run", *options]
    assert says in fails(capsys, *words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["generate", "speech.wav", "-o", "talk.csv"],
        ["bench"],
        ["distill", "--audio", ".", "--out", "run"],
        ["fit", "--points", "a.ply", "-o", "a.safetensors"],
        ["evaluate", "."],
    ],
)
def test_more_threads_than_the_core_takes(capsys, words):
    assert "1 to 1024, got 99999" in fails(capsys, *words, "--threads", "99999")


def test_output_places_that_cannot_be(capsys, tmp_path, speech):
    assert "does not exist" in fails(capsys, "generate", speech, "-o", tmp_path / "no" / "such" / "talk.glb")
    assert ".xyz" in fails(capsys, "generate", speech, "-o", tmp_path / "talk.xyz")
    (tmp_path / "taken.glb").mkdir()
    assert "taken.glb" in fails(capsys, "generate", speech, "-o", tmp_path / "taken.glb")


def test_full_device(capsys, speech):
    """A device that is full refuses the first byte."""
    line = fails(capsys, "generate", speech, "-o", "/dev/full/talk.glb")
    assert "/dev/full" in line


def test_model_folders_that_are_wrong(capsys, tmp_path, speech):
    out = tmp_path / "talk.glb"
    model = tmp_path / "model"
    model.mkdir()
    assert "config.json" in fails(capsys, "generate", speech, "-o", out, "--model", model)
    (model / "config.json").write_text("{ broken")
    assert "damaged" in fails(capsys, "generate", speech, "-o", out, "--model", model)
    (model / "config.json").write_text('{"format": "something else"}')
    assert "format" in fails(capsys, "generate", speech, "-o", out, "--model", model)


@pytest.mark.parametrize("part", ["head", "audio", "motion"])
@pytest.mark.parametrize("harm", ["missing", "cut", "noise"])
def test_model_parts_that_are_damaged(capsys, tmp_path, speech, part, harm):
    model = tmp_path / "model"
    shutil.copytree(find_model("default").folder, model)
    if harm == "missing":
        shutil.rmtree(model / part)
    for file in (model / part).glob("*.safetensors"):
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2] if harm == "cut" else b"\xff" * 100)
    line = fails(capsys, "generate", speech, "-o", tmp_path / "talk.glb", "--model", model)
    assert str(model) in line
    assert not list(tmp_path.glob("*talk*"))


@pytest.mark.parametrize(
    "words", [["dance"], [], ["render"], ["export", "none.safetensors", "-o", "talk.glb"]]
)
def test_wrong_words(capsys, words):
    if words:
        fails(capsys, *words)
    else:
        assert main([]) == 2


def test_files_of_another_kind(capsys, tmp_path, speech):
    assert speech.name in fails(capsys, "render", speech, "-o", tmp_path / "talk.mp4")
    assert "none.glb" in fails(capsys, "render", tmp_path / "none.glb", "-o", tmp_path / "talk.mp4")
    assert speech.name in fails(capsys, "export", speech, "-o", tmp_path / "talk.glb")
    assert speech.name in fails(capsys, "convert", speech, "-o", tmp_path / "nphm")
    assert "manifest" in fails(capsys, "evaluate", tmp_path / "manifest.jsonl")


@pytest.mark.parametrize("kind", ["empty", "wav", "motion", "noise"])
def test_a_file_that_is_no_gltf_is_told_so_in_words(capsys, tmp_path, speech, kind):
    """Not by what a parser of JSON found in it."""
    content = {
        "empty": b"", "wav": speech.read_bytes(), "motion": b"\x40\x02\0\0\0\0\0\0{}", "noise": b"\x88" * 99,
    }  # fmt: skip
    path = tmp_path / "talk.glb"
    path.write_bytes(content[kind])
    line = fails(capsys, "render", path, "-o", tmp_path / "talk.png")
    assert ("it is empty" if kind == "empty" else "give what facetalk generate or export wrote") in line
    assert "codec" not in line and "column" not in line


def test_a_picture_of_any_size_is_told_the_range(capsys, tmp_path):
    for size in ("1000000", "16x5000"):
        line = fails(capsys, "render", "talk.glb", "-o", tmp_path / "talk.png", "--size", size)
        assert "size must lie in 16 to 4096" in line


@pytest.mark.parametrize(("seconds", "told"), [(1.0, False), (0.4, True), (3.0, True)])
def test_a_recording_that_the_motion_was_not_made_from_is_remarked_on(capsys, tmp_path, seconds, told):
    """Export writes what it is asked for, and says that sound and face will not go together."""
    padded_motion(tmp_path / "talk.safetensors")
    soundfile.write(tmp_path / "other.wav", 0.1 * np.ones(round(16000 * seconds)), 16000)
    words = ["export", tmp_path / "talk.safetensors", "--audio", tmp_path / "other.wav"]
    options = ["--detail", "low", "--texture-size", "0", "-o", tmp_path / "talk.glb"]
    assert main([str(word) for word in [*words, *options]]) == 0
    err = capsys.readouterr().err
    assert ("is it the recording that the motion was made from?" in err) is told
    assert not told or f"lasts {seconds:.2f} s, and the motion speaks for 1.00 s" in err


def test_a_recording_kept_as_it_is_goes_with_a_motion_without_silence(capsys, tmp_path, speech):
    padded_motion(tmp_path / "talk.safetensors")
    words = ["export", tmp_path / "talk.safetensors", "--audio", speech, "--sound", "original"]
    assert "make the motion without it (--pad 0" in fails(capsys, *words, "-o", tmp_path / "a.glb")


@pytest.mark.parametrize("words", [["generate"], ["train", "nphm"]])
def test_help_of_a_verb_may_be_asked_for_first(capsys, words):
    with pytest.raises(SystemExit) as stop:
        main(["help", *words])
    assert stop.value.code == 0
    assert f"usage: facetalk {' '.join(words)} " in capsys.readouterr().out
    assert "no verb 'dance'" in fails(capsys, "help", "dance")


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_explains_itself(capsys, verb):
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    assert f"facetalk {verb}" in capsys.readouterr().out


def test_command_as_a_process(tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "facetalk", "generate", "none.wav", "-o", str(tmp_path / "a.glb")],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert run.returncode == 2
    assert run.stderr.startswith("error: ") and run.stderr.count("\n") == 1, run.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--packages", "nowhere"], "--packages nowhere: no such folder"),
        (["--packages", "nowhere", "--acceptance"], "--packages nowhere: no such folder"),
        (["--packages", ".", "--sources", "espeak"], "recordings of asterisk and tuxpaint"),
        (["--acceptance", "--sources", "espeak"], "leave out --sources"),
        (["--acceptance", "--minutes", "3", "--seed", "2"], "leave out --minutes, --seed"),
    ],
)
def test_a_corpus_is_not_begun_with_options_that_lead_nowhere(capsys, tmp_path, monkeypatch, options, says):
    monkeypatch.chdir(tmp_path)
    assert says in fails(capsys, "data", "-o", "corpus", *options)
    assert not list(tmp_path.iterdir())
