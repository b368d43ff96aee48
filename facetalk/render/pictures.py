"""Pictures of materials decoded, for the compiled drawing."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from facetalk.arrays import UInt8
from facetalk.errors import InputError
from facetalk.ops.raster import Textures, pack_textures
from facetalk.reading import one_line
from facetalk.render.images import Pictures

__all__ = ["MAX_SIDE", "MAX_TEXELS", "textures_of"]

MAX_SIDE = 8192
"""Pixels along a side of a picture."""
MAX_TEXELS = 2**26
"""Of all pictures of a file: eight bytes each, and a third more for their halves."""

_FORMATS = ("PNG", "JPEG")  # those that glTF 2.0 has


def textures_of(path: Path, materials: Sequence[Pictures], *, relief: bool = True) -> Textures | None:
    """The pictures of materials; None where none of them has one.

    Args:
        path: of their file, for messages.
        materials: encoded pictures of each.
        relief: with their normals.

    Raises:
        InputError: a picture cannot be decoded, or they are larger than what is drawn.
    """
    left = MAX_TEXELS
    packed: list[UInt8 | None] = []
    for material in materials:
        given = (material.color, material.roughness, material.normal if relief else None)
        opened = [None if data is None else _opened(path, data) for data in given]
        sizes = [image.size for image in opened if image is not None]
        if not sizes:
            packed.append(None)
            continue
        size = max(width for width, _ in sizes), max(height for _, height in sizes)
        left -= size[0] * size[1]
        if left < 0:
            raise InputError(f"{path} has pictures of more than {MAX_TEXELS} pixels, which are not drawn")
        packed.append(_packed(path, opened, size, material.strength))
    return pack_textures(packed) if any(picture is not None for picture in packed) else None


def _packed(
    path: Path, images: Sequence[Image.Image | None], size: tuple[int, int], strength: float
) -> UInt8:
    out = np.empty((size[1], size[0], 6), np.uint8)
    out[...] = (255, 255, 255, 255, 128, 128)
    color, roughness, normal = (None if image is None else _pixels(path, image, size) for image in images)
    if color is not None:
        out[..., :3] = color
    if roughness is not None:
        out[..., 3] = roughness[..., 1]
    if normal is not None:
        slopes = (normal[..., :2].astype(np.float32) - 127.5) * np.float32(strength) + 127.5
        out[..., 4:] = np.clip(np.rint(slopes), 0, 255)
    return out


def _pixels(path: Path, image: Image.Image, size: tuple[int, int]) -> UInt8:
    try:
        whole = image.convert("RGB")
    except Exception as error:  # Pillow's are of every kind there is
        raise InputError(f"{path} has a picture that cannot be decoded: {one_line(error)}") from error
    return np.asarray(whole if whole.size == size else whole.resize(size, Image.Resampling.BILINEAR))


def _opened(path: Path, data: bytes) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except Exception as error:
        raise InputError(f"{path} has a picture that is neither PNG nor JPEG, or damaged") from error
    if max(image.size) > MAX_SIDE:
        raise InputError(
            f"{path} has a picture of {image.width} x {image.height} pixels; at most {MAX_SIDE} a side are "
            "drawn"
        )
    return image
