"""Cameras, depth maps, COLMAP's files, and landmarks that cameras saw."""

import json
import struct

import numpy as np
import pytest
from PIL import Image

from facetalk.cli import main
from facetalk.errors import InputError
from facetalk.fitting import FitOptions
from facetalk.fitting.cameras import Camera, read_rig
from facetalk.fitting.colmap import read_cameras, read_points
from facetalk.fitting.scans import Scans
from facetalk.fitting.synthetic import depth_map
from facetalk.fitting.triangulate import triangulate
from facetalk.fitting.views import Capture
from facetalk.motion import Motion
from facetalk.posing import landmarks

QUICK = FitOptions(points=900, steps=8)
BENT = np.array([0.05, -0.01, 1e-3, -1e-3, 0.002])


def arc(count, middle, *, focal, size, distance=0.7, bent=BENT):
    """Cameras on an arc before a face, metres."""
    found = []
    for angle in np.radians(np.linspace(-60, 60, count)):
        there = np.array([np.sin(angle), 0.2 * np.sin(3 * angle), np.cos(angle)])
        eye = middle + distance * there
        z = (middle - eye) / np.linalg.norm(middle - eye)
        x = np.cross(z, [0.0, 1.0, 0.0])
        x /= np.linalg.norm(x)
        R = np.stack([x, np.cross(z, x), z])
        K = np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1.0]])
        found.append(Camera(K, R, -R @ eye, bent))
    return found


def as_json(camera):
    return {name: getattr(camera, name).tolist() for name in ("K", "R", "t", "distortion")}


def test_what_is_projected_is_lifted_again():
    (camera,) = arc(1, np.zeros(3), focal=300.0, size=200)
    points = np.random.default_rng(0).uniform(-0.1, 0.1, (50, 3))
    pixels, ahead = camera.project(points)
    np.testing.assert_allclose(camera.lift(pixels, ahead), points, atol=1e-6)
    np.testing.assert_allclose(camera.project(camera.centre[None])[1], 0.0, atol=1e-12)
    # By hand, as OpenCV's documentation has it.
    x, y, z = camera.R @ points[0] + camera.t
    x, y = x / z, y / z
    r = x * x + y * y
    k1, k2, p1, p2, k3 = BENT
    bent = x * (1 + k1 * r + k2 * r**2 + k3 * r**3) + 2 * p1 * x * y + p2 * (r + 2 * x * x)
    assert pixels[0, 0] == pytest.approx(300 * bent + 100)


def test_points_that_some_cameras_are_wrong_about():
    rng = np.random.default_rng(1)
    points = rng.uniform(-0.08, 0.08, (2, 30, 3))
    cameras = arc(8, np.zeros(3), focal=900.0, size=512)
    pixels = np.stack([np.stack([camera.project(frame)[0] for frame in points]) for camera in cameras])
    pixels += rng.normal(0, 0.5, pixels.shape)
    pixels[2] = np.nan
    pixels[3, :, :5] += 60.0  # some landmarks are elsewhere
    pixels[0:7, 1, 29] = np.nan  # one is seen by one camera alone
    cameras[6] = Camera(cameras[6].K, cameras[6].R, cameras[6].t + np.array([0.03, 0, 0]), BENT)
    found = triangulate(cameras, pixels, [str(i) for i in range(8)])
    assert found.wrong == ["2", "6"] and np.isnan(found.share[2]) and found.share[6] == 0.0
    assert found.error_px[6] > 10 and found.error_px[[0, 1, 3, 4, 5, 7]].max() < 1.5
    assert np.isnan(found.points[1, 29]).all() and np.isfinite(found.points).sum() == 59 * 3
    off = np.linalg.norm(found.points - points, axis=2)
    assert np.nanmax(off) < 2e-3 and np.nanmean(off) < 5e-4
    assert not found.agreeing[3, :, :5].any() and found.agreeing[3, :, 5:28].all()


