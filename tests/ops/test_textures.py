"""Textures of the compiled drawing against a slow sampler in NumPy, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from facetalk.ops.raster import Textures, draw, pack_textures

SIZE = 64


def halves(picture: np.ndarray) -> list[np.ndarray]:
    """A picture (h, w, 6) in linear light and all its halves, by loops that are easily seen to be right."""
    value = picture.astype(np.float64)
    s = value[..., :3] / 255.0
    value[..., :3] = np.where(s <= 0.04045, s / 12.92, ((s + 0.055) / 1.055) ** 2.4)
    out = [value]
    while max(value.shape[:2]) > 1:
        h, w = (max(1, side // 2) for side in value.shape[:2])
        tall, wide = value.shape[0] > 1, value.shape[1] > 1
        half = np.zeros((h, w, 6))
        for y in range(h):
            for x in range(w):
                rows = [2 * y, 2 * y + 1] if tall else [y]
                columns = [2 * x, 2 * x + 1] if wide else [x]
                half[y, x] = np.mean([value[r, c] for r in rows for c in columns], axis=0)
        out.append(half)
        value = half
    return out


def sample(picture: np.ndarray, u: float, v: float) -> np.ndarray:
    """Between the four nearest texels of a picture (h, w, 6) at a place in [0, 1]."""
    h, w = picture.shape[:2]
    x, y = np.clip(u * w - 0.5, 0, w - 1), np.clip(v * h - 0.5, 0, h - 1)
    i, j = min(int(x), max(0, w - 2)), min(int(y), max(0, h - 2))
    s, t, right, below = x - i, y - j, min(i + 1, w - 1), min(j + 1, h - 1)
    top = picture[j, i] * (1 - s) + picture[j, right] * s
    return top * (1 - t) + (picture[below, i] * (1 - s) + picture[below, right] * s) * t


def wall(uv: np.ndarray, textures: Textures | None, size: int = SIZE, **change: object) -> np.ndarray:
    """A square that fills the picture, lit from all around alike: what is seen is its albedo."""
    square = np.array([[-1, 1, -1], [1, 1, -1], [1, -1, -1], [-1, -1, -1]], np.float32)
    settings: dict[str, object] = {
        "background": np.zeros((size, size, 3), np.uint8),
        "palette": np.array([[1.0, 0.0, 0.0, 0.0]]),
        "lights": np.zeros((0, 6)),
        "ambient": np.ones((2, 3)),
        "camera": np.eye(3, 4),
        "focal": size / 2,
        "occlusion_radius": 0.0,
        "exposure": 0.5,
        "samples": 1,
        "uv": uv,
        "textures": textures,
        **change,
    }
    normals = np.tile(np.float32([0, 0, 1]), (4, 1))
    faces = np.array([[0, 2, 1], [0, 3, 2]], np.int32)
    return draw(square, normals, np.ones((4, 3)), faces, np.zeros(2, np.uint8), **settings)  # type: ignore[arg-type]


def uv_of(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)


def encoded(linear: np.ndarray) -> np.ndarray:
    v = np.clip(0.5 * linear, 0, 1)
    return 255.0 * np.where(v <= 0.0031308, 12.92 * v, 1.055 * v ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("shape", [(16, 16), (5, 9), (1, 7), (1, 1), (300, 40), (256, 256)])
def test_albedo_is_that_of_the_slow_sampler(shape: tuple[int, int]) -> None:
    """Where a texel is larger than a pixel the whole picture is asked, else the half whose texels fit."""
    rng = np.random.default_rng(0)
    # Not the darkest, whose bytes are far apart in light.
    picture = rng.integers(90, 256, (*shape, 6)).astype(np.uint8)
    picture[..., 4:] = 128
    pack = pack_textures([picture])
    for box in ((0.0, 0.0, 1.0, 1.0), (0.2, 0.1, 0.4, 0.35), (-0.5, -0.5, 1.5, 1.5)):
        found = wall(uv_of(*box), pack)
        texels = abs((box[2] - box[0]) * (box[3] - box[1])) * shape[0] * shape[1] / SIZE**2
        levels = halves(picture)
        level = 0
        while 2.0 * texels >= 4.0 and level + 1 < len(levels):
            texels, level = texels / 4.0, level + 1
        # As the compiled one mixes roots of light.
        chosen = levels[level].copy()
        chosen[..., :3] = np.sqrt(chosen[..., :3])
        expected = np.zeros((SIZE, SIZE, 3))
        for y in range(0, SIZE, 7):
            for x in range(0, SIZE, 7):
                u = box[0] + (box[2] - box[0]) * (x + 0.5) / SIZE
                v = box[1] + (box[3] - box[1]) * (y + 0.5) / SIZE
                expected[y, x] = encoded(sample(chosen, u, v)[:3] ** 2)
        off = np.abs(found.astype(float) - expected)[::7, ::7]
        # Seven bits of the share between texels, and bytes.
        assert off.max() < 3.0, (shape, box)


def test_halves_are_means_of_light() -> None:
    picture = np.random.default_rng(1).integers(0, 256, (12, 7, 6)).astype(np.uint8)
    pack = pack_textures([None, picture, None])
    assert pack.table.tolist() == [[0, 0, 0], [0, 7, 12], [0, 0, 0]]
    at = 0
    for level in halves(picture):
        flat = level.reshape(-1, 6)
        found = pack.texels[at : at + len(flat)].astype(float)
        assert np.abs(found[:, :3] - 255.0 * np.sqrt(flat[:, :3])).max() < 0.51
        assert np.abs(found[:, 3:6] - flat[:, 3:]).max() < 0.51
        at += len(flat)
    assert at == len(pack.texels)


def lit(slope: tuple[int, int], light: tuple[float, float, float], uv: np.ndarray, **change: object) -> float:
    picture = np.full((2, 2, 6), 255, np.uint8)
    picture[..., 4:] = slope
    lights = np.array([[*light, 0.4, 0.4, 0.4]])
    shown = wall(uv, pack_textures([picture]), lights=lights, ambient=np.zeros((2, 3)), **change)
    return float(shown[SIZE // 2, SIZE // 2].mean())


@pytest.mark.parametrize("mirrored", [False, True])
def test_normals_lean_as_gltf_has_them(mirrored: bool) -> None:
    """+x along u, +y upwards in the picture, also where the picture lies mirrored on the surface."""
    uv = uv_of(1, 0, 0, 1) if mirrored else uv_of(0, 0, 1, 1)
    side = -1.0 if mirrored else 1.0
    assert lit((190, 128), (side, 0, 1), uv) > lit((128, 128), (side, 0, 1), uv) + 5
    assert lit((190, 128), (-side, 0, 1), uv) < lit((128, 128), (-side, 0, 1), uv) - 5
    assert lit((128, 190), (0, 1, 1), uv) > lit((128, 128), (0, 1, 1), uv) + 5
    assert lit((128, 190), (0, -1, 1), uv) < lit((128, 128), (0, -1, 1), uv) - 5
    turned = uv[[3, 0, 1, 2]]  # u runs upwards
    up = (0, -side, 1) if not mirrored else (0, side, 1)
    assert lit((190, 128), up, turned) != lit((128, 128), up, turned)


def test_roughness_is_a_factor() -> None:
    def shine(factor: int) -> float:
        picture = np.full((1, 1, 6), 255, np.uint8)
        picture[..., :3], picture[..., 3], picture[..., 4:] = 0, factor, 128
        palette = np.array([[0.8, 0.5, 0.0, 0.0]])
        lights = np.array([[0.0, 0.0, 1.0, 1.0, 1.0, 1.0]])
        shown = wall(uv_of(0, 0, 1, 1), pack_textures([picture]), palette=palette, lights=lights,
                     ambient=np.zeros((2, 3)))  # fmt: skip
        return float(shown[SIZE // 2, SIZE // 2].mean())

    assert shine(60) > shine(255) + 20


def test_materials_without_a_picture_keep_their_colour() -> None:
    one = wall(uv_of(0, 0, 1, 1), pack_textures([None]))
    np.testing.assert_array_equal(one, wall(uv_of(0, 0, 1, 1), None))
    white = pack_textures([np.full((4, 4, 6), (255, 255, 255, 255, 128, 128), np.uint8)])
    np.testing.assert_allclose(one, wall(uv_of(0, 0, 1, 1), white), atol=1)


@pytest.mark.parametrize("value", [0.0, 1e-30, 1e19, -1e30, 3e38])
def test_any_place_and_any_thread(value: float) -> None:
    pack = pack_textures([np.full((64, 3, 6), 128, np.uint8)])
    uv = uv_of(0, 0, 1, 1)
    for where in (0, 3, slice(None)):
        changed = uv.copy()
        changed.reshape(-1)[where] = value
        one, many = (wall(changed, pack, alone=alone) for alone in (True, False))
        np.testing.assert_array_equal(one, many)


@pytest.mark.parametrize(
    ("uv", "textures", "message"),
    [
        (np.zeros((3, 2)), pack_textures([np.zeros((2, 2, 6), np.uint8)]), "uv"),
        (np.zeros((4, 3)), pack_textures([np.zeros((2, 2, 6), np.uint8)]), "uv"),
        (np.full((4, 2), np.nan), pack_textures([np.zeros((2, 2, 6), np.uint8)]), "uv"),
        (np.zeros((4, 2)), pack_textures([None, None]), "uv"),
        (np.zeros((4, 2)), Textures(np.zeros((5, 8), np.uint8), np.int32([[1, 2, 2]])), "textures"),
        (np.zeros((4, 2)), Textures(np.zeros((5, 8), np.uint8), np.int32([[-1, 1, 1]])), "textures"),
        (np.zeros((4, 2)), Textures(np.zeros((5, 8), np.uint8), np.int32([[0, 2, 0]])), "textures"),
        (np.zeros((4, 2)), Textures(np.zeros((5, 8), np.uint8), np.int32([[0, 2**31 - 1, 1]])), "textures"),
        (np.zeros((4, 2)), Textures(np.zeros((5, 7), np.uint8), np.int32([[0, 1, 1]])), "texels"),
    ],
)
def test_what_does_not_fit_is_refused(uv: np.ndarray, textures: Textures, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wall(uv, textures)


def test_a_picture_has_six_columns() -> None:
    for shape in ((2, 2, 3), (2, 2), (0, 2, 6)):
        with pytest.raises(ValueError, match="picture"):
            pack_textures([np.zeros(shape, np.uint8)])
