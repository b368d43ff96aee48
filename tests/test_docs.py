"""Every command and Python snippet of README and docs runs, on small inputs in a folder of its own.

A command is looked up in ``SCALED`` (how it is made small) or ``ELSEWHERE`` (what runs it instead); one that
is in neither runs exactly as it is written, so a new line in the docs is tested without a thought of it.
"""

from __future__ import annotations

import functools
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from morphable import fields
from safetensors.torch import load_file

from facetalk.cli import main, train_nphm
from facetalk.data.speech.synth import Flite
from facetalk.errors import InputError
from facetalk.fitting import DifferentiableField
from facetalk.fitting.cameras import Camera
from facetalk.fitting.synthetic import scan
from facetalk.models import find_model
from facetalk.motion import Motion
from facetalk.nphm import load_checkpoint
from facetalk.nphm.head.head import HeadModel
from facetalk.posing import landmarks
from facetalk.training.head.train import HeadTraining

ROOT = Path(__file__).resolve().parents[1]
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
         "facetalk/models/default/README.md"]  # fmt: skip
DEFAULT = find_model("default").folder

pytestmark = pytest.mark.skipif(not (ROOT / "README.md").exists(), reason="needs the source tree")

# Beginning of a command -> (text that is replaced, by what)*, and what is put behind it.
SCALED: list[tuple[str, list[tuple[str, str]], str]] = [
    ("facetalk data --acceptance", [("--acceptance", "")], "--sources espeak --minutes 0.05"),
    ("facetalk data --out", [(" --kokoro DIR", "")], "--sources flite,espeak --minutes 0.1"),
    ("facetalk data head", [], ""),
    ("facetalk train nphm", [("--data ict_facekit_light.npz", "")], "--data tiny.npz --steps 6"),
    ("facetalk train audio",
     [("--steps 9000", ""), ("--workers 12", "--workers 2"), ("--workers 14", "--workers 2")],
     "--steps 2 --batch 2"),
    ("facetalk train whisper",
     [("--heard 900 --steps 4500 --workers 1", ""), ("--heard 400 --steps 4000 --learning-rate 2e-4", "")],
     "--heard 1 --steps 2 --batch 2"),
    ("facetalk train motion", [], "--steps 2 --batch 2 --crop 12 --variants 1"),
    ("facetalk train tongue", [("--split valid", "")], "--heard 0.1 --steps 2"),
    # The tiny head has other expressions than speech: the built-in head stands in for it.
    ("facetalk assemble",
     [("--head run/head", "--head builtin"), ("--head built/head", "--head builtin"),
      ("facetalk/models/default", "builtin")], ""),
    ("facetalk evaluate examples/demo.jsonl", [], "--seeds 1 --steps 1"),
    ("facetalk evaluate --compare", [], ""),
    ("facetalk evaluate", [("--seeds 4", "--seeds 2")], "--limit 2"),
    ("facetalk generate", [("--steps 25", "--steps 3")], ""),
    ("facetalk fit", [], "--per-frame 300"),
    ("facetalk batch", [("FOLDER", "manifest.jsonl")], "--workers 1"),
    ("facetalk render", [], "--size 48 --frames 2"),
    ("facetalk distill", [("--minutes 60", "--steps 2"), ("--minutes 90", "--steps 3"),
                          ("--minutes 104", "--steps 2"), ("--steps 2500", "--steps 2"),
                          ("--steps 100000", "--steps 2"), ("--workers 15", "--workers 2"),
                          ("MODEL", "builtin"),
                          ("--produce 1", "--produce 1 --minutes 0.001")],
     "--clips 2 --clip 24 --crop 16 --batch 2 --uses 100 --variants 1"),
]  # fmt: skip
ELSEWHERE = {
    "pip install": "test_packaging.py installs the wheel",
    "make ": "the Makefile runs this suite",
    "pytest ": "rehearsed by the tests of the benchmarks",
    "cp ": "would change the package",
    "python -m experiments": "experiments have tests and results of their own",
    "python examples/readers/compare.py": "mesh/test_example_readers.py, beside the readers",
    "python -m zipfile": "mesh/test_blender_addon.py packs and installs what it makes",
    "python -m http.server": "mesh/test_example_readers.py has a server",
    "python scripts/fuzz.py": "fuzzing has tests of its own, and takes hours",
    "python scripts/kill_test.py": "cli/test_kill.py runs it for a few moments",
    "python scripts/mutate.py": "has tests of its own, and takes an hour",
    "facetalk train audio --init default --corpus speech --out run/taught": "training/audio/test_teachers.py",
    "facetalk train audio --init default --corpus speech --out run/closing": "as the line above",
    "facetalk train sync": "the sync expert's own tests",
    "facetalk train nphm --start run/head2/head": "training/head/test_train.py, with fewer points",
    "facetalk batch FOLDER -o OUT --ray": "tests/batch starts a cluster of this machine",
    "facetalk evaluate MANIFEST": "a synopsis, not a command",
    "tensorboard ": "a server",
    "accelerate launch": "needs two GPUs; torchrun is what it calls",
    "torchrun ": "test_launch.py starts two processes",
    "facetalk data head --ict ICT-FaceKit": "test_ict_pack.py packs a made-up download",
    "facetalk convert --onnx": "convert/test_onnx.py",
    "facetalk view": "a server: cli/test_view.py starts it, view/test_page.py looks at it",
    "facetalk live --from mic": "needs a microphone; live/test_sources.py has one that is made up",
    "facetalk generate speech.wav --model mymodel": "test_a_newcomer_trains_a_model_that_speaks",
}
SMALL_HEAD = {
    "global_dim": 3, "local_dim": 2, "hidden": 16, "layers": 2, "deformation_hidden": 64,
    "deformation_layers": 2, "identities": 1, "mean_points": 2000, "points": 500, "surface_points": 2000,
    "forward": {"hidden": 24, "layers": 2, "template_hidden": 16, "part_hidden": 24},
    "identity_batch": (1, 1, 200), "cell": 0.03,
}  # fmt: skip
SNIPPETS = [("resolution=128", "resolution=24"), ("expressions, 128,", "expressions, 24,"),
            ("expressions, 256", "expressions, 24"), ("np.zeros((25,", "np.zeros((2,")]  # fmt: skip