def test_what_colmap_writes(tmp_path):
    q, t = np.array([0.9, 0.1, -0.3, 0.2]), [0.1, -0.2, 1.5]
    q /= np.linalg.norm(q)
    models = {1: (4, "OPENCV", [500.0, 510, 320, 240, 0.1, 0.01, 0.001, 0.002]),
              2: (2, "SIMPLE_RADIAL", [400.0, 100, 90, 0.2])}  # fmt: skip
    text, binary = tmp_path / "text", tmp_path / "binary"
    text.mkdir()
    binary.mkdir()
    lines = [f"{n} {name} 640 480 {' '.join(map(str, p))}" for n, (_, name, p) in models.items()]
    (text / "cameras.txt").write_text("# cameras\n" + "\n".join(lines) + "\n")
    pose = " ".join(map(str, [*q, *t]))
    (text / "images.txt").write_text(f"# images\n1 {pose} 1 a b.png\n1.0 2.0 -1\n2 {pose} 2 c.png\n\n")
    (text / "points3D.txt").write_text("# points\n7 1.0 2.0 3.0 9 9 9 0.5 1 0\n8 4 5 6 9 9 9 0.5\n")
    (binary / "cameras.bin").write_bytes(
        struct.pack("<Q", 2)
        + b"".join(struct.pack(f"<IiQQ{len(p)}d", n, m, 640, 480, *p) for n, (m, _, p) in models.items())
    )
    images = [(1, 1, b"a b.png", 1), (2, 2, b"c.png", 0)]
    (binary / "images.bin").write_bytes(
        struct.pack("<Q", 2)
        + b"".join(
            struct.pack("<I7dI", n, *q, *t, c) + name + b"\0" + struct.pack("<Q", k)
            + k * struct.pack("<ddq", 1.0, 2.0, -1)
            for n, c, name, k in images
        )
    )  # fmt: skip
    (binary / "points3D.bin").write_bytes(
        struct.pack("<Q", 2)
        + struct.pack("<Qddd3BdQii", 7, 1.0, 2.0, 3.0, 9, 9, 9, 0.5, 1, 1, 0)
        + struct.pack("<Qddd3BdQ", 8, 4.0, 5.0, 6.0, 9, 9, 9, 0.5, 0)
    )
    one, other = read_cameras(text), read_cameras(binary)
    assert set(one) == set(other) == {"a b.png", "c.png"}
    for name, camera in one.items():
        for key, value in camera.items():
            np.testing.assert_allclose(value, other[name][key], atol=1e-12)
    assert one["a b.png"]["K"] == [[500.0, 0.0, 319.5], [0.0, 510.0, 239.5], [0.0, 0.0, 1.0]]
    assert one["c.png"]["distortion"] == [0.2, 0.0, 0.0, 0.0]
    v = np.array([0.3, -0.1, 0.7])
    turned = v + 2 * np.cross(q[1:], np.cross(q[1:], v) + q[0] * v)
    np.testing.assert_allclose(one["c.png"]["R"] @ v, turned, atol=1e-12)
    for folder, name in ((text, "points3D.txt"), (binary, "points3D.bin")):
        np.testing.assert_array_equal(read_points(folder / name), [[1, 2, 3], [4, 5, 6]])
        (points,) = Scans([folder / name])
        assert points.shape == (2, 3)
    capture = {"colmap": "text", "cameras": [{"image": "c.png"}, {"image": "gone.png"}]}
    (tmp_path / "capture.json").write_text(json.dumps(capture))
    with pytest.raises(InputError, match=r"camera 1: COLMAP knows no image 'gone.png'"):
        read_rig(tmp_path / "capture.json")
    (tmp_path / "capture.json").write_text(json.dumps({**capture, "cameras": capture["cameras"][:1]}))
    (view,) = read_rig(tmp_path / "capture.json").views
    assert view.name == "c.png" and view.camera.distortion.tolist() == [0.2, 0, 0, 0, 0]
    for name in ("cameras.bin", "images.bin", "points3D.bin"):
        whole = (binary / name).read_bytes()
        for content in (whole[: len(whole) - 5], b"", b"\xff" * 64):
            (binary / name).write_bytes(content)
            with pytest.raises(InputError, match="damaged"):
                read_points(binary / name) if "points" in name else read_cameras(binary)
        (binary / name).write_bytes(whole)
    (text / "cameras.txt").write_text("1 FULL_OPENCV 640 480 1 2 3\n")
    with pytest.raises(InputError, match="FULL_OPENCV; only"):
        read_cameras(text)


@pytest.fixture(scope="module")
def depths(capture, tmp_path_factory):
    """Depth maps of a face by three cameras, two frames."""
    folder = tmp_path_factory.mktemp("depths")
    middle = 0.25 * capture.field.bound.source.anchors.mean(0).numpy()
    cameras = arc(3, middle, focal=90.0, size=40)
    entries = []
    for number, camera in enumerate(cameras):
        for t, code in enumerate(capture.codes[1:]):
            steps = np.round(depth_map(capture.field, code, camera, (40, 40)) / 1e-4)
            Image.fromarray(steps.astype(np.uint16)).save(folder / f"{number}_{t}.png")
        entries.append({**as_json(camera), "depth": f"{number}_*.png", "depth_scale": 1e-4})
    (folder / "capture.json").write_text(json.dumps({"cameras": entries}))
    return folder


