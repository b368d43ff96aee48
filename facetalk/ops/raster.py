"""Drawing shaded triangles into a picture on the CPU, with neither a window system nor a graphics driver."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetalk.ops import _extension


def draw(
    positions: ArrayLike,
    normals: ArrayLike,
    colors: ArrayLike,
    faces: ArrayLike,
    materials: ArrayLike,
    *,
    background: NDArray[np.uint8],
    palette: ArrayLike,
    lights: ArrayLike,
    ambient: ArrayLike,
    camera: ArrayLike,
    focal: float,
    exposure: float = 1.0,
    occlusion_radius: float = 0.025,
    samples: int = 2,
    alone: bool = False,
) -> NDArray[np.uint8]:
    """Draw triangles from both sides with soft shadows and ambient occlusion.

    The result does not depend on the number of threads. Camera space has +x right, +y up and looks along -z.

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

    Returns:
        (height, width, 3) uint8 sRGB.

    Raises:
        TypeError: an argument has another dtype than stated.
        ValueError: a shape does not fit, a value is not finite, or an index is out of range.
    """
    result: Any = _extension.load().draw(
        np.ascontiguousarray(positions, np.float32),
        np.ascontiguousarray(normals, np.float32),
        np.ascontiguousarray(colors, np.float32),
        np.ascontiguousarray(faces),
        np.ascontiguousarray(materials),
        np.ascontiguousarray(background),
        np.ascontiguousarray(palette, np.float32),
        np.ascontiguousarray(lights, np.float32),
        np.ascontiguousarray(ambient, np.float32),
        np.ascontiguousarray(camera, np.float32),
        float(focal),
        float(exposure),
        float(occlusion_radius),
        int(samples),
        bool(alone),
    )
    return np.asarray(np.from_dlpack(result), dtype=np.uint8)
