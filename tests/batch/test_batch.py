"""Lists of recordings, options, and the whole way with the built-in model on two workers."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import threadpoolctl
import torch
from PIL import Image
from safetensors import safe_open

from facetalk import FaceTalk, Motion, Style, ops
from facetalk.batch import generate_batch
from facetalk.batch import work as batch_work
from facetalk.batch.listing import Recording, read_recordings
from facetalk.batch.work import Kind, Settings, model_digest, work
from facetalk.cli import main
from facetalk.mesh import RiggedSequence
from facetalk.mesh.arkit import ARKIT_NAMES
from facetalk.mesh.gltf_read import GlbFile

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three short recordings, one of them in a folder, and two that are none."""
    folder = tmp_path_factory.mktemp("sounds")
    speech, rate = soundfile.read(ROOT / "examples/demo.flac", dtype="float32")
    (folder / "more").mkdir()
    for name, start in (("a.wav", 0.5), ("b.flac", 1.0), ("more/a.wav", 1.5)):
        soundfile.write(folder / name, speech[int(start * rate) : int((start + 0.6) * rate)], rate)
    (folder / "broken.wav").write_bytes(b"RIFF\0\0\0\0WAVEnothing")
    (folder / "empty.mp3").touch()
    (folder / "notes.txt").write_text("no recording")
    return folder


@pytest.fixture
def own_threads() -> Iterator[None]:
    """Tests that do a worker's task in this process have one thread while they run, and no longer."""
    before = torch.get_num_threads(), ops.threads()
    batch_work._load.cache_clear()  # the number is set when the model is loaded
    with threadpoolctl.threadpool_limits(None):
        yield
    torch.set_num_threads(before[0])
    ops.set_threads(before[1])


