"""Cameras that are found in pictures: by COLMAP where it is installed, and all around it by a stand-in."""

import importlib.util
import json

import numpy as np
import pytest
from PIL import Image

from facetalk.cli import main
from facetalk.errors import InputError, NotInstalledError
from facetalk.fitting.cameras import read_rig
from facetalk.fitting.pictures import Pictures
from facetalk.fitting.stage import Stage, arc
from facetalk.fitting.structure import Lens, find_cameras
from facetalk.fitting.views import Capture
from facetalk.motion import Motion
from facetalk.posing import landmarks, rigged

SIZE = 64  # of the stand-in's pictures
STAND_IN = '''
"""As much of pycolmap as is used: it knows where cameras are, and writes down how it was asked."""
import json, os
from pathlib import Path

HERE = Path(__file__).parent

class Options:
    def __init__(self):
        self.__dict__["set"] = {}
    def __getattr__(self, name):
        return self.__dict__.setdefault(name, Options())

FeatureExtractionOptions = ImageReaderOptions = FeatureMatchingOptions = Options
TwoViewGeometryOptions = IncrementalPipelineOptions = Options
logging = Options()

class Device:
    cpu = "cpu"

class CameraMode:
    SINGLE, PER_IMAGE = "one lens", "a lens each"

def set_random_seed(seed):
    pass

def extract_features(database, pictures, camera_mode, reader_options, extraction_options, device):
    assert device == "cpu"
    params = reader_options.__dict__.get("camera_params")
    known = f" {params}" if params else ""
    count = len(list(Path(pictures).iterdir()))
    with (HERE / "asked.txt").open("a") as file:
        file.write(f"{camera_mode}, {reader_options.camera_model}{known}, {count}\\n")

def match_exhaustive(database, matching_options, verification_options, device):
    assert device == "cpu"

def incremental_mapping(database, pictures, models, options):
    told = json.loads((HERE / "truth.json").read_text())
    if "fails" in told:
        raise RuntimeError(told["fails"])
    if "aborts" in told:
        os.abort()
    there = {one.name for one in Path(pictures).iterdir()}
    for number, places in enumerate(told["models"]):
        places = {name: place for name, place in places.items() if name in there}
        folder = Path(models) / str(number)
        folder.mkdir()
        (folder / "cameras.txt").write_text(f"1 SIMPLE_PINHOLE 64 64 {told['focal']} 32 32\\n")
        lines = [f"{i + 1} {place} 1 {name}\\n\\n" for i, (name, place) in enumerate(places.items())]
        (folder / "images.txt").write_text("".join(lines))
'''


def quaternion(turn):
    """w x y z of a rotation, by the eigenvector of its largest eigenvalue (Bar-Itzhack, 2000)."""
    (a, b, c), (d, e, f), (g, h, i) = turn
    K = np.array([[a - e - i, b + d, c + g, h - f], [b + d, e - a - i, f + h, c - g],
                  [c + g, f + h, i - a - e, d - b], [h - f, c - g, d - b, a + e + i]])  # fmt: skip
    x, y, z, w = np.linalg.eigh(K)[1][:, -1]
    return np.array([w, x, y, z])


@pytest.fixture
def known(capture, tmp_path, monkeypatch):
    """A capture.json of five cameras without places, whose landmarks are known, and a COLMAP that knows four
    of them, three times as far apart as they are, turned and elsewhere."""
    motion = Motion(capture.codes[:2], 25.0, capture.head.default_identity)
    marks = landmarks(capture.head, motion, None).astype(np.float64)
    cameras = arc(5, marks.mean((0, 1)), focal=155.0, size=SIZE, span=90.0)
    turn, shift = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]]), np.array([4.0, -2.0, 1.0])
    entries, places = [], {}
    for v, camera in enumerate(cameras):
        pixels = np.stack([camera.project(frame)[0] for frame in marks])
        np.save(tmp_path / f"{v}.npy", pixels)
        Image.fromarray(np.full((SIZE, SIZE, 3), 90 + v, np.uint8)).save(tmp_path / f"{v}.png")
        entries.append({"name": f"cam{v}", "images": [f"{v}.png"] * 2, "landmarks": f"{v}.npy"})
        if v != 3:
            # x_camera = R x + t with x = (turn' x' - shift) / 3 of the other world's x'.
            R = camera.R @ turn.T
            t = 3 * camera.t - camera.R @ shift
            places[f"{v}.png"] = " ".join(map(repr, [*quaternion(R).tolist(), *t.tolist()]))
    stand_in = tmp_path / "stand_in"
    stand_in.mkdir()
    (stand_in / "pycolmap.py").write_text(STAND_IN)
    two = dict(list(places.items())[:2])
    # Focal lengths are to the stand-in's pixels what they are to ours: 64 a side.
    (stand_in / "truth.json").write_text(json.dumps({"focal": 155.0, "models": [two, places, two]}))
    (tmp_path / "capture.json").write_text(json.dumps({"cameras": entries}))
    monkeypatch.setenv("PYTHONPATH", str(stand_in))
    monkeypatch.syspath_prepend(str(stand_in))
    return tmp_path, entries, cameras


