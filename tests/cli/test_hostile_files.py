"""Files of every kind that are cut, changed or made to do harm: one line, status 2, nothing left behind."""

import json
import os
import shutil
import socket
import struct
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file

from facetalk.audio import AudioEncoder
from facetalk.cli import main
from facetalk.diffusion import MotionModel
from facetalk.errors import InputError
from facetalk.models import find_model
from facetalk.motion import Motion
from facetalk.nphm.head.head import HeadModel

DEEP = b"[" * 60_000
GOLDEN = Path(__file__).parent.parent / "golden"


def fails(capsys, *words):
    """Run the command line, expect a one-line error and status 2, and return the line."""
    try:
        status = main([str(word) for word in words])
    except SystemExit as stop:  # argparse
        status = stop.code
    err = capsys.readouterr().err
    lines = [line for line in err.splitlines() if "error:" in line]
    assert status == 2 and len(lines) == 1 and "Traceback" not in err, err
    return lines[0]


@pytest.fixture
def speech(tmp_path):
    path = tmp_path / "speech.wav"
    soundfile.write(path, 0.3 * np.sin(np.arange(8000) * 0.08), 16000)
    return path


def entry(path, *keys, value):
    """A change of one entry of a JSON file."""

    def change(folder):
        content = json.loads((folder / path).read_text())
        place = content
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value
        (folder / path).write_text(json.dumps(content))

    return change


def content(path, data):
    """Other bytes in place of a file."""
    return lambda folder: (folder / path).write_bytes(data)


def tensors(path, function):
    """A change of the tensors of a file."""

    def change(folder):
        told = function(load_file(folder / path))
        save_file({name: value.contiguous() for name, value in told.items()}, folder / path)

    return change


def each(function):
    return lambda told: {
        name: function(value) if value.is_floating_point() else value for name, value in told.items()
    }


def one(name, function):
    return lambda told: {**told, name: function(told[name])}


def poisoned(number):
    def change(value):
        value = value.float().clone()
        value.view(-1)[0] = number
        return value

    return change


