"""Drawing shaded triangles into a picture on the CPU, with neither a window system nor a graphics driver."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetalk.arrays import Float32, UInt8
from facetalk.ops import _extension
from facetalk.ops._arrays import as_array, is_tensor

_LARGEST = float(np.finfo(np.float32).max)


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
