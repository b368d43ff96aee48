"""Drawing an animated .glb without a screen: a video with sound, or a contact sheet.

Everything is drawn by the compiled core (:mod:`facetalk.ops.raster`): no window system, no graphics driver.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from facetalk.arguments import real_number, whole_number
from facetalk.arrays import UInt8
from facetalk.audio.load import AudioReader
from facetalk.errors import HearingWarning, InputError
from facetalk.files import atomic_path, check_not_input, check_replaceable
from facetalk.ops import threads
from facetalk.ops.raster import draw
from facetalk.render.pictures import textures_of
from facetalk.render.scene import AnimatedScene, Geometry
from facetalk.render.studio import Camera, Look, frame_head
from facetalk.side_by_side import side_by_side

SIZES = (16, 4096)
_MAX_SHEET = 16384
_ROUNDING = 1e-3  # of a picture, which is no reason to draw another one
_VIDEO_SIZE, _CELL_SIZE = (640, 640), (480, 480)


class Renderer:
    """Draws a scene from one camera.

    Args:
        scene: what to draw.
        size: width and height in pixels.
        look: lamps and background.
        camera: None frames the head over the whole animation.
        azimuth: degrees from the front, for the camera that is chosen here.
        samples: samples along each side of a pixel.
        relief: draw the normals of pictures on the head.
    """

    def __init__(
        self,
        scene: AnimatedScene,
        size: tuple[int, int],
        *,
        look: Look | None = None,
        camera: Camera | None = None,
        azimuth: float = 14.0,
        samples: int = 2,
        relief: bool = True,
    ) -> None:
        self.scene, self.size, self.samples = scene, size, samples
        self.look = look or Look()
        if camera is None:
            some = scene.start + np.linspace(0.0, (scene.frames - 1) / scene.fps, min(scene.frames, 8))
            points = np.concatenate([scene.geometry(float(t)).positions for t in some])
            camera = frame_head(points, azimuth=azimuth, aspect=size[0] / size[1])
        self.camera = camera
        self._palette = np.array(
            [[m.roughness, m.specular, m.subsurface, m.coat] for m in scene.materials], np.float32
        )
        self._lights = np.array([[*direction, *color] for direction, color in self.look.lights], np.float32)
        self._backdrop = self.look.backdrop(*size)
        self._textures = textures_of(scene.path, scene.pictures, relief=relief)

    def picture(self, time: float) -> UInt8:
        """(height, width, 3) uint8 sRGB picture ``time`` seconds into the animation."""
        return self.draw(self.scene.geometry(time))

    def draw(self, geometry: Geometry, *, stop: Callable[[], bool] | None = None) -> UInt8:
        """(height, width, 3) uint8 sRGB picture of ``geometry``; see :func:`facetalk.ops.raster.draw`."""
        return draw(
            geometry.positions,
            geometry.normals,
            geometry.colors,
            geometry.faces,
            geometry.materials,
            background=self._backdrop,
            palette=self._palette,
            lights=self._lights,
            ambient=[self.look.sky, self.look.ground],
            camera=self.camera.matrix(),
            focal=self.camera.focal * self.size[1],
            exposure=self.look.exposure,
            samples=self.samples,
            alone=True,
            stop=stop,
            uv=geometry.uv,
            textures=self._textures,
        )

    def pictures(self, times: Sequence[float]) -> Iterator[UInt8]:
        """Pictures of many times, in order, drawn side by side: faster than sharing the work of each one."""

        def picture(time: float, over: Callable[[], bool]) -> UInt8:
            return self.draw(self.scene.geometry(time), stop=over)

        workers = threads()
        return side_by_side(picture, tqdm(times, "draw", disable=None, leave=False), workers, workers)


def render(
    glb: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    size: tuple[int, int] | None = None,
    fps: float | None = None,
    audio: str | os.PathLike[str] | None = None,
    camera: Camera | None = None,
    azimuth: float = 14.0,
    look: Look | None = None,
    frames: int | None = None,
    at: Sequence[float] | None = None,
    mute: bool = False,
    allow_external: bool = False,
) -> Path:
    """Draw an animated glTF file.

    Args:
        glb: .glb or .gltf with morph targets or stepped frames.
        out: ``.mp4`` (H.264, with the sound beside the .glb when there is one) or ``.png`` (contact sheet).
        size: width and height of a picture in pixels; default 640 x 640 for video, 480 x 480 for each cell
            of a sheet.
        fps: pictures per second of the video; default the animation's.
        audio: recording for the video instead of the one beside the file.
        camera: default a portrait lens that frames the head.
        azimuth: degrees from the front, for the default camera.
        look: lamps and background.
        frames: number of pictures: the first ones of a video (default all), spread evenly over a sheet
            (default 12).
        at: times in seconds of the pictures of a sheet, instead of ``frames``.
        mute: no sound in the video.
        allow_external: read buffers of a .gltf from files of its folder, or below it.

    Returns:
        The path written.

    Raises:
        InputError: unreadable input, unknown suffix, or a size, rate or time out of range.

    Warns:
        HearingWarning: the sound that the file names does not lie beside it.
    """
    glb, out = Path(glb), Path(out)
    suffix = out.suffix.lower()
    if suffix not in (".mp4", ".png"):
        raise InputError(f"cannot write {out}: suffix {suffix!r} is not one of .mp4, .png")
    check_not_input(out, glb, audio)
    check_replaceable(out)
    if size is not None:
        size = whole_number("width", size[0]), whole_number("height", size[1])
    fps = None if fps is None else real_number("fps", fps)
    frames = None if frames is None else whole_number("frames", frames)
    azimuth = real_number("azimuth", azimuth)
    size = size or (_VIDEO_SIZE if suffix == ".mp4" else _CELL_SIZE)
    if not all(SIZES[0] <= side <= SIZES[1] for side in size):
        raise InputError(f"size must lie in {SIZES[0]} to {SIZES[1]} pixels a side, got {size[0]}x{size[1]}")
    if suffix == ".mp4" and (size[0] % 2 or size[1] % 2):
        raise InputError(f"a video needs an even width and height, got {size[0]}x{size[1]}")
    if fps is not None and not 0.0 < fps <= 240.0:
        raise InputError(f"fps must lie in (0, 240], got {fps:g}")
    if frames is not None and frames < 1:
        raise InputError(f"frames must be at least 1, got {frames}")
    if audio is not None and not Path(audio).is_file():
        raise InputError(f"no sound file at {audio}")
    scene = AnimatedScene(glb, allow_external=allow_external)
    check_not_input(out, scene.audio)
    # At the size of videos nobody sees pores, and they would take a twentieth of the time.
    relief = suffix == ".png"
    renderer = Renderer(scene, size, look=look, camera=camera, azimuth=azimuth, relief=relief)
    with atomic_path(out) as temporary:
        if suffix == ".png":
            _contact_sheet(renderer, temporary, 12 if frames is None else frames, at)
        else:
            sound = None if mute else Path(audio) if audio is not None else scene.audio
            if sound is None and not mute and scene.missing_audio is not None:
                name = (
                    scene.missing_audio
                    if len(scene.missing_audio) <= 60
                    else scene.missing_audio[:57] + "..."
                )
                warnings.warn(
                    f"{glb}: its sound {name!r} does not lie beside it, so the video has none; give it by "
                    "--audio (audio=), or say --mute (mute=True)",
                    HearingWarning,
                    stacklevel=2,
                )
            _video(renderer, temporary, fps or scene.fps, frames, sound)
    return out


def _video(renderer: Renderer, path: Path, fps: float, frames: int | None, audio: Path | None) -> None:
    from facetalk.render.video import write_video

    scene = renderer.scene
    length = scene.duration
    sound = None if audio is None else AudioReader(audio).duration
    if sound is not None and abs(sound - length) < 1.0 / scene.fps:
        # Frames are whole and the sound is not: the last picture is that of the sound's end.
        length = sound
    count = max(1, math.ceil(length * fps - _ROUNDING))
    count = count if frames is None else min(count, frames)

    # Picture n stands for the middle of its time, as frame i of the animation does, whatever the time of its
    # key: at equal rates they agree.
    times = [(number + 0.5) / fps - 0.5 / scene.fps + scene.start for number in range(count)]
    write_video(
        path, renderer.pictures(times), size=renderer.size, fps=fps, duration=count / fps, audio=audio
    )


def _contact_sheet(renderer: Renderer, path: Path, frames: int, at: Sequence[float] | None) -> None:
    scene = renderer.scene
    end = (scene.frames - 1) / scene.fps + scene.start
    if at is None:
        # Even steps, on whole frames, the first and the last half a step from the ends.
        count = min(frames, scene.frames)
        chosen = [round((i + 0.5) * scene.frames / count - 0.5) for i in range(count)]
        times = [scene.start + frame / scene.fps for frame in chosen]
    else:
        times = [float(t) for t in at]
        if not times or not all(0.0 <= t <= scene.duration for t in times):
            raise InputError(f"times must lie between 0 and {scene.duration:.3f} s, got {list(at)}")
    width, height = renderer.size
    wide = round((len(times) * 4 / 3 * height / width) ** 0.5)  # sheets of about 4:3
    columns = len(times) if len(times) <= 4 else max(1, wide)
    rows = -(-len(times) // columns)
    if columns * width > _MAX_SHEET or rows * height > _MAX_SHEET:
        raise InputError(
            f"{len(times)} pictures of {width}x{height} do not fit a sheet of {_MAX_SHEET} pixels a side; "
            "ask for fewer or smaller ones"
        )
    sheet = Image.new("RGB", (columns * width, rows * height), (16, 17, 20))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(max(10, height // 24))
    pictures = renderer.pictures([min(t, end) for t in times])
    for number, (time, picture) in enumerate(zip(times, pictures, strict=True)):
        x, y = number % columns * width, number // columns * height
        sheet.paste(Image.fromarray(picture), (x, y))
        pen.text((x + width * 0.03, y + height * 0.025), f"{time:.2f} s", (225, 228, 232), font)
    sheet.save(path)