MODELS = {
    "nested": ("", content("config.json", DEEP)),
    "latin-1": ("", content("config.json", b'{"format": "\xe9"}')),
    "list": ("", content("config.json", b"[]")),
    "fps-inf": ("", content("config.json", b'{"format": "facetalk-model", "version": 1, "fps": 1e999}')),
    "fps-0": ("", entry("config.json", "fps", value=0)),
    "bounds-huge": ("", entry("config.json", "geometry", "bounds", value=[[-1e300] * 3, [1e300] * 3])),
    "bounds-turned": ("", entry("config.json", "geometry", "bounds", value=[[1] * 3, [0] * 3])),
    "sigma-0": ("", entry("config.json", "geometry", "mouth_sigma", value=[0, 0, 0])),
    "sigma-text": ("", entry("config.json", "geometry", "mouth_sigma", value="wide")),
    "time-negative": ("", entry("config.json", "geometry", "temporal_sigma", value=-1)),
    "head-nested": ("head", content("config.json", DEEP)),
    "head-latin-1": ("head", content("config.json", b"\xff\xfe{}")),
    "head-negative": ("head", entry("config.json", "identity", "hidden", value=-5)),
    "head-huge": ("head", entry("config.json", "identity", "hidden", value=100_000)),
    "head-endless": ("head", entry("config.json", "forward", "layers", value=10**9)),
    "head-unknown": ("head", entry("config.json", "forward", "colour", value=1)),
    "head-names": ("head", entry("config.json", "expression_names", value="all")),
    "head-rest": ("head", entry("config.json", "rest_expression", value=[None])),
    "head-bounds": ("head", entry("config.json", "bounds", value=[[0, 0, 0]])),
    "head-nan": ("head", tensors("identity.safetensors", each(poisoned(float("nan"))))),
    "head-1e30": ("head", tensors("deformation.safetensors", each(lambda v: v * 1e30))),
    "head-1e5": ("head", tensors("deformation.safetensors", each(lambda v: v.sign() * 9e5))),
    "head-faces": ("head", tensors("template.safetensors", one("corners_0", lambda v: v + 10**6))),
    "head-part": ("head", tensors("template.safetensors", one("part", lambda v: v + 9))),
    "head-vertices": ("head", tensors("template.safetensors", one("vertices", lambda v: v[:-1]))),
    "head-shapes": ("head", tensors("template.safetensors", one("shape_starts", lambda v: v.flip(0)))),
    "head-seam": ("head", tensors("template.safetensors", one("lips.columns", lambda v: v + 1000))),
    "head-no-anchors": ("head", tensors("anchors.safetensors", lambda told: {"other": torch.zeros(1)})),
    "head-landmarks": ("head", tensors("landmarks.safetensors", one("landmarks_mean", lambda v: v[:5]))),
    "audio-nested": ("audio", content("config.json", DEEP)),
    "audio-endless": ("audio", entry("config.json", "num_hidden_layers", value=10**9)),
    "audio-wide": ("audio", entry("config.json", "hidden_size", value=100_000)),
    "audio-stride-0": ("audio", entry("config.json", "conv_stride", value=[0, 2, 2, 1])),
    "audio-stride-huge": ("audio", entry("config.json", "conv_stride", value=[100_000, 2, 2, 1])),
    "audio-span": ("audio", entry("config.json", "attention_span_s", value="long")),
    "audio-heads": ("audio", entry("config.json", "num_attention_heads", value=7)),
    "audio-floor": ("audio", entry("preprocessor_config.json", "variance_floor", value=[])),
    "audio-rate": ("audio", entry("preprocessor_config.json", "sampling_rate", value=8000)),
    "audio-nan": ("audio", tensors("model.safetensors", each(poisoned(float("nan"))))),
    "audio-1e30": ("audio", tensors("model.safetensors", each(lambda v: v.float() * 1e30))),
    "motion-nested": ("motion", content("config.json", DEEP)),
    "motion-huge": ("motion", entry("config.json", "denoiser", "width", value=2**40)),
    "motion-endless": ("motion", entry("config.json", "denoiser", "layers", value=10**9)),
    "motion-history": ("motion", entry("config.json", "denoiser", "history", value="x")),
    "motion-steps": ("motion", entry("config.json", "sampling", "steps", value="many")),
    "motion-nan": ("motion", tensors("model.safetensors", each(poisoned(float("nan"))))),
    "motion-inf": ("motion", tensors("model.safetensors", one("features.mean", poisoned(float("inf"))))),
    "motion-1e30": ("motion", tensors("model.safetensors", each(lambda v: v.float() * 1e30))),
    "motion-shape": ("motion", tensors("model.safetensors", one("features.mean", lambda v: v[None]))),
}
LATE = {"head-huge", "head-1e5", "head-no-anchors"}
"""What is wrong with networks of the head, which are made when they are first asked for."""


@pytest.mark.parametrize("name", MODELS)
def test_model_folders(capsys, monkeypatch, tmp_path, speech, name):
    part, change = MODELS[name]
    model = tmp_path / "model"
    model.mkdir()
    default = find_model("default").folder
    shutil.copy(default / "config.json", model)
    if part:
        shutil.copytree(default / part, model / part)
    # The parts that are whole need not be loaded.
    stub = SimpleNamespace(encode_identity=lambda values: values, identity_dim=1)
    for whole, kind, loader in (
        ("head", HeadModel, "open"),
        ("audio", AudioEncoder, "from_pretrained"),
        ("motion", MotionModel, "load"),
    ):
        if whole != part:
            monkeypatch.setattr(kind, loader, classmethod(lambda cls, *args, **options: stub))
    change(model / part)
    if name in LATE:  # networks that a motion does not ask
        with pytest.raises(InputError, match=str(model)):
            HeadModel.load(model / part)
        return
    line = fails(capsys, "generate", speech, "-o", tmp_path / "talk.safetensors", "--model", model)
    assert str(model) in line
    assert {path.name for path in tmp_path.iterdir()} == {"model", "speech.wav"}


