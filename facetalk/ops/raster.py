"""Drawing shaded triangles into a picture on the CPU, with neither a window system nor a graphics driver."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetalk.arrays import Float32, Int32, UInt8
from facetalk.ops import _extension
from facetalk.ops._arrays import as_array, is_tensor

_LARGEST = float(np.finfo(np.float32).max)


# IEC 61966-2-1.
_BYTES = np.arange(256) / 255.0
_LINEAR: Float32 = np.where(_BYTES <= 0.04045, _BYTES / 12.92, ((_BYTES + 0.055) / 1.055) ** 2.4).astype(
    np.float32
)

_NO_TEXELS, _NO_TEXTURES = np.zeros((0, 8), np.uint8), np.zeros((0, 3), np.int32)


@dataclasses.dataclass(frozen=True)
class Textures:
    """Pictures of materials as the drawing takes them, made by :func:`pack_textures`.

    Attributes:
        texels: (N, 8) uint8: square roots of linear albedo, roughness, x and y of the normal, and nothing
            twice; of all pictures and their halves (mip-maps), one after the other.
        table: (M, 3) int32 first texel, width and height for each material; zeros where it has no picture.
    """

    texels: UInt8
    table: Int32


def pack_textures(pictures: Sequence[UInt8 | None]) -> Textures:
    """Pictures with their mip-maps, whose albedo is averaged in linear light.

    Args:
        pictures: of each material (h, w, 6) uint8: sRGB albedo, roughness, x and y of the normal in tangent
            space (+y up, 127.5 is 0); or None.

    Raises:
        ValueError: a picture has another shape.
    """
    levels, table, count = [_NO_TEXELS], np.zeros((len(pictures), 3), np.int32), 0
    for row, picture in zip(table, pictures, strict=True):
        if picture is None:
            continue
        if picture.ndim != 3 or picture.shape[2] != 6 or not picture.size:
            raise ValueError(f"a picture must have shape (h, w, 6), got {picture.shape}")
        row[:] = count, picture.shape[1], picture.shape[0]
        value = picture.astype(np.float32)
        value[..., :3] = _LINEAR[picture[..., :3]]
        while True:
            level = np.zeros((value.shape[0] * value.shape[1], 8), np.uint8)
            flat = value.reshape(-1, 6)
            level[:, :3] = np.rint(255.0 * np.sqrt(flat[:, :3]))
            level[:, 3:6] = np.rint(flat[:, 3:])
            levels.append(level)
            count += len(level)
            if value.shape[:2] == (1, 1):
                break
            value = _half(_half(value, 0), 1)
    return Textures(np.concatenate(levels), table)


def _half(value: Float32, axis: int) -> Float32:
    """Pairs along an axis as their mean; a last one without a partner is left out, but where it is alone."""
    count = value.shape[axis] // 2
    if not count:
        return value
    pairs = np.moveaxis(value, axis, 0)[: 2 * count]
    return np.ascontiguousarray(np.moveaxis(np.float32(0.5) * (pairs[::2] + pairs[1::2]), 0, axis))


def draw(
    positions: ArrayLike,
    normals: ArrayLike,
    colors: ArrayLike,
    faces: ArrayLike,
    materials: ArrayLike,
    *,
    background: UInt8,
    palette: ArrayLike,
    lights: ArrayLike,
    ambient: ArrayLike,
    camera: ArrayLike,
    focal: float,
    exposure: float = 1.0,
    occlusion_radius: float = 0.025,
    samples: int = 2,
    alone: bool = False,
    stop: Callable[[], bool] | None = None,
    uv: ArrayLike | None = None,
    textures: Textures | None = None,
) -> UInt8:
    """Draw triangles from both sides with soft shadows and ambient occlusion.

    The result does not depend on the number of threads. Camera space has +x right, +y up and looks along -z.
    Faces with a vertex beyond 1e9 m in camera space are left out, and Ctrl-C ends a drawing early.

    Args:
        positions: (V, 3) float32, metres, finite.
        normals: (V, 3) float32, unit.
        colors: (V, 3) float32 linear RGB in [0, 1].
        faces: (F, 3) int32.
        materials: (F,) uint8 row of ``palette`` for each face.
        background: (height, width, 3) uint8 sRGB picture behind; its size is the picture's.
        palette: (M, 4) float32 rows of roughness (0.05 to 1), specular reflectance at normal incidence,
            subsurface scattering (0 none, 1 skin) and wet coat (0 to 1).
        lights: (L, 6) float32 rows of direction towards the light (camera space) and linear RGB radiance;
            the first one casts a shadow.
        ambient: (2, 3) float32 linear RGB from above and from below.
        camera: (3, 4) float32 world to camera.
        focal: focal length in pixels.
        exposure: factor on all light.
        occlusion_radius: reach of the ambient occlusion, metres.
        samples: samples along each side of a pixel, 1 to 4.
        alone: draw with the calling thread only. Many pictures are drawn fastest side by side, each by one
            thread; the interpreter's lock is released meanwhile. False shares one picture's work.
        stop: asked a few times a second while drawing; True gives the picture up.
        uv: (V, 2) float32 places on the texture of a face's material, u to the right and v downwards, 0 to 1.
        textures: of the materials; colours and roughness are multiplied by them. Without `uv` nothing is.

    Returns:
        (height, width, 3) uint8 sRGB.

    Raises:
        TypeError: an argument is no array in the CPU's memory, or of another dtype than stated.
        ValueError: a shape does not fit, a value is not finite, or an index is out of range.
        InterruptedError: `stop` said so.
    """
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and refused
        result: Any = _extension.load().draw(
            _floats(positions, "positions"),
            _floats(normals, "normals"),
            _floats(colors, "colors"),
            _integers(faces, "faces"),
            _integers(materials, "materials"),
            _integers(background, "background"),
            _floats(palette, "palette"),
            _floats(lights, "lights"),
            _floats(ambient, "ambient"),
            _floats(camera, "camera"),
            _number(focal, "focal"),
            _number(exposure, "exposure"),
            _number(occlusion_radius, "occlusion_radius"),
            _count(samples, "samples"),
            bool(alone),
            stop,
            _floats(np.zeros((0, 2)) if uv is None or textures is None else uv, "uv"),
            _integers(_NO_TEXELS if textures is None else textures.texels, "texels"),
            _integers(_NO_TEXTURES if textures is None else textures.table, "textures"),
        )
    return np.asarray(np.from_dlpack(result), dtype=np.uint8)


def _array(value: Any, name: str) -> NDArray[Any]:
    """An array or nested sequence of numbers as a NumPy array."""
    if hasattr(value, "__dlpack__") and not isinstance(value, np.ndarray):
        value = as_array(value, name)
        if is_tensor(value) and str(value.dtype) == "torch.bfloat16":
            value = value.float()  # NumPy has no such type
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        reason = str(error).partition("\n")[0]
        raise TypeError(f"{name}: expected an array of numbers; {reason}") from error
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name}: expected an array of real numbers, got {array.dtype}")
    return array


def _floats(value: Any, name: str) -> Float32:
    return np.ascontiguousarray(_array(value, name), np.float32)


def _integers(value: Any, name: str) -> NDArray[Any]:
    array = _array(value, name)
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


def _number(value: Any, name: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name}: expected a number, got {_brief(value)}") from error
    if not -_LARGEST <= number <= _LARGEST:
        raise ValueError(f"{name}: expected a number that float32 can hold, got {number!r}")
    return number


def _count(value: Any, name: str) -> int:
    try:
        number = operator.index(value)
    except TypeError as error:
        raise TypeError(f"{name}: expected an integer, got {_brief(value)}") from error
    if not 1 <= number <= 4:
        raise ValueError(f"{name}: expected 1 to 4, got {_brief(number)}")
    return number


def _brief(value: Any) -> str:
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**20 else "a larger one"
    return text if len(text) <= 60 else f"a {type(value).__name__}"