def asked(folder):
    return (folder / "stand_in" / "asked.txt").read_text().splitlines()


def test_a_fit_finds_its_cameras(capture, known, capsys):
    folder, _, cameras = known
    out, report = folder / "motion.safetensors", folder / "report.json"
    words = ["fit", "--views", str(folder / "capture.json"), "-o", str(out), "--report", str(report)]
    assert main(words) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert "places of 4 cameras were found" in said and "the place of camera cam3 was not found" in said
    rows = json.loads(report.read_text())["cameras"]
    assert rows[-1] == {"name": "cam3", "placed": False, "wrong": False} and len(rows) == 5
    shown = landmarks(capture.head, Motion.load(out), None)
    motion = Motion(capture.codes[:2], 25.0, capture.head.default_identity)
    off = np.linalg.norm(shown - landmarks(capture.head, motion, None), axis=2)[:, 17:]
    assert off.mean() < 1e-3
    # One is missing, so that it was looked for in another moment, too.
    assert asked(folder) == ["one lens, SIMPLE_PINHOLE, 5"] * 2
    kept = json.loads((folder / "motion.safetensors.cameras.json").read_text())
    assert [row["name"] for row in kept["cameras"]] == ["cam0", "cam1", "cam2", "cam4"]
    rig = read_rig(folder / "capture.json", folder / "motion.safetensors.cameras.json")
    assert len(asked(folder)) == 2 and rig.unplaced == ["cam3"]  # it is not done again
    np.testing.assert_array_equal(
        [view.camera.t for view in rig.views], [row["t"] for row in kept["cameras"]]
    )
    # Other pictures have their cameras elsewhere.
    Image.fromarray(np.full((SIZE, SIZE, 3), 7, np.uint8)).save(folder / "2.png", compress_level=0)
    read_rig(folder / "capture.json", folder / "motion.safetensors.cameras.json")
    assert len(asked(folder)) == 4
    # What was found may stand in a capture.json.
    for row in kept["cameras"]:
        row.update(landmarks=f"{row.pop('number')}.npy")
    (folder / "again.json").write_text(json.dumps({"cameras": kept["cameras"]}))
    rig = read_rig(folder / "again.json")
    assert not rig.found and not rig.unplaced
    there = Capture([], folder / "again.json", None).marks
    np.testing.assert_allclose(there, Capture([], folder / "capture.json", None).marks, atol=1e-9)
    assert rig.views[0].camera.K[0, 0] == cameras[0].K[0, 0]


def test_lenses_are_as_they_are_said_to_be(known):
    folder, entries, _ = known
    told = {"cameras": entries, "lens": "radial", "shared": False}
    (folder / "capture.json").write_text(json.dumps(told))
    assert read_rig(folder / "capture.json").unplaced == ["cam3"]
    assert asked(folder)[0] == "a lens each, SIMPLE_RADIAL, 5"
    told["focal"] = 155
    # The moment that most cameras have seen, and only those that have.
    entries[2]["images"][0] = entries[3]["images"][1] = entries[1]["images"][1] = None
    (folder / "capture.json").write_text(json.dumps(told))
    before = len(asked(folder))
    assert read_rig(folder / "capture.json").unplaced == ["cam2", "cam3"]
    assert asked(folder)[before:] == ["a lens each, SIMPLE_RADIAL 155.0,32.0,32.0,0.0, 4"]