CHECKPOINTS = {
    "nested": content("config.json", DEEP),
    "config-text": entry("config.json", "nneigh", value="x"),
    "1e30": tensors("identity.safetensors", each(lambda v: v * 1e30)),
    "overflows": tensors("identity.safetensors", each(lambda v: v.sign() * 9e5)),
    "inf": tensors("deformation.safetensors", each(poisoned(float("inf")))),
    "cut": content("deformation.safetensors", b"\x10\0\0\0\0\0\0\0{}"),
    "empty": content("identity.safetensors", b""),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoint_folders(capsys, tmp_path, name):
    shutil.copytree(GOLDEN / "mononphm_tiny", tmp_path / "model")
    CHECKPOINTS[name](tmp_path / "model")
    line = fails(capsys, "convert", tmp_path / "model", "-o", tmp_path / "out", "--family", "mononphm")
    assert "model" in line
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


PICKLES = {
    "integer keys": {1: torch.zeros(2), 2: {3: 4}},
    "meta": {"mlp_pos.0.weight": torch.zeros(3, 3, device="meta")},
    "sparse": {"identity": {"mlp_pos.0.weight": torch.eye(3).to_sparse()}},
    "nested": {"identity": {"decoder_state_dict": 7}},
    "list": [1, 2, 3],
}


@pytest.mark.parametrize("name", PICKLES)
def test_checkpoint_files(capsys, tmp_path, name):
    torch.save(PICKLES[name], tmp_path / "model.pt")
    np.save(tmp_path / "anchors.npy", np.zeros((3, 3), np.float32))
    assert "model.pt" in fails(capsys, "convert", tmp_path / "model.pt", "-o", tmp_path / "out")


NPY = {
    "token": b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f4\n(((",
    "huge": b"\x93NUMPY\x01\x00\x76\x00"
    + b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 3), }".ljust(117) + b"\n",
    "nested": b"\x93NUMPY\x02\x00" + struct.pack("<I", 60_000) + DEEP,
    "object": None,
    "empty": b"",
}  # fmt: skip


@pytest.mark.parametrize("name", NPY)
def test_arrays(capsys, monkeypatch, tmp_path, speech, name):
    file = tmp_path / "code.npy"
    if NPY[name] is None:
        np.save(file, np.array([{}, None]), allow_pickle=True)
    else:
        file.write_bytes(NPY[name])
    stub = SimpleNamespace(encode_identity=lambda values: values, identity_dim=1)
    monkeypatch.setattr(HeadModel, "load", classmethod(lambda cls, folder: stub))
    line = fails(capsys, "generate", speech, "-o", tmp_path / "talk.glb", "--identity", file)
    assert "code.npy" in line


def motion_file(path, header, rows=2):
    """A motion with any header."""
    data = np.zeros((rows, 53), np.float32).tobytes()
    told = {
        "__metadata__": header,
        "expressions": {"dtype": "F32", "shape": [rows, 53], "data_offsets": [0, len(data)]},
        "identity": {"dtype": "F32", "shape": [0], "data_offsets": [len(data)] * 2},
    }
    text = json.dumps(told).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


MOTION = {"format": "facetalk-motion", "version": "1", "fps": "25.0"}


@pytest.mark.parametrize(
    "header",
    [
        {**MOTION, "fps": "x"},
        {**MOTION, "fps": "nan"},
        {**MOTION, "fps": "0"},
        {**MOTION, "provenance": "[" * 60_000},
        {**MOTION, "provenance": "{"},
        {"format": "facetalk-motion"},
        {},
    ],
)
def test_motions(capsys, tmp_path, header):
    motion_file(tmp_path / "m.safetensors", header)
    assert "m.safetensors" in fails(capsys, "export", tmp_path / "m.safetensors", "-o", tmp_path / "o.glb")


@pytest.mark.parametrize("field", ["expressions", "identity"])
def test_motions_that_are_no_face(capsys, tmp_path, field):
    identity = np.zeros(HeadModel.load(find_model("default").folder / "head").identity_dim, np.float32)
    motion = Motion(np.zeros((2, 53), np.float32), identity=identity)
    getattr(motion, field)[...] = 1e10
    motion.save(tmp_path / "m.safetensors")
    line = fails(capsys, "export", tmp_path / "m.safetensors", "-o", tmp_path / "o.glb")
    assert "1e+10" in line
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]


LINES = [
    DEEP,
    b"\xff\xfe",
    b"[1]",
    b"{",
    b'{"audio": "a.wav"}',
    b'{"audio": null, "text": "x"}',
    b'{"audio": "", "text": "x"}',
    b'{"audio": "a\\u0000.wav", "text": "x"}',
    b'{"audio": "a.wav", "phones": 7}',
    b'{"audio": "a.wav", "phones": [["P", 0.1]]}',
    b'{"audio": "a.wav", "phones": [["P", 0.1, Infinity]]}',
    b'{"audio": "a.wav", "phones": [["P", 0.1, 1e999]]}',
    b'{"audio": "a.wav", "phones": [["P", 0.2, 0.1]]}',
    b'{"audio": "a.wav", "phones": [["P", 0, 1e300]]}',
    b'{"audio": "a.wav", "phones": [["P", "x", "y"]]}',
    b'{"audio": "a.wav", "phones": [[["P"], 0, 1]]}',
    b'{"audio": "a.wav", "phones": [["P", 0, ' + b"9" * 5000 + b"]]}",
    b'{"audio": "a.wav", "phones": [["P", 0, 1]], "alphabet": ["ipa"]}',
    b'{"audio": "none.wav", "phones": [["P", 0, 1]]}',
]


@pytest.mark.parametrize("line", LINES, ids=range(len(LINES)))
def test_manifests(capsys, tmp_path, speech, line):
    speech.rename(tmp_path / "a.wav")
    (tmp_path / "lines.jsonl").write_bytes(
        b'{"audio": "a.wav", "phones": [["P", 0, 0.1]]}\n\n' + line + b"\n"
    )
    assert "lines.jsonl" in fails(capsys, "evaluate", tmp_path / "lines.jsonl", "--model", "nobody")


def test_an_index_that_names_other_places(tmp_path):
    """The weights of an encoder in several files, as large models have them."""
    default = find_model("default").folder / "audio"
    model = tmp_path / "audio"
    shutil.copytree(default, model)
    told = load_file(model / "model.safetensors")
    (model / "model.safetensors").rename(tmp_path / "outside.safetensors")
    names = sorted(told)
    for number, part in enumerate((names[::2], names[1::2])):
        save_file({name: told[name] for name in part}, model / f"part{number}.safetensors")
    index = {name: f"part{number % 2}.safetensors" for number, name in enumerate(names)}
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    sound = np.sin(np.arange(8000, dtype=np.float32))
    whole = AudioEncoder.from_pretrained(default).features(sound, fps=25)
    assert torch.equal(AudioEncoder.from_pretrained(model).features(sound, fps=25), whole)
    for place in ("../outside.safetensors", str(tmp_path / "outside.safetensors"), ".."):
        (model / "model.safetensors.index.json").write_text(
            json.dumps({"weight_map": dict.fromkeys(names, place)})
        )
        with pytest.raises(ValueError, match="outside this folder"):
            AudioEncoder.from_pretrained(model)


@pytest.mark.parametrize("absolute", [False, True])
def test_no_network(capsys, monkeypatch, tmp_path, speech, absolute):
    """A model folder without a part, whose name looks like one of the hub's, is looked for here alone."""
    asked = []

    def refuse(self, address):
        asked.append(address)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: refuse(None, args))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(find_model("default").folder, "mymodel")
    shutil.rmtree("mymodel/audio")
    model = tmp_path / "mymodel" if absolute else "mymodel"
    assert "audio" in fails(capsys, "generate", speech, "-o", "talk.glb", "--model", model)
    for name in ("openai/clip", "facebook/wav2vec2-base"):
        with pytest.raises(ValueError, match="no such folder"):
            AudioEncoder.from_pretrained(name)
    assert not asked
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ValueError, match="not reachable"):
        AudioEncoder.from_pretrained("hf:nobody/nothing-at-all")


