"""Pictures of a head whose truth is known: swept, outlined, fitted, and what is wrong with them."""

import dataclasses
import json
import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image

from facetalk.cli import main
from facetalk.errors import InputError, NotInstalledError
from facetalk.fitting.cameras import Camera
from facetalk.fitting.capture_identity import find_person, rounds_of
from facetalk.fitting.detect import FACE_MESH, detect
from facetalk.fitting.identity import fit_identity
from facetalk.fitting.options import MM, FitOptions
from facetalk.fitting.pictures import Pictures
from facetalk.fitting.seen import outline
from facetalk.fitting.stage import Stage, arc
from facetalk.fitting.sweep import Picture, SweepOptions, sweep, visible
from facetalk.fitting.views import Capture
from facetalk.metrics.lips import lip_gap
from facetalk.motion import Motion
from facetalk.nphm.head.parts import Part
from facetalk.ops.normals import vertex_normals
from facetalk.posing import landmarks, rigged

SIZE, FRAMES = 256, 2
GREY = np.array([0.299, 0.587, 0.114], np.float32)


@dataclasses.dataclass(frozen=True)
class Scene:
    rig: object
    stage: Stage
    cameras: list
    pictures: list  # of cameras, of frames: (H, W, 3)
    marks: np.ndarray
    codes: np.ndarray


@pytest.fixture(scope="module")
def scene(capture):
    codes = capture.codes[[0, 2]]
    motion = Motion(codes, 25.0, capture.head.default_identity)
    marks = landmarks(capture.head, motion, None).astype(np.float64)
    rig = rigged(capture.head, motion, None, 0)
    cameras = arc(6, marks.mean((0, 1)), focal=620.0, size=SIZE, span=90.0)
    stage = Stage(rig.base, SIZE)
    pictures = [
        [stage.picture(rig[t], camera, seed=10 * v + t) for t in range(FRAMES)]
        for v, camera in enumerate(cameras)
    ]
    return Scene(rig, stage, cameras, pictures, marks, codes)


@pytest.fixture(scope="module")
def folder(scene, tmp_path_factory):
    """A capture.json: one camera is elsewhere and has no landmarks, one has a picture less, one a video."""
    place = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    entries = []
    for v, camera in enumerate(scene.cameras):
        told = {name: getattr(camera, name).tolist() for name in ("K", "R", "t")}
        (place / str(v)).mkdir()
        for t in range(FRAMES):
            Image.fromarray(scene.pictures[v][t]).save(place / str(v) / f"{t}.png")
        entry = {"name": f"cam{v}", **told, "images": str(v), "size": [SIZE, SIZE]}
        if v == 1:
            entry["t"][0] += 0.04
        else:
            pixels = np.stack([camera.project(frame)[0] for frame in scene.marks])
            np.save(place / f"{v}.npy", pixels + rng.normal(0, 0.7, pixels.shape))
            entry["landmarks"] = f"{v}.npy"
        if v == 4:
            entry["images"] = ["4/0.png", None]
        if v == 2:
            (place / "masks").mkdir()
            for t in range(FRAMES):
                mask = scene.stage.mask(scene.rig[t], camera)
                Image.fromarray((255 * mask).astype(np.uint8)).save(place / "masks" / f"{t}.png")
            entry["masks"] = "masks/*.png"
        entries.append(entry)
    (place / "capture.json").write_text(json.dumps({"cameras": entries}))
    return place


def skin(scene, t):
    """Vertices of the skin of the face, their normals, and all vertices."""
    vertices = scene.rig[t].vertices.astype(np.float64)
    normals = np.asarray(vertex_normals(scene.rig[t].vertices, scene.rig.base.faces), np.float64)
    face = np.linalg.norm(vertices - scene.marks[t, 17:].mean(0), axis=1) < 0.1
    rows = np.flatnonzero(face & (scene.rig.base.part == Part.SKIN))
    return vertices, normals, np.random.default_rng(0).permutation(rows)[:1500]


def test_a_surface_is_found_near_one_that_is_off(scene):
    vertices, normals, rows = skin(scene, 0)
    off = np.array([0.001, 0.0, 0.003])
    pictures = [Picture(c, p[0] @ GREY) for c, p in zip(scene.cameras, scene.pictures, strict=True)]
    found = sweep(pictures, vertices[rows] + off, normals[rows], vertices + off)
    assert len(found.points) > 400 and found.samples == 1500
    near = np.linalg.norm(found.points[:, None] - vertices[rows], axis=2).argmin(1)
    away = np.abs(((found.points - vertices[rows][near]) * normals[rows][near]).sum(1))
    assert np.median(away) < 8e-4 and away.mean() < 1.3e-3
    assert (found.alike > 0.8).all() and found.confidence.min() >= SweepOptions().alike
    noise = [Picture(one.camera, np.random.default_rng(v).uniform(0, 255, (SIZE, SIZE)).astype(np.float32))
             for v, one in enumerate(pictures)]  # fmt: skip
    assert len(sweep(noise, vertices[rows], normals[rows], vertices).points) < 30