def test_what_cannot_be_found(known, capsys):
    folder, entries, cameras = known
    K, R, t = (getattr(cameras[0], name).tolist() for name in "KRt")
    Image.fromarray(np.zeros((50, 60, 3), np.uint8)).save(folder / "small.png")
    truth = folder / "stand_in" / "truth.json"
    good = truth.read_text()
    no_lens = {"focal": 9e6, "models": [{"0.png": "1 0 0 0 0 0 1", "1.png": "1 0 0 0 1 0 1"}]}
    for told, places, text in (
        ({"cameras": [{**entries[0], "K": K, "R": R, "t": t}, *entries[1:]]}, None, "cam1 has no K, R, t, o"),
        ({"cameras": [{**entries[0], "images": "small.png"}, *entries[1:]]}, None, "are not of one lens"),
        ({"cameras": entries[:1]}, None, "camera 0: no K, R, t; they are found"),
        ({"cameras": [{"landmarks": "0.npy"}, *entries[1:]]}, None, "camera 0: no K, R, t; they"),
        ({"cameras": [{**entry, "K": K} for entry in entries]}, None, "camera 0: no R"),
        ({"cameras": [{**entries[0], "depth": "0.png"}, *entries[1:]]}, None, "depth maps are in metres"),
        ({"cameras": [{**entries[0], "distortion": [0.1]}, *entries[1:]]}, None, "distortion without K"),
        ({"cameras": [{**entries[0], "images": "gone"}, *entries[1:]]}, None, "images: nothing fits"),
        ({"cameras": entries, "lens": "fisheye"}, None, "expected pinhole or radial, got 'fisheye'"),
        ({"cameras": entries, "focal": -1}, None, "expected a focal length in pixels, got -1"),
        ({"cameras": entries, "shared": 1}, None, "shared: expected true or false"),
        ({"cameras": [{"K": K, "R": R, "t": t}], "lens": "radial"}, None, "lens is for cameras that are f"),
        ({"cameras": entries}, {"focal": 155.0, "models": []}, "no places of its 5 cameras were found"),
        ({"cameras": entries}, no_lens, "no places of its 5 cameras were found"),
        ({"cameras": entries}, {"fails": "bad luck"}, "could not look for cameras (RuntimeError: bad luck)"),
        ({"cameras": entries}, {"aborts": True}, "could not look for cameras (it says nothing)"),
    ):  # fmt: skip
        truth.write_text(good if places is None else json.dumps(places))
        (folder / "bad.json").write_text(json.dumps(told))
        out = folder / "m.safetensors"
        assert main(["fit", "--views", str(folder / "bad.json"), "-o", str(out)]) == 2, text
        said = capsys.readouterr().err
        assert said.startswith("error: ") and text in said and said.count("\n") == 1, (text, said)
        assert not out.exists() and not (folder / "m.safetensors.cameras.json").exists()
    # Two cameras are right, and three elsewhere.
    told = json.loads(good)
    for v, place in ((2, "1 0 0 0 0 0 2"), (3, "1 0 0 0 1 0 2"), (4, "1 0 0 0 0 1 2")):
        told["models"][1][f"{v}.png"] = place
    truth.write_text(json.dumps(told))
    assert main(["fit", "--views", str(folder / "capture.json"), "-o", str(folder / "m.safetensors")]) == 2
    said = capsys.readouterr().err
    assert "do not agree about the landmarks" in said and said.count("\n") == 1, said
    assert not (folder / "m.safetensors.cameras.json").exists()
    truth.write_text(good)
    for more, text in (
        (["--unit", "metres"], "to which a unit does not belong"),
        (["--points", str(folder / "0.npy")], "to which points do not belong"),
        (["--report", str(folder / "m.safetensors.cameras.json")], "choose another name"),
    ):
        words = ["fit", "--views", str(folder / "capture.json"), "-o", str(folder / "m.safetensors")]
        assert main([*words, *more]) == 2
        assert text in capsys.readouterr().err
    mine = folder / "mine.safetensors.cameras.json"
    mine.write_text("my own notes")
    words[-1] = str(folder / "mine.safetensors")
    assert main(words) == 2 and "another file is where cameras are kept" in capsys.readouterr().err
    assert mine.read_text() == "my own notes"


def test_without_colmap_it_is_said_what_to_do(known, monkeypatch):
    folder, _, _ = known
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "pycolmap" else find(name, *more)
    )
    with pytest.raises(NotInstalledError, match=r"no K, R, t \(give them.*pip install 'facetalk\[colmap\]'"):
        read_rig(folder / "capture.json")


def test_colmap_finds_cameras_before_a_head(capture, tmp_path):
    pytest.importorskip("pycolmap", reason="facetalk[colmap] is not installed")
    motion = Motion(capture.codes[:1], 25.0, capture.head.default_identity)
    marks = landmarks(capture.head, motion, None).astype(np.float64)
    rig = rigged(capture.head, motion, None, 0)
    cameras = arc(8, marks.mean((0, 1)), focal=620.0, size=256, span=80.0)
    stage = Stage(rig.base, 256)
    for v, camera in enumerate(cameras):
        Image.fromarray(stage.picture(rig[0], camera, seed=v)).save(tmp_path / f"{v}.png")
    pictures = [Pictures([tmp_path / f"{v}.png"]) for v in range(len(cameras))]
    names = [str(v) for v in range(len(cameras))]
    found = find_cameras(tmp_path / "capture.json", names, pictures, Lens(focal=620.0))
    assert len(found) == len(cameras)
    np.testing.assert_allclose(found[0]["K"], cameras[0].K)
    # Angles between neighbours are 80 / 7 degrees, whatever the world's axes are.
    for v in range(len(cameras) - 1):
        true = cameras[v + 1].R @ cameras[v].R.T
        told = np.array(found[v + 1]["R"]) @ np.array(found[v]["R"]).T
        assert np.degrees(np.arccos(np.clip((np.trace(told @ true.T) - 1) / 2, -1, 1))) < 4.0
    blank = []
    for v in range(3):
        Image.fromarray(np.full((100, 100, 3), 90 + v, np.uint8)).save(tmp_path / f"blank{v}.png")
        blank.append(Pictures([tmp_path / f"blank{v}.png"]))
    with pytest.raises(InputError, match="no places of its 3 cameras"):
        find_cameras(tmp_path / "x.json", names[:3], blank, Lens())
