"""Drawing: the rasteriser, videos with sound, contact sheets."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from mesh_scenes import sphere, talking_ball
from PIL import Image

from facetalk.cli import main
from facetalk.cli.render import parse_background, parse_size
from facetalk.errors import InputError
from facetalk.mesh import Mesh, RiggedSequence
from facetalk.mesh.export import export
from facetalk.mesh.materials import linear_to_srgb, srgb_to_linear
from facetalk.ops.raster import draw
from facetalk.render.render import render
from facetalk.render.studio import Camera, frame_head

CAMERA = Camera((0.0, 0.0, 0.0), distance=1.0, focal=2.0)


def picture(vertices: np.ndarray, faces: np.ndarray, size: int = 64, **change: object) -> np.ndarray:
    mesh = Mesh(vertices, faces)
    settings: dict[str, object] = {
        "background": np.full((size, size, 3), 7, np.uint8),
        "palette": np.array([[0.5, 0.04, 0.0, 0.0]]),
        "lights": np.array([[0.0, 0.0, 1.0, 1.0, 1.0, 1.0]]),
        "ambient": np.full((2, 3), 0.3),
        "camera": CAMERA.matrix(),
        "focal": CAMERA.focal * size,
    }
    colors = np.full(vertices.shape, 0.5, np.float32)
    materials = np.zeros(len(faces), np.uint8)
    settings.update(change)
    return draw(mesh.vertices, mesh.normals, colors, mesh.faces, materials, **settings)  # type: ignore[arg-type]


def test_ball_covers_its_disc() -> None:
    vertices, faces = sphere(40, 60)
    covered = (picture(vertices, faces, 200) != 7).any(axis=2)
    # A ball of radius r at distance d is seen as a disc of radius f r / sqrt(d^2 - r^2).
    y, x = np.mgrid[0:200, 0:200] + 0.5 - 100
    radius, distance = 2.0 * 200 * 0.1 / np.sqrt(1 - 0.01), np.hypot(x, y)
    assert covered[distance < radius - 1.5].all()
    assert not covered[distance > radius + 1.5].any()


@pytest.mark.parametrize("samples", [1, 2, 3])
def test_no_cracks_and_same_picture_for_any_number_of_threads(samples: int) -> None:
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(np.arange(40.0), np.arange(40.0)), axis=-1).reshape(-1, 2)
    grid = (grid + rng.uniform(-0.3, 0.3, grid.shape)) / 39 * 0.8 - 0.4
    vertices = np.concatenate([grid, np.zeros((1600, 1))], axis=1).astype(np.float32)
    corner = np.add.outer(np.arange(39) * 40, np.arange(39)).reshape(-1)
    faces = np.concatenate([corner[:, None] + [0, 1, 41], corner[:, None] + [0, 41, 40]]).astype(np.int32)
    one, many = (picture(vertices, faces, 160, samples=samples, alone=alone) for alone in (True, False))
    np.testing.assert_array_equal(one, many)
    assert (one[30:-30, 30:-30] != 7).all()


def test_nearer_surface_wins_whatever_the_order() -> None:
    near = np.array([[-0.2, -0.2, 0.1], [0.2, -0.2, 0.1], [0.0, 0.3, 0.1]], np.float32)
    vertices = np.concatenate([near, near - [0, 0, 0.2]]).astype(np.float32)
    colors = np.repeat(np.array([[1, 0, 0], [0, 0, 1]], np.float32), 3, axis=0)
    for faces in ([[0, 1, 2], [3, 4, 5]], [[3, 4, 5], [0, 1, 2]]):
        image = draw(
            vertices,
            np.tile(np.float32([0, 0, 1]), (6, 1)),
            colors,
            np.array(faces, np.int32),
            np.zeros(2, np.uint8),
            background=np.zeros((64, 64, 3), np.uint8),
            palette=np.array([[1.0, 0.0, 0.0, 0.0]]),
            lights=np.zeros((0, 6)),
            ambient=np.full((2, 3), 0.5),
            camera=CAMERA.matrix(),
            focal=128,
        )
        assert image[32, 32, 0] > 100 and image[32, 32, 2] < 10


def test_the_key_light_casts_a_shadow() -> None:
    floor = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], np.float32) * 0.2
    lid = floor * 0.25 + np.float32([0.1, 0, 0.1])
    faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    # The lamp is over the lid's right: the shadow falls to the left of it, in the middle of the picture.
    lights = np.array([[1.0, 0.0, 1.0, 1.0, 1.0, 1.0]])
    bare = picture(floor, faces, 100, lights=lights)
    both = picture(np.concatenate([floor, lid]), np.concatenate([faces, faces + 4]), 100, lights=lights)
    assert int(both[50, 50, 0]) < int(bare[50, 50, 0]) - 30
    assert abs(int(both[50, 20, 0]) - int(bare[50, 20, 0])) < 10


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"samples": 5}, ValueError, "samples"),
        ({"focal": 0.0}, ValueError, "focal"),
        ({"palette": np.zeros((0, 4))}, ValueError, "materials"),
        ({"lights": np.array([[np.nan] * 6])}, ValueError, "lights"),
        ({"background": np.zeros((8, 8, 3), np.float32)}, TypeError, "background"),
    ],
)
def test_draw_rejects(change: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        picture(*sphere(), **change)


def test_a_mesh_behind_the_eye_and_no_mesh_leave_the_background() -> None:
    vertices, faces = sphere()
    behind = picture(vertices + np.float32([0, 0, 5]), faces)
    empty = picture(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    assert (behind == 7).all() and (empty == 7).all()


def test_camera_frames_the_head() -> None:
    vertices, _ = sphere(radius=0.13)
    for azimuth in (0.0, 35.0):
        camera = frame_head(vertices, azimuth=azimuth, aspect=0.75)
        matrix = camera.matrix()
        seen = vertices @ matrix[:, :3].T + matrix[:, 3]
        x, y = (camera.focal * seen[:, axis] / -seen[:, 2] for axis in (0, 1))
        assert np.abs(x).max() <= 0.375 and y.max() <= 0.5
        assert np.abs(x).max() > 0.3  # and fills it


def test_srgb_round_trip() -> None:
    every = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(linear_to_srgb(srgb_to_linear(every)), every)


def opening_mouth(frames: int = 20) -> RiggedSequence:
    """A ball whose front dents in, over one second or less."""
    vertices, faces = sphere(30, 40)
    dent = np.exp(-(((vertices - [0, -0.03, 0.09]) / 0.025) ** 2).sum(1))[:, None] * np.float32([0, 0, -0.05])
    base = Mesh(vertices, faces, colors=np.tile(np.uint8([210, 160, 140]), (len(vertices), 1)))
    return RiggedSequence(base, dent[None], np.linspace(0, 1, frames, dtype=np.float32)[:, None])


def test_video_has_every_frame_and_the_sound(tmp_path: Path) -> None:
    sound = 0.2 * np.sin(np.arange(16000) * 0.1)
    export(tmp_path / "talk.glb", opening_mouth(), fps=25, audio=(sound, 16000))
    out = render(tmp_path / "talk.glb", tmp_path / "talk.mp4", size=(128, 96))
    with av.open(str(out)) as video:
        picture_stream, sound_stream = video.streams.video[0], video.streams.audio[0]
        assert (picture_stream.width, picture_stream.height) == (128, 96)
        assert picture_stream.codec_context.name == "h264" and sound_stream.codec_context.name == "aac"
        assert float(picture_stream.average_rate) == 25
        frames = [f.to_ndarray(format="rgb24").astype(int) for f in video.decode(picture_stream)]
    assert len(frames) == 20
    with av.open(str(out)) as video:
        samples = sum(f.samples for f in video.decode(audio=0))
    assert abs(samples / 16000 - 0.8) < 0.13  # cut where the pictures end, to whole AAC frames
    raw = out.read_bytes()
    assert raw.index(b"moov") < raw.index(b"mdat")  # plays before it is loaded
    change = np.abs(frames[-1] - frames[0]).sum(axis=2)
    assert change.max() > 60 and np.median(change) < 10  # the dent, and little else
    render(tmp_path / "talk.glb", tmp_path / "slow.mp4", size=(64, 64), fps=10, mute=True)
    with av.open(str(tmp_path / "slow.mp4")) as video:
        assert not video.streams.audio and sum(1 for _ in video.decode(video=0)) == 8


def test_a_sound_that_is_gone_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(tmp_path / "talk.glb", talking_ball(2), fps=25, audio=(0.1 * np.sin(np.arange(1280)), 16000))
    (tmp_path / "talk.wav").unlink()
    words = ["render", str(tmp_path / "talk.glb"), "-o", str(tmp_path / "talk.mp4"), "--size", "32"]
    assert main(words) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert len(told) == 1 and "'talk.wav' does not lie beside it" in told[0]
    assert main([*words, "--mute"]) == 0
    assert main([*words[:3], str(tmp_path / "talk.png"), *words[4:]]) == 0
    export(tmp_path / "talk.glb", talking_ball(2), fps=25)  # never had one
    assert main(words) == 0
    assert "warning" not in capsys.readouterr().err


def test_contact_sheet(tmp_path: Path) -> None:
    export(tmp_path / "talk.glb", opening_mouth(), fps=25)
    sheet = Image.open(render(tmp_path / "talk.glb", tmp_path / "talk.png", size=(64, 64)))
    assert sheet.size == (256, 192)
    pixels = np.asarray(sheet).astype(int)
    first, last = pixels[:64, :64], pixels[128:, 192:]
    assert np.abs(first - last)[20:].max() > 60
    two = Image.open(render(tmp_path / "talk.glb", tmp_path / "two.png", size=(80, 60), at=[0.0, 0.79]))
    assert two.size == (160, 60)


def test_one_frame(tmp_path: Path) -> None:
    export(tmp_path / "talk.glb", talking_ball(1), fps=25)
    render(tmp_path / "talk.glb", tmp_path / "talk.png", size=(32, 32))
    render(tmp_path / "talk.glb", tmp_path / "talk.mp4", size=(32, 32))
    with av.open(str(tmp_path / "talk.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"out": "talk.gif"}, "suffix"),
        ({"out": "nowhere/talk.png"}, "does not exist"),
        ({"size": (33, 32)}, "even"),
        ({"size": (8, 8)}, "size"),
        ({"fps": 0.0}, "fps"),
        ({"frames": 0}, "frames"),
        ({"out": "talk.png", "at": [99.0]}, "between 0 and"),
        ({"out": "talk.png", "frames": 5000, "size": (512, 512)}, None),
        ({"audio": "missing.wav"}, "no sound file"),
        ({"glb": "missing.glb"}, "cannot read"),
        ({"glb": "text.glb"}, "not a readable glTF"),
        ({"glb": "cut.glb"}, "cut short"),
    ],
)
def test_bad_requests_leave_nothing(tmp_path: Path, change: dict[str, object], message: str | None) -> None:
    export(tmp_path / "talk.glb", talking_ball(2), fps=25)
    (tmp_path / "text.glb").write_text("hello")
    (tmp_path / "cut.glb").write_bytes((tmp_path / "talk.glb").read_bytes()[:2000])
    before = sorted(tmp_path.iterdir())
    request = {"glb": "talk.glb", "out": "talk.mp4", "size": (32, 32), **change}
    glb, out = tmp_path / str(request.pop("glb")), tmp_path / str(request.pop("out"))
    if message is None:  # more pictures than frames: every frame once
        assert Image.open(render(glb, out, **request)).size == (1024, 512)  # type: ignore[arg-type]
        return
    with pytest.raises(InputError, match=message) as caught:
        render(glb, out, **request)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before


def test_options() -> None:
    assert parse_size("640") == (640, 640) and parse_size("1280x720") == (1280, 720)
    assert parse_background("#102030").background[0] == (16.0, 32.0, 48.0)
    for text in ("wide", "1x", "-5"):
        with pytest.raises(InputError, match="--size"):
            parse_size(text)
    with pytest.raises(InputError, match="--background"):
        parse_background("blue")