def test_what_a_camera_sees(scene):
    """The left cheek is hidden from the right, and nothing is seen from behind."""
    vertices, normals, rows = skin(scene, 0)
    blank = np.zeros((SIZE, SIZE), np.float32)
    (front,) = arc(1, scene.marks.mean((0, 1)), focal=620.0, size=SIZE)
    back = Camera(front.K, front.R @ np.diag([-1.0, 1, -1]), front.t)
    ahead = visible(Picture(front, blank), vertices[rows], normals[rows], vertices, 0.4)
    assert ahead.mean() > 0.3 and (normals[rows][ahead, 2] > 0.3).all()
    assert not visible(Picture(back, blank), vertices[rows], normals[rows], vertices, 0.4).any()
    side = visible(Picture(scene.cameras[0], blank), vertices[rows], normals[rows], vertices, 0.4)
    assert vertices[rows][side, 0].mean() < -0.01


def test_outlines_are_where_masks_end(capture, scene):
    """Around a surface that is 3 mm too low; what is found says so."""
    camera, vertices = scene.cameras[3], scene.rig[0].vertices
    pose = np.diag([4.0, 4, 4, 1])
    pose[1, 3] = -4 * 0.003
    mask = scene.stage.mask(scene.rig[0], camera)
    code = torch.from_numpy(scene.codes[0])
    points = outline(capture.field, code, pose, np.linalg.inv(pose), camera, mask, vertices, 1.0)
    assert len(points) > 60

    def off(points, pose):
        there = torch.from_numpy((points @ pose[:3, :3].T + pose[:3, 3]).astype(np.float32))
        return capture.field.slopes(there, code).value.abs() / MM

    there, too_low = (float(off(points, place).median()) for place in (np.diag([4.0, 4, 4, 1]), pose))
    assert there < 0.7 and too_low > 2.0 * there  # where it is, they lie on it
    assert not len(
        outline(capture.field, code, pose, np.linalg.inv(pose), camera, np.ones_like(mask), vertices, 1.0)
    )


def test_pictures_are_fitted(capture, scene, folder, tmp_path, capsys):
    out, report = tmp_path / "motion.safetensors", tmp_path / "report.json"
    words = ["fit", "--views", str(folder / "capture.json"), "-o", str(out), "--report", str(report),
             "--sheet", str(tmp_path / "sheet.png"), "--per-frame", "1500"]  # fmt: skip
    assert main(words) == 0, capsys.readouterr().err
    assert "camera cam1 does not agree" in capsys.readouterr().out
    said = json.loads(report.read_text())
    assert said["mean_mm"] < 1.0 and not said["flagged"]
    rows = {row["name"]: row for row in said["cameras"]}
    assert [name for name, row in rows.items() if row["wrong"]] == ["cam1"] and len(rows) == 6
    assert rows["cam1"]["alike"] < 0.5 < rows["cam0"]["alike"]
    codes = Motion.load(out).expressions
    for t in range(FRAMES):
        vertices, _, rows = skin(scene, t)
        there = vertices[rows] @ np.array(said["poses"])[t, :3, :3].T + np.array(said["poses"])[t, :3, 3]
        slopes = capture.field.slopes(torch.from_numpy(there.astype(np.float32)), torch.from_numpy(codes[t]))
        assert float(slopes.value.abs().mean()) / MM < 0.8  # hidden skin, too
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width == FRAMES * sheet.height // 2