def test_the_audio_is_looked_at_before_the_model_is_loaded(capsys, monkeypatch, tmp_path):
    from facetalk.pipeline import FaceTalk

    def fail(*args, **options):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(FaceTalk, "from_pretrained", fail)
    (tmp_path / "text.wav").write_text("no sound")
    motion_file(tmp_path / "m.safetensors", MOTION)
    for sound in ("none.wav", "text.wav"):
        assert sound in fails(capsys, "generate", tmp_path / sound, "-o", tmp_path / "talk.glb")
        words = (
            "export",
            tmp_path / "m.safetensors",
            "-o",
            tmp_path / "talk.glb",
            "--audio",
            tmp_path / sound,
        )
        assert sound in fails(capsys, *words)


def test_files_are_written_with_the_usual_mode(tmp_path):
    before = os.umask(0o027)
    try:
        Motion(np.zeros((1, 2), np.float32)).save(tmp_path / "m.safetensors")
        HeadModel.load(find_model("default").folder / "head").save(tmp_path / "head")
    finally:
        os.umask(before)
    made = [tmp_path / "m.safetensors", *(tmp_path / "head").iterdir()]
    assert {oct(path.stat().st_mode & 0o777) for path in made} == {"0o640"}
    assert oct((tmp_path / "head").stat().st_mode & 0o777) == "0o750"