def test_depth_maps_are_fitted(capture, depths, tmp_path, capsys):
    out, report = tmp_path / "motion.safetensors", tmp_path / "report.json"
    words = ["fit", "--views", str(depths / "capture.json"), "-o", str(out), "--report", str(report),
             "--sheet", str(tmp_path / "sheet.png"), "--per-frame", "900"]  # fmt: skip
    assert main(words) == 0, capsys.readouterr().err
    said = json.loads(report.read_text())
    assert said["mean_mm"] < 0.4 and said["frames"] == 2 and said["flagged"] == []
    assert set(said["per_frame"]) >= {"mean_mm", "ninetieth_mm", "code_speed", "lip_gap_mm"}
    jaw = capture.head.expression_names.index("jawOpen")
    assert np.abs(Motion.load(out).expressions[:, jaw] - capture.codes[1:, jaw]).max() < 0.08
    with Image.open(tmp_path / "sheet.png") as sheet:
        pixels = np.asarray(sheet).astype(int)
    assert pixels.shape == (480, 480, 3)
    green = (pixels[..., 1] > 150) & (pixels[..., 0] < 120)
    red = (pixels[..., 0] > 200) & (pixels[..., 1] < 80)
    assert green[:240].sum() > 300 and green.sum() > 20 * red.sum() and not green[240:].any()


def test_what_depth_maps_leave_out(depths):
    scans = Capture([], depths / "capture.json", None).scans
    picture = np.asarray(Image.open(depths / "0_0.png"))
    assert 500 < len(scans[0]) < 3 * (picture > 0).sum()
    assert scans.names == [str(depths / f"0_{t}.png") for t in (0, 1)]
    assert np.ptp(scans[0], axis=0).max() < 0.4  # nothing hangs between the face and what is behind it


@pytest.fixture(scope="module")
def seen(capture, tmp_path_factory):
    """Landmarks of a mouth that opens and shuts, in the pictures of six cameras, one of them moved."""
    folder = tmp_path_factory.mktemp("seen")
    codes = np.repeat(capture.codes[:1], 6, axis=0)
    codes[:, capture.head.expression_names.index("jawOpen")] = (0.3, 0.15, 0.0, 0.0, 0.2, 0.4)
    identity = capture.head.default_identity
    marks = landmarks(capture.head, Motion(codes, 25.0, identity), None).astype(np.float64)
    turn = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # z up, and somewhere in the room
    room = marks @ turn.T + [0.5, 2.0, 1.1]
    cameras = [
        Camera(c.K, c.R @ turn.T, c.t - c.R @ turn.T @ [0.5, 2.0, 1.1], c.distortion)
        for c in arc(6, marks.mean((0, 1)), focal=900.0, size=512)
    ]
    rng = np.random.default_rng(0)
    entries = []
    for number, camera in enumerate(cameras):
        pixels = np.stack([camera.project(frame)[0] for frame in room]) + rng.normal(0, 0.7, (6, 68, 2))
        pixels[4, 48:60] = np.nan
        np.save(folder / f"{number}.npy", pixels)
        told = as_json(camera)
        if number == 2:
            told["t"][0] += 0.04
        entries.append({"name": f"cam{number}", **told, "landmarks": f"{number}.npy"})
    (folder / "capture.json").write_text(json.dumps({"cameras": entries}))
    return folder, marks, codes


def gaps(marks):
    return 1000 * np.abs(marks[:, [61, 62, 63], 1] - marks[:, [67, 66, 65], 1]).mean(1)


def test_landmarks_alone_are_fitted_and_a_wrong_camera_is_told(capture, seen, tmp_path, capsys):
    folder, marks, _ = seen
    out, report = tmp_path / "motion.safetensors", tmp_path / "report.json"
    words = ["fit", "--views", str(folder / "capture.json"), "-o", str(out), "--report", str(report)]
    assert main(words) == 0, capsys.readouterr().err
    assert "camera cam2 does not agree" in capsys.readouterr().out
    said = json.loads(report.read_text())
    assert [camera["name"] for camera in said["cameras"] if camera["wrong"]] == ["cam2"]
    assert said["landmark_mm"] < 1.0 and said["landmark_px"] < 1.5 and "mean_mm" not in said
    fitted = landmarks(capture.head, Motion.load(out), None)
    np.testing.assert_allclose(gaps(fitted), gaps(marks), atol=0.6)
    assert (gaps(fitted)[2:4] < 1.5).all()