def manifest(path: Path, *lines: object) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_folder_is_searched_and_a_manifest_read(sounds: Path, tmp_path: Path) -> None:
    found = read_recordings(sounds)
    assert [r.name for r in found] == ["a", "b", "broken", "empty", "more/a"]
    assert found[4].audio == str(sounds / "more/a.wav")
    file = manifest(
        tmp_path / "list.jsonl", {"audio": "x/a.wav"}, {"audio": "s3://b/c/d.wav", "seed": 3},
        {"audio": "../e.wav"}, {"audio": "/abs/f.wav", "id": "sub/g"}, 
        {"audio": "h.wav", "id": 7, "phones": []},
    )  # fmt: skip
    assert read_recordings(file) == [
        Recording("x/a", f"{tmp_path}/x/a.wav"), Recording("d", "s3://b/c/d.wav", 3),
        Recording("e", f"{tmp_path}/../e.wav"), Recording("sub/g", "/abs/f.wav"),
        Recording("7", f"{tmp_path}/h.wav"),
    ]  # fmt: skip
    manifest(tmp_path / "manifest.jsonl", {"audio": "h.wav"})
    assert [r.name for r in read_recordings(tmp_path)] == ["h"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({"id": "a"}, "line 1: no 'audio'"),
        ({"audio": 3}, "line 1: audio is no path"),
        ({"audio": "a\0.wav"}, "line 1: audio is no path"),
        ({"audio": "a.wav", "id": "../a"}, "'../a' cannot be the name of an output"),
        ({"audio": "a.wav", "id": "/a"}, "'/a' cannot be the name of an output"),
        ({"audio": "a.wav", "id": "n" * 300}, "cannot be the name of an output"),
        ({"audio": "a.wav", "id": ["a"]}, "line 1: id is no name"),
        ({"audio": "a.wav", "seed": -1}, "line 1: seed must be"),
        ({"audio": "a.wav", "seed": "x"}, "line 1: seed must be"),
        ("text", "line 1 is damaged"),
    ],
)
def test_a_line_that_cannot_be_used_is_one_line(line, told: str, tmp_path: Path, capsys) -> None:
    file = manifest(tmp_path / "list.jsonl", line)
    assert main(["batch", str(file), "-o", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_bad_options_are_one_line_and_leave_nothing(sounds: Path, tmp_path: Path, capsys) -> None:
    out = str(tmp_path / "out")
    (tmp_path / "file").touch()
    (tmp_path / "none").mkdir()
    twice = manifest(tmp_path / "twice.jsonl", {"audio": "a.wav"}, {"audio": "a.flac"})
    for words, told in [
        ([str(tmp_path / "nowhere"), "-o", out], "no recordings at"),
        ([str(tmp_path / "none"), "-o", out], "has no recordings"),
        ([str(sounds / "a.wav"), "-o", out], "is one recording; `facetalk generate` takes it"),
        ([str(twice), "-o", out], "would both be written to a"),
        ([str(sounds), "-o", str(tmp_path / "no/such")], "create it first"),
        ([str(sounds), "-o", str(tmp_path / "file")], "a file of that name is in the way"),
        ([str(sounds), "-o", str(sounds)], "no batch wrote it; choose another -o"),
        ([str(sounds), "-o", "nonsense://x"], "Protocol not known"),
        ([str(sounds), "-o", out, "--model", "nobody"], "no model 'nobody'"),
        ([str(sounds), "-o", out, "--seed", "-1"], "seed must be"),
        ([str(sounds), "-o", out, "--to", "features", "--steps", "2"], "features depend on the sound alone"),
        ([str(sounds), "-o", out, "--to", "features", "--smile", "1"], "features depend on the sound alone"),
        ([str(sounds), "-o", out, "--to", "features", "--seed", "3"], "features depend on the sound alone"),
        ([str(sounds), "-o", out, "--blink-rate", "9"], "--blink-rate must lie in 0..3"),
        ([str(sounds), "-o", out, "--texture-size", "512"], "--texture-size (texture_size=) is for heads"),
        ([str(sounds), "-o", out, "--to", "features", "--texture-size", "0"], "is for heads: give --to glb"),
        ([str(sounds), "-o", out, "--to", "csv", "--texture-size", "256"], "is for heads: give --to glb"),
        ([str(sounds), "-o", out, "--shapes", "arkit"], "--shapes (shapes=) is for heads: give --to glb"),
        ([str(sounds), "-o", out, "--to", "csv", "--shapes", "arkit"], "is for heads: give --to glb"),
        ([str(sounds), "-o", out, "--fps", "30"], "--fps (fps=) is for heads and curves"),
        ([str(sounds), "-o", out, "--to", "features", "--fps", "30"], "--fps (fps=) is for heads and curves"),
        ([str(sounds), "-o", out, "--to", "csv", "--fps", "0"], "fps must lie in 1..1000"),
        ([str(sounds), "-o", out, "--to", "glb", "--fps", "nan"], "fps must be a finite number"),
        ([str(sounds), "-o", out, "--to", "json", "--identity", "voice"], "curves are everybody's"),
        ([str(sounds), "-o", out, "--to", "glb", "--identity", "random:-2"], "at least 0"),
    ]:
        assert main(["batch", *words]) == 2, words
        error = capsys.readouterr().err
        assert told in error and error.count("\n") == 1, error
    assert not Path(out).exists()


def test_the_task_makes_every_kind_and_tells_of_failures(
    sounds: Path, tmp_path: Path, own_threads: None
) -> None:
    digest = model_digest("default")
    first = work(Settings("motion", "default", digest), Recording("a", str(sounds / "a.wav")))
    assert isinstance(first.data, bytes) and first.row["bytes"] == len(first.data)
    fetched = work(Settings("motion", "default", digest), Recording("a", f"file://{sounds}/a.wav"))
    assert fetched.data == first.data
    other = work(Settings("motion", "default", digest), Recording("a", str(sounds / "a.wav"), seed=1))
    assert other.row["seed"] == 1 and other.data != first.data
    styled = Settings("motion", "default", digest, style=Style(smile=0.5, head_motion=0.0))
    assert styled.record() != Settings("motion", "default", digest).record()
    (tmp_path / "styled.safetensors").write_bytes(work(styled, Recording("a", str(sounds / "a.wav"))).data)
    assert Motion.load(tmp_path / "styled.safetensors").pose is None
    head = work(Settings("glb", "default", digest), Recording("a", str(sounds / "a.wav")), tmp_path)
    assert isinstance(head.data, Path) and head.data.read_bytes()[:4] == b"glTF"
    small = Settings("glb", "default", digest, texture_size=256)
    assert small.record() == Settings("glb", "default", digest).record() | {"texture_size": 256}
    drawn = work(small, Recording("a", str(sounds / "a.wav")), tmp_path)
    assert isinstance(drawn.data, Path)
    for file, wide in ((head.data, 1024), (drawn.data, 256)):
        image = GlbFile(file).list("images")[0]
        assert Image.open(io.BytesIO(GlbFile(file).view(image["bufferView"]))).width == wide
    features = work(Settings("features", "default", digest), Recording("a", str(sounds / "a.wav")))
    assert isinstance(features.data, bytes)
    (tmp_path / "features.safetensors").write_bytes(features.data)
    with safe_open(tmp_path / "features.safetensors", framework="numpy") as file:
        assert float(file.metadata()["fps"]) == 25.0
        found = file.get_tensor("features")
    assert found.shape[0] == features.row["frames"] == first.row["frames"]
    np.testing.assert_array_equal(found, FaceTalk.from_pretrained(device="cpu").features(sounds / "a.wav"))
    for audio, told in (
        (sounds / "none.wav", "none.wav"), (sounds, "no plain file"), ("-", "standard input"),
        ("nonsense://x.wav", "cannot be read"), (sounds / "broken.wav", "broken.wav"),
    ):  # fmt: skip
        row = work(Settings("motion", "default", digest), Recording("x", str(audio))).row
        assert row["status"] == "failed" and told in row["error"] and "again" not in row, row
    for unfit in (
        Settings("motion", "default", digest, guidance=50.0), Settings("motion", "default", "other"),
        Settings("motion", "default", digest, identity=np.zeros(3, np.float32)),
    ):  # fmt: skip
        assert work(unfit, Recording("a", str(sounds / "a.wav"))).fatal


@pytest.mark.parametrize(
    ("to", "fps", "rate"), [("csv", None, 60.0), ("json", None, 30.0), ("csv", 29.97, 29.97)]
)
def test_curves_are_those_of_export(
    sounds: Path, tmp_path: Path, own_threads: None, to: Kind, fps: float | None, rate: float
) -> None:
    digest, recording = model_digest("default"), Recording("a", str(sounds / "a.wav"))
    settings = Settings(to, "default", digest, fps=fps)
    assert ("fps" in settings.record()) == (fps is not None)
    found = work(settings, recording)
    (tmp_path / "a.safetensors").write_bytes(work(Settings("motion", "default", digest), recording).data)
    rates = [] if fps is None else ["--fps", str(fps)]
    assert main(["export", str(tmp_path / "a.safetensors"), "-o", str(tmp_path / f"a.{to}"), *rates]) == 0
    assert found.data == (tmp_path / f"a.{to}").read_bytes()
    assert found.row["fps"] == rate and found.row["frames"] == round(0.6 * rate)


def test_heads_of_other_rates_and_names_that_nobody_knows(
    sounds: Path, own_threads: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    digest, recording = model_digest("default"), Recording("a", str(sounds / "a.wav"))
    settings = Settings("glb", "default", digest, texture_size=0, fps=60.0, shapes="arkit")
    head = work(settings, recording, tmp_path)
    assert isinstance(head.data, Path) and head.row["fps"] == 60.0
    assert settings.record()["shapes"] == "arkit"
    assert tuple(GlbFile(head.data).list("meshes")[0]["extras"]["targetNames"]) == ARKIT_NAMES
    assert GlbFile(head.data).document["asset"]["extras"]["frames"] == head.row["frames"] == 36
    unnamed = [f"shape {i}" for i in range(53)]
    monkeypatch.setattr(type(FaceTalk.from_pretrained(device="cpu").head), "expression_names", unnamed)
    batch_work._load.cache_clear()
    batch_work._checked.clear()
    for unknown in (Settings("csv", "default", digest), settings):
        assert "receivers would not know" in work(unknown, recording).fatal


def test_a_head_without_textures_takes_no_size(
    sounds: Path, own_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings("glb", "default", model_digest("default"), texture_size=512)
    decode = FaceTalk.decode

    def plain(self: FaceTalk, motion: Motion) -> RiggedSequence:
        rig = decode(self, motion)
        assert isinstance(rig, RiggedSequence)
        return RiggedSequence(dataclasses.replace(rig.base, texture=None), rig.basis, rig.weights)

    monkeypatch.setattr(FaceTalk, "decode", plain)
    found = work(settings, Recording("a", str(sounds / "a.wav")))
    assert found.fatal == "the model's head has no textures: leave out --texture-size (texture_size=)"


def test_a_head_without_a_rig_takes_no_names(
    sounds: Path, own_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FaceTalk, "decode", lambda self, motion: iter(()))
    settings = Settings("glb", "default", model_digest("default"), shapes="arkit")
    assert "head with a rig" in work(settings, Recording("a", str(sounds / "a.wav"))).fatal


def test_equal_motions_are_equal_files(tmp_path: Path) -> None:
    found = set()
    for _ in range(8):  # where the order is any, it is another sooner or later
        provenance = {"model": "default", "seed": 0, "hearing": ["x"]}
        Motion(np.ones((3, 4), np.float32), 25.0, np.ones(2, np.float32), provenance).save(
            tmp_path / "m.safetensors"
        )
        found.add((tmp_path / "m.safetensors").read_bytes())
    assert len(found) == 1
    assert Motion.load(tmp_path / "m.safetensors").provenance == provenance


def test_two_workers_give_what_one_recording_after_the_other_gives(
    sounds: Path, tmp_path: Path, capsys
) -> None:
    out, own = tmp_path / "out", ["--encoder", "model"]
    assert main(["batch", str(sounds), "-o", str(out), "--workers", "2", *own]) == 1
    told = capsys.readouterr()
    assert "3 of 5 recordings done, 2 failed" in told.out and "broken: " in told.out and "empty: " in told.out
    rows = {row["id"]: row for row in map(json.loads, (out / "batch.jsonl").read_text().splitlines()[1:])}
    for name, audio in (("a", "a.wav"), ("b", "b.flac"), ("more/a", "more/a.wav")):
        settings = Settings("motion", "default", model_digest("default"))
        alone = work(settings, Recording(name, str(sounds / audio)))
        assert (out / f"{name}.safetensors").read_bytes() == alone.data
        assert alone.row["sha256"] == rows[name]["sha256"]
    made = Motion.load(out / "more/a.safetensors")
    plain = FaceTalk.from_pretrained(device="cpu").generate(sounds / "more/a.wav", seed=0)
    np.testing.assert_array_equal(made.expressions, plain.expressions)
    assert made.provenance == plain.provenance
    report = generate_batch(sounds, out)
    assert report.kept == 5 and [row["id"] for row in report.failed] == ["broken", "empty"]
    assert main(["batch", str(sounds), "-o", str(out), "--steps", "4", *own]) == 2
    assert "other settings (steps None, now 4)" in capsys.readouterr().err