def test_somebody_else_is_found_in_pictures(capture, tmp_path):
    """By landmarks, and by points around the face that they tell."""
    values = np.zeros(capture.head.coefficient_dim, np.float32)
    values[:3] = (1.5, -1.5, 1.0)
    motion = Motion(capture.codes[:1], 25.0, capture.head.encode_identity(values))
    marks = landmarks(capture.head, motion, None).astype(np.float64)
    rig = rigged(capture.head, motion, None, 0)
    stage, rng, entries = Stage(rig.base, SIZE), np.random.default_rng(0), []
    for v, camera in enumerate(arc(5, marks.mean((0, 1)), focal=620.0, size=SIZE, span=80.0)):
        told = {name: getattr(camera, name).tolist() for name in ("K", "R", "t")}
        Image.fromarray(stage.picture(rig[0], camera, seed=v)).save(tmp_path / f"{v}.png")
        pixels = camera.project(marks[0])[0][None]
        np.save(tmp_path / f"{v}.npy", pixels + rng.normal(0, 0.7, pixels.shape))
        entries.append({"name": f"{v}", **told, "images": f"{v}.png", "landmarks": f"{v}.npy"})
    (tmp_path / "capture.json").write_text(json.dumps({"cameras": entries}))
    options, seen = FitOptions(points=700, steps=6), Capture([], tmp_path / "capture.json", None)
    told = []
    found = find_person(seen, capture.head, 25.0, options, told.append, coefficients=3)
    assert told == list(range(1, rounds_of(seen) + 1))
    off = np.abs(capture.head.coefficients(found)[:3] - values[:3])
    assert off.max() < 0.3, off
    by_marks = fit_identity(None, capture.head, marks=seen.marks, options=options, coefficients=3)
    assert np.abs(capture.head.coefficients(by_marks)[:3] - values[:3]).max() < 0.8
    for camera in entries:
        del camera["images"]
    (tmp_path / "capture.json").write_text(json.dumps({"cameras": entries}))
    with pytest.raises(InputError, match="landmarks alone do not tell a person"):
        find_person(Capture([], tmp_path / "capture.json", None), capture.head, 25.0, options)


def test_one_camera_alone(capture, scene, tmp_path, capsys):
    """How far away the head is, is told by its size; what the mouth does, by its landmarks."""
    camera = scene.cameras[4]
    pixels = np.stack([camera.project(frame)[0] for frame in scene.marks])
    pixels[1, :17] = np.nan
    np.save(tmp_path / "one.npy", pixels + np.random.default_rng(0).normal(0, 0.3, pixels.shape))
    told = {name: getattr(camera, name).tolist() for name in ("K", "R", "t")}
    (tmp_path / "one.json").write_text(
        json.dumps({"cameras": [{"name": "one", **told, "landmarks": "one.npy"}]})
    )
    out, report = tmp_path / "motion.safetensors", tmp_path / "report.json"
    words = ["fit", "--views", str(tmp_path / "one.json"), "-o", str(out), "--report", str(report)]
    assert main(words) == 0, capsys.readouterr().err
    assert "one camera alone" in capsys.readouterr().out
    said = json.loads(report.read_text())
    assert said["landmark_px"] < 1.0 and said["landmark_mm"] < 1.5
    assert said["cameras"] == [{"name": "one", "error_px": None, "agrees": 1.0, "wrong": False}]
    fitted = landmarks(capture.head, Motion.load(out), None)
    for t in range(FRAMES):
        pose = np.array(said["poses"])[t]
        there = scene.marks[t] @ pose[:3, :3].T + pose[:3, 3]
        assert np.linalg.norm(0.25 * there - fitted[t], axis=1)[17:].mean() < 0.012
    np.testing.assert_allclose(lip_gap(fitted), lip_gap(scene.marks), atol=1.5)


def test_a_video_and_a_folder(scene, tmp_path):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "a.mp4"), "w") as box:
        stream = box.add_stream("mpeg4", rate=25)
        stream.width = stream.height = SIZE
        stream.bit_rate = 4_000_000
        for picture in (scene.pictures[3][0], scene.pictures[0][0], scene.pictures[3][1]):
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                box.mux(packet)
        for packet in stream.encode():
            box.mux(packet)
    film = Pictures([tmp_path / "a.mp4"])
    assert len(film) == 3 and film.size == (SIZE, SIZE) and film.names[1].endswith("a.mp4[1]")
    for t, wanted in ((2, scene.pictures[3][1]), (0, scene.pictures[3][0]), (1, scene.pictures[0][0])):
        assert np.abs(film[t].astype(float) - wanted).mean() < 12
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "a.mp4").read_bytes()[:400])
    with pytest.raises(InputError, match=r"cut.mp4: damaged"):
        Pictures([tmp_path / "cut.mp4"])


class _Mesh:
    """As much of MediaPipe as is used: it sees a face in what is not black."""

    def __init__(self, **options):
        assert options["static_image_mode"]

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return False

    def process(self, picture):
        if not picture.any():
            return types.SimpleNamespace(multi_face_landmarks=None)
        marks = [types.SimpleNamespace(x=i / 1000, y=0.5) for i in range(478)]
        return types.SimpleNamespace(multi_face_landmarks=[types.SimpleNamespace(landmark=marks)])