def blocks(page: str) -> list[tuple[str, str]]:
    """("command", line) and ("python", code) of a page, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found: list[tuple[int, str, str]] = []
    for match in re.finditer(r"^```python\n(.*?)^```", text, re.S | re.M):
        found.append((match.start(), "python", match[1]))
    outside = re.sub(r"^```.*?^```", lambda m: re.sub(r"[^\n]", " ", m[0]), text, flags=re.S | re.M)
    verbs = r"(?:facetalk|python|pip|make|accelerate|torchrun|tensorboard|pytest|cp) [^/\n].*|facetalk"
    for match in re.finditer(rf"^ {{4}}({verbs})$", outside, re.M):
        found.append((match.start(), "command", re.sub(r"\s{2,}#.*", "", match[1]).strip()))
    # Of snippets that go on from other people's variables, what they import.
    for match in re.finditer(r"^ {4}(from facetalk\S* import .*)$", outside, re.M):
        found.append((match.start(), "python", match[1].strip()))
    return [(kind, content) for _, kind, content in sorted(found)]


def scaled(command: str) -> str:
    for beginning, changes, more in SCALED:
        if command.startswith(beginning):
            for old, new in changes:
                command = command.replace(old, new)
            return f"{command} {more}"
    return command


def captured(folder: Path) -> None:
    """Scans of the built-in head and of the official one, and a list of takes."""
    import trimesh

    head = HeadModel.load(DEFAULT / "head")
    field = DifferentiableField(head.nphm, head.default_identity)
    code = np.zeros(head.expression_dim, np.float32)
    points = 0.25 * scan(field, code, points=900, noise_mm=0.3)
    (folder / "frames").mkdir()
    for t in range(2):
        trimesh.PointCloud(points).export(folder / f"frames/{t}.ply")
    np.savez(folder / "capture.npz", points=np.stack([points, points]))
    np.save(folder / "person.npy", head.default_identity)
    still = Motion(np.zeros((2, head.expression_dim), np.float32), 25.0, head.default_identity)
    marks, entries = landmarks(head, still, None), []
    for side in (-0.4, 0.4):  # cameras to both sides, turned towards the face
        turn = np.array([[np.cos(side), 0, np.sin(side)], [0, 1, 0], [-np.sin(side), 0, np.cos(side)]])
        camera = Camera(np.array([[600, 0, 128], [0, 600, 128], [0, 0, 1.0]]),
                        np.diag([1.0, -1, -1]) @ turn, np.array([0, 0, 0.9]))  # fmt: skip
        np.save(folder / f"seen{len(entries)}.npy", np.stack([camera.project(frame)[0] for frame in marks]))
        entries.append({"K": camera.K.tolist(), "R": camera.R.tolist(), "t": camera.t.tolist(),
                        "landmarks": f"seen{len(entries)}.npy"})  # fmt: skip
    (folder / "capture.json").write_text(json.dumps({"cameras": entries}))
    model = load_checkpoint(ROOT / "tests/golden/nphm_tiny", direction="forward")
    code = np.zeros(model.identity_dim, np.float32)
    codes = 0.2 * np.sin(np.arange(30)[:, None] * 0.2 + np.arange(16)[None]).astype(np.float32)
    Motion(codes, 25.0, code).save(folder / "anna_2.safetensors")
    (folder / "anna_1").mkdir()
    np.save(folder / "anna.npy", code)
    for t, frame in enumerate(model.bind(code).track(codes[:25], resolution=20)[0]):
        trimesh.PointCloud(250 * frame).export(folder / f"anna_1/{t:03}.ply")
    for name in ("anna_1", "anna_2"):
        shutil.copy(folder / "clip.wav", folder / f"{name}.wav")
    (folder / "takes.jsonl").write_text("\n".join(
        re.findall(r'^ {4}(\{"id": .*\})$', (ROOT / "docs/captures.md").read_text(), re.M)
    ))  # fmt: skip


def official(folder: Path) -> None:
    """The golden weights as a folder of facetalk's, as official files, and as a folder of downloads."""
    golden = ROOT / "tests/golden/nphm_tiny"
    shutil.copytree(golden, folder / "nphm_folder")
    for name, home in (("identity", "nphm"), ("deformation", "nphm_def")):
        place = folder / "downloaded" / home / "checkpoints"
        place.mkdir(parents=True)
        state = {"decoder_state_dict": load_file(golden / f"{name}.safetensors"), "epoch": 1}
        torch.save(state, folder / f"{name}.tar")
        shutil.copy(folder / f"{name}.tar", place / "checkpoint_epoch_1.tar")
    anchors = load_file(golden / "golden.safetensors")["anchors_mean"].numpy()
    for place in (folder, folder / "downloaded"):
        np.save(place / "anchors_39.npy", anchors[None, None])


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what a reader has: recordings, a manifest, an official checkpoint; and a tiny head."""
    sound, rate = soundfile.read(ROOT / "examples/demo.flac", dtype="float32")
    soundfile.write(tmp_path / "speech.wav", sound[: rate // 5], rate)
    soundfile.write(tmp_path / "clip.wav", sound[: 2 * rate], rate)
    line = json.loads((ROOT / "examples/demo.jsonl").read_text())
    phones = [phone for phone in line["phones"] if phone[2] < 2.0]
    clips = [{**line, "id": name, "audio": "clip.wav", "phones": phones} for name in ("a", "b")]
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(clip) + "\n" for clip in clips))
    np.savez(tmp_path / "tiny.npz", **fields())
    corpus = [{**clip, "id": str(i), "split": "train" if i else "valid", "audio": "../clip.wav"}
              for i, clip in enumerate(clips * 2)]  # fmt: skip
    (tmp_path / "speech").mkdir()
    (tmp_path / "speech/manifest.jsonl").write_text("".join(json.dumps(clip) + "\n" for clip in corpus))
    (tmp_path / "their-curves").mkdir()
    curves = {"exportFps": 25, "facsNames": ["jawOpen"], "weightMat": [[0.1], [0.3]] * 25}
    (tmp_path / "their-curves/clip.json").write_text(json.dumps(curves))
    # The networks of a head as small as its data.
    monkeypatch.setattr(train_nphm, "HeadTraining", functools.partial(HeadTraining, **SMALL_HEAD))
    official(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "builtin").symlink_to(DEFAULT)
    for name in ("audio", "PREVIOUS"):
        (tmp_path / name).symlink_to(DEFAULT / ("audio" if name == "audio" else "motion"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)])
def test_a_page_says_what_works(page: str, desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = blocks(page)
    if any(command.startswith("facetalk data --out speech") for _, command in content):
        shutil.rmtree(desk / "speech")
    text = " ".join(command for kind, command in content if kind == "command")
    if re.search("facetalk (data|train (?!motion))", text):
        pytest.importorskip("igl", reason="pip install 'facetalk[train]'")
        try:
            Flite()
        except InputError as error:
            pytest.skip(str(error))
    if "facetalk fit" in text:
        pytest.importorskip("trimesh")
        captured(desk)
    if "--plot" in text:
        pytest.importorskip("matplotlib")
    for kind, code in content:
        if kind == "python":
            for old, new in SNIPPETS:
                code = code.replace(old, new)
            exec(compile(code, page, "exec"), {"__name__": "__main__"})
            continue
        if any(code.startswith(beginning) for beginning in ELSEWHERE):
            continue
        # Patterns of files that are there are a shell's to resolve.
        words = [found for word in shlex.split(scaled(code))
                 for found in (sorted(map(str, Path().glob(word))) if "*" in word else [word])]  # fmt: skip
        assert words[0] == "facetalk", f"{page}: {code}: say in ELSEWHERE what tests it, or in SCALED how"
        status = main(words[1:])
        assert status == 0, f"{page}: {code}\nran as {shlex.join(words)}\n{capsys.readouterr().err[-2000:]}"


def test_no_merge_is_left_half_done() -> None:
    """Marks of a conflict, which a renderer shows as text."""
    marks = re.compile(r"^(<{7}|={7}|>{7})( |$)", re.MULTILINE)
    files = [path for end in ("*.md", "*.toml", "*.txt") for path in ROOT.glob(end)]
    files += [path for room in ("docs", "facetalk", "benchmarks", "experiments", "csrc", "examples")
              for path in (ROOT / room).rglob("*.md")]  # fmt: skip
    assert len(files) > 30
    assert [str(path) for path in files if marks.search(path.read_text(encoding="utf-8"))] == []


def test_the_pages_are_read() -> None:
    """The parser finds what is there: a page that it cannot read would be a page that nobody tests."""
    readme = blocks("README.md")
    assert [kind for kind, _ in readme].count("python") == 2
    commands = [command for kind, command in readme if kind == "command"]
    assert "facetalk generate speech.wav -o talk.glb" in commands
    assert sum(command.startswith("facetalk train") for command in commands) == 3
    everything = [command for page in PAGES for kind, command in blocks(page) if kind == "command"]
    for beginning, _, _ in SCALED:
        assert any(c.startswith(beginning) for c in everything), f"{beginning}: in SCALED, in no page"
    for beginning in ELSEWHERE:
        assert any(c.startswith(beginning) for c in everything), f"{beginning}: in ELSEWHERE, in no page"


@pytest.mark.slow
def test_a_newcomer_trains_a_model_that_speaks(
    desk: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """README's own commands with short limits, the whole head data, and a voice at the end."""
    pytest.importorskip("igl", reason="pip install 'facetalk[train]'")
    # A field of twenty steps has surface everywhere; a fine mesh of it would take minutes.
    monkeypatch.setattr(train_nphm, "HeadTraining", functools.partial(HeadTraining, cell=0.03))
    shutil.rmtree(desk / "speech")
    commands = [command for kind, command in blocks("README.md") if kind == "command"]
    start = next(i for i, command in enumerate(commands) if command.startswith("facetalk data"))
    short = {
        "facetalk data": "--sources flite,espeak --minutes 0.2",
        "facetalk train nphm": "--steps 20",
        "facetalk train audio": "--minutes 0.05 --batch 2",
        "facetalk train motion": "--minutes 0.05 --batch 2 --crop 24 --variants 1",
    }
    for command in commands[start:]:
        more = next((text for begin, text in short.items() if command.startswith(begin)), "")
        assert main(shlex.split(f"{command} {more}")[1:]) == 0, capsys.readouterr().err[-2000:]
    assert (desk / "mine.glb").stat().st_size > 10_000
