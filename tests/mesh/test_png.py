"""PNG files that Pillow reads, pixel by pixel, and that are known again."""

import io

import numpy as np
import pytest
from PIL import Image

from facetalk.mesh import png


@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 3), (5, 7), (64, 33, 3), (2, 300)])
@pytest.mark.parametrize("smooth", [False, True])
def test_pictures_come_back(shape, smooth):
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    if smooth:
        pixels = (np.add.outer(np.arange(shape[0]), np.arange(shape[1])) % 256).astype(np.uint8)
        pixels = pixels if len(shape) == 2 else np.repeat(pixels[..., None], 3, axis=2)
    for mark in (False, True):
        image = Image.open(io.BytesIO(png.encode(pixels, mark=mark)))
        image.verify()  # its checksums
        found = np.asarray(Image.open(io.BytesIO(png.encode(pixels, mark=mark))))
        np.testing.assert_array_equal(found, pixels)


def test_filters_are_worth_it():
    x = np.add.outer(np.arange(200), np.arange(200)) // 2 % 256
    assert len(png.encode(x.astype(np.uint8))) < 2000


def test_pictures_of_facetalk_are_known(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3)).astype(np.uint8)
    path = tmp_path / "a.png"
    path.write_bytes(png.encode(pixels, mark=True))
    assert png.is_ours(path)
    for other in (
        png.encode(pixels), path.read_bytes() + b"x", path.read_bytes()[:-1], b"", b"\x89PNG\r\n\x1a\n",
        png.encode(pixels, mark=True).replace(b"facetalk", b"facetolk"),
    ):  # fmt: skip
        path.write_bytes(other)
        assert not png.is_ours(path)
    Image.fromarray(pixels).save(path)
    assert not png.is_ours(path) and not png.is_ours(tmp_path / "none.png") and not png.is_ours(tmp_path)