def test_landmarks_are_those_of_the_detector(tmp_path, monkeypatch):
    Image.fromarray(np.full((50, 100, 3), 200, np.uint8)).save(tmp_path / "0.png")
    Image.fromarray(np.zeros((50, 100, 3), np.uint8)).save(tmp_path / "1.png")
    pictures = Pictures([tmp_path / "0.png", tmp_path / "1.png", None])
    solutions = types.SimpleNamespace(face_mesh=types.SimpleNamespace(FaceMesh=_Mesh))
    monkeypatch.setitem(sys.modules, "mediapipe", types.SimpleNamespace(solutions=solutions))
    found = detect(pictures)
    assert found.shape == (3, 68, 2) and np.isnan(found[1:]).all()
    np.testing.assert_allclose(
        found[0, 36], [3.3 - 0.5, 24.5]
    )  # the right eye's outer corner is its point 33
    np.testing.assert_allclose(found[0, 27], [(16.8 + 0.6) / 2 - 0.5, 24.5])
    assert len(FACE_MESH) == 68 and len({of for of in FACE_MESH if len(of) == 1}) == 63
    monkeypatch.setitem(sys.modules, "mediapipe", types.SimpleNamespace(__version__="0.10.35"))
    with pytest.raises(InputError, match=r"0.10.35 comes without the network"):
        detect(pictures)
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    with pytest.raises(NotInstalledError, match=r"facetalk\[landmarks\]"):
        detect(pictures)


def test_faces_are_found_where_they_are(scene, tmp_path):
    pytest.importorskip("mediapipe")
    Image.fromarray(scene.stage.picture(scene.rig[0], scene.cameras[3], plain=True)).save(tmp_path / "0.png")
    found = detect(Pictures([tmp_path / "0.png"]))[0, 17:]
    wanted = scene.cameras[3].project(scene.marks[0, 17:])[0]
    assert np.median(np.linalg.norm(found - wanted, axis=1)) < 4.0


def test_pictures_that_cannot_be_used(folder, tmp_path, capsys, monkeypatch):
    good = json.loads((folder / "capture.json").read_text())["cameras"]
    whole = [{**camera, "images": [str(folder / str(v) / f"{t}.png") for t in range(FRAMES)]}
             for v, camera in enumerate(good)]  # fmt: skip
    for camera in whole:
        camera.pop("masks", None)
        if "landmarks" in camera:
            camera["landmarks"] = str(folder / camera["landmarks"])
    Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(tmp_path / "small.png")
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "none").mkdir()
    first = whole[0]["images"][0]
    unsized = {key: value for key, value in whole[0].items() if key != "size"}
    bare = [{key: value for key, value in camera.items() if key != "landmarks"} for camera in whole]
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    for cameras, text in (
        ([{**whole[0], "images": "small.png"}, *whole[2:]], "80 x 60 pixels; its camera says 256 x 256"),
        ([{**unsized, "images": "small.png"}, *whole[2:]], "K is of pictures of another size"),
        ([{**unsized, "images": [first, str(tmp_path / "small.png")]}, *whole[2:]], "80 x 60 pixels, "),
        ([{**whole[0], "images": [first]}, *whole[2:]], "1 to 2 pictures"),
        ([{**whole[0], "images": [None, None]}, *whole[2:]], "every frame is missing"),
        ([{**whole[0], "images": [1]}, *whole[2:]], "expected names of files, or null"),
        ([{**whole[0], "images": ["gone.png", first]}, *whole[2:]], "gone.png: no such file"),
        ([{**whole[0], "images": "none"}, *whole[2:]], "no pictures in the folder"),
        ([{**whole[0], "images": "text.png"}, *whole[2:]], "text.png: damaged"),
        ([{**whole[0], "size": [256]}, *whole[2:]], "size: expected [width, height]"),
        ([{**whole[0], "masks": [first]}, *whole[2:]], "2 pictures, but 1 masks"),
        (
            [{**{k: v for k, v in whole[0].items() if k != "images"}, "masks": [first]}],
            "masks without images",
        ),
        (bare, "needs MediaPipe, which is not installed"),
    ):
        (tmp_path / "bad.json").write_text(json.dumps({"cameras": cameras}))
        out = str(tmp_path / "m.safetensors")
        assert main(["fit", "--views", str(tmp_path / "bad.json"), "-o", out]) == 2, text
        said = capsys.readouterr().err
        assert said.startswith("error: ") and text in said and said.count("\n") == 1, (text, said)
    assert not (tmp_path / "m.safetensors").exists()