def test_landmarks_shut_lips_that_points_leave_open(capture, seen, tmp_path):
    """Points and landmarks in the same room; the pose comes from the landmarks, the unit is said."""
    folder, marks, codes = seen
    turn = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    from facetalk.fitting.synthetic import scan

    for t in range(6):
        points = 0.25 * scan(capture.field, codes[t], points=1000, noise_mm=1.0, seed=t)
        np.save(tmp_path / f"{t}.npy", points @ turn.T + [0.5, 2.0, 1.1])
    files = [tmp_path / f"{t}.npy" for t in range(6)]
    both = Capture(files, folder / "capture.json", "metres")
    fit = both.fit(
        capture.head, fps=25, identity=None, options=QUICK, state=tmp_path / "s", progress=lambda done: None
    )
    assert fit.report.median_mm[0] < 1.0 and np.mean(fit.report.landmark_mm) < 1.2
    np.testing.assert_allclose(gaps(landmarks(capture.head, fit.motion, None)), gaps(marks), atol=0.6)


def test_what_cameras_cannot_give(seen, depths, tmp_path, capsys):
    folder, _, _ = seen
    good = json.loads((folder / "capture.json").read_text())["cameras"]
    near = [{**camera, "landmarks": str(folder / camera["landmarks"])} for camera in good]
    np.save(tmp_path / "none.npy", np.full((6, 68, 2), np.nan))
    np.save(tmp_path / "short.npy", np.zeros((5, 68, 2)))
    np.save(tmp_path / "flat.npy", np.zeros((6, 2)))
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "eight.png")
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(tmp_path / "empty.png")
    plain = {key: near[0][key] for key in ("K", "R", "t")}
    apart = [{**camera, "t": [i, 40.0 * i, 7.0]} for i, camera in enumerate(near)]
    for cameras, text in (
        ([], "no cameras"),
        ([plain], "cameras that saw nothing"),
        ([near[0], {**plain, "name": "other"}], "one camera alone"),
        ([{**near[0], "landmarks": str(tmp_path / "none.npy")}, near[1]], "saw no landmark"),
        ([{**near[0], "landmarks": str(tmp_path / "short.npy")}, near[1]], "5 to 6 frames"),
        ([{**near[0], "landmarks": str(tmp_path / "flat.npy")}, near[1]], "(T, 68, 2)"),
        ([{**near[0], "landmarks": "gone.npy"}, near[1]], "gone.npy"),
        (apart, "no landmark is seen alike"),
        ([{**plain, "R": [[2, 0, 0], [0, 1, 0], [0, 0, 1]], "depth": "x"}], "R: expected a rotation"),
        ([{**plain, "K": [[1, 2], [3, 4]]}], "K: expected shape"),
        ([{**plain, "t": ["a", 0, 0]}], "t: expected numbers"),
        ([{"K": plain["K"], "R": plain["R"]}], "no t"),
        ([{**plain, "distortion": [0] * 8}], "distortion"),
        ([{**plain, "zoom": 2}], "unknown zoom"),
        ([{**plain, "depth": "*.exr"}], "nothing fits"),
        ([{**plain, "depth": ["gone.png"]}], "gone.png: no such file"),
        ([{**plain, "depth": "eight.png"}], "no 16 bits"),
        ([{**plain, "depth": "empty.png"}], "0 points; at least 200"),
    ):
        (tmp_path / "bad.json").write_text(json.dumps({"cameras": cameras}))
        assert (
            main(["fit", "--views", str(tmp_path / "bad.json"), "-o", str(tmp_path / "m.safetensors")]) == 2
        )
        said = capsys.readouterr().err
        assert said.startswith("error: ") and text in said and said.count("\n") == 1, (text, said)
    out = str(tmp_path / "m.safetensors")
    for words, text in (
        (["-o", out], "nothing to fit"),
        (["--views", str(depths / "capture.json"), "--unit", "millimetres", "-o", out], "in metres"),
        (
            ["--views", str(depths / "capture.json"), "--points", str(tmp_path / "flat.npy"), "-o", out],
            "take one",
        ),
        (["--views", str(folder / "capture.json"), "--method", "adam", "-o", out], "newton"),
        (["--views", str(folder / "capture.json"), "--sheet", str(tmp_path / "s.png"), "-o", out], "--sheet"),
        (["--views", str(folder / "capture.json"), "--identity", "fit", "-o", out], "takes scans"),
    ):
        assert main(["fit", *words]) == 2, words
        said = capsys.readouterr().err
        assert said.startswith("error: ") and text in said and said.count("\n") == 1, (text, said)
    assert not (tmp_path / "m.safetensors").exists()
