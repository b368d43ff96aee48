"""Drawing whatever the numbers are: no index leaves its array, and no scene costs without end."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch

from facetalk import ops
from facetalk.ops.raster import draw

TRIANGLE = np.array([[-1, -1, -1], [1, -1, -1], [0, 1, -1]], np.float32)
LARGEST = float(np.finfo(np.float32).max)


def scene(points: np.ndarray = TRIANGLE, size: int = 32, **change: object) -> dict[str, object]:
    faces = np.arange(len(points) // 3 * 3, dtype=np.int32).reshape(-1, 3)
    return {
        "positions": points,
        "normals": np.tile(np.float32([0, 0, 1]), (len(points), 1)),
        "colors": np.full((len(points), 3), 0.5, np.float32),
        "faces": faces,
        "materials": np.zeros(len(faces), np.uint8),
        "background": np.full((size, size, 3), 7, np.uint8),
        "palette": np.array([[0.5, 0.04, 0.5, 0.2]]),
        "lights": np.array([[0.3, 0.3, 1, 1, 1, 1]]),
        "ambient": np.ones((2, 3)),
        "camera": np.eye(3, 4),
        "focal": 20.0,
        **change,
    }


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("scale", [1e-9, 1e-3, 1e3, 1e7, 1e12, 1e19, 1e30, LARGEST])
def test_any_size_of_scene(scale: float, alone: bool) -> None:
    points = TRIANGLE * np.float32(scale)
    for mixed in (points, np.concatenate([TRIANGLE, points]), np.concatenate([points[:2], TRIANGLE[:1]])):
        assert draw(**scene(mixed, alone=alone)).shape == (32, 32, 3)  # type: ignore[arg-type]


def test_what_is_too_far_away_leaves_the_rest_as_it_was() -> None:
    far = TRIANGLE * np.float32(LARGEST)
    one = draw(**scene(TRIANGLE))  # type: ignore[arg-type]
    assert (one != 7).any()
    np.testing.assert_array_equal(one, draw(**scene(np.concatenate([TRIANGLE, far]))))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("top", "focal", "drawn"),
    [(1e8, 0.1, True), (2e9, 0.1, False), (1e8, 20.0, False)],
    ids=["near enough", "in metres", "in samples"],
)
def test_faces_with_a_corner_too_far_away_are_left_out(top: float, focal: float, drawn: bool) -> None:
    """Beyond 1e9 metres or samples; nearer, the face covers much of the picture."""
    points = np.array([[-100, -100, -1], [100, -100, -1], [0, top, -1]], np.float32)
    picture = draw(**scene(points, focal=focal))  # type: ignore[arg-type]
    assert (picture != 7).any() == drawn


EXTREMES = [0.0, 1e-45, 1e-20, 1e19, 1e30, LARGEST, -1.0, -LARGEST]


@pytest.mark.parametrize("value", EXTREMES)
@pytest.mark.parametrize("name", ["normals", "colors", "palette", "lights", "ambient", "camera", "positions"])
def test_any_finite_numbers(name: str, value: float) -> None:
    settings = scene()
    array = np.array(settings[name], np.float32)
    for where in (0, array.size // 2, slice(None)):
        changed = array.copy()
        changed.reshape(-1)[where] = value
        for samples in (1, 4):
            picture = draw(**{**settings, name: changed, "samples": samples})  # type: ignore[arg-type]
            assert picture.dtype == np.uint8


@pytest.mark.parametrize("value", [v for v in EXTREMES if v > 0.0])
def test_any_lens_and_reach(value: float) -> None:
    for change in (
        {"focal": value},
        {"occlusion_radius": value},
        {"focal": value, "occlusion_radius": value},
    ):
        draw(**scene(**change))  # type: ignore[arg-type]
    draw(**scene(exposure=value))  # type: ignore[arg-type]


def test_a_tiny_scene_costs_no_more_than_another() -> None:
    """The shadow map's blur is in metres: without a cap a scene of a nanometre took a thousandfold."""

    def cost(scale: float) -> float:
        points = TRIANGLE * np.float32(scale) - np.float32([0, 0, 1])
        begin = time.process_time()
        draw(**scene(points, size=16, alone=True))  # type: ignore[arg-type]
        return time.process_time() - begin

    cost(0.1)
    ordinary = min(cost(0.1) for _ in range(3))
    assert min(cost(1e-9) for _ in range(3)) < 20 * ordinary
    assert min(cost(0.0) for _ in range(3)) < 20 * ordinary


def test_triangles_that_cover_every_tile_are_drawn_in_pieces() -> None:
    """More entries in the tiles' lists than are sorted at a time (2^24): the picture of all at once."""
    count = 2**17 + 5  # times the 128 tiles of a strip
    wide = TRIANGLE * [1e4, 50, 1]
    points = np.concatenate([wide, wide - np.array([0, 0, 1])]).astype(np.float32)
    faces = np.tile(np.int32([[3, 4, 5]]), (count, 1))
    faces[count // 2] = [0, 1, 2]
    colors = np.repeat(np.float32([[1, 0, 0], [0, 0, 1]]), 3, axis=0)
    strip = np.full((1, 8192, 3), 7, np.uint8)
    settings = scene(points, background=strip, colors=colors, lights=np.zeros((0, 6)), samples=1)
    few = faces[[0, count // 2]]
    expected = draw(**{**settings, "faces": few, "materials": np.zeros(2, np.uint8)})  # type: ignore[arg-type]
    found = draw(**{**settings, "faces": faces, "materials": np.zeros(count, np.uint8)})  # type: ignore[arg-type]
    np.testing.assert_array_equal(found, expected)
    assert (found[..., 0] > found[..., 2]).all()  # the near one, whatever its number


def overlapping(count: int = 200_000) -> dict[str, object]:
    """Minutes of work: triangles that all cover the whole picture."""
    settings = scene(TRIANGLE * np.float32([50, 50, 1]), 256, samples=4)
    return {
        **settings,
        "faces": np.tile(np.int32([[0, 1, 2]]), (count, 1)),
        "materials": np.zeros(count, np.uint8),
    }


@pytest.mark.parametrize("alone", [True, False])
def test_a_drawing_can_be_stopped(alone: bool) -> None:
    asked = []

    def stop() -> bool:
        asked.append(threading.get_ident())
        return len(asked) == 3

    with pytest.raises(InterruptedError):
        draw(**overlapping(), alone=alone, stop=stop)  # type: ignore[arg-type]
    assert len(asked) == 3 and set(asked) == {threading.get_ident()}


def test_an_error_in_the_question_comes_out() -> None:
    def stop() -> bool:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        draw(**overlapping(), stop=stop)  # type: ignore[arg-type]


def test_control_c_ends_a_drawing() -> None:
    import _thread

    threading.Timer(0.3, _thread.interrupt_main).start()
    with pytest.raises(KeyboardInterrupt):
        draw(**overlapping())  # type: ignore[arg-type]


# --- Arguments


def test_lists_and_tensors_are_arrays_too() -> None:
    settings = scene()
    expected = draw(**settings)  # type: ignore[arg-type]
    tensors = {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in settings.items()}
    tensors["positions"] = tensors["positions"].requires_grad_()  # type: ignore[attr-defined]
    np.testing.assert_array_equal(draw(**tensors), expected)  # type: ignore[arg-type]
    lists = {**settings, "positions": TRIANGLE.tolist(), "ambient": [[1, 1, 1], [1, 1, 1]]}
    np.testing.assert_array_equal(draw(**lists), expected)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"positions": torch.from_numpy(TRIANGLE).to_sparse()}, TypeError),
        ({"positions": torch.from_numpy(TRIANGLE).to("meta")}, TypeError),
        ({"positions": torch.from_numpy(TRIANGLE).to(torch.complex64)}, TypeError),
        ({"positions": TRIANGLE.astype(object)}, TypeError),
        ({"positions": None}, TypeError),
        ({"positions": "points"}, TypeError),
        ({"positions": [[1, 2], [3]]}, TypeError),
        ({"positions": TRIANGLE.astype(np.float64) * 1e300}, ValueError),
        ({"positions": TRIANGLE * np.nan}, ValueError),
        ({"faces": np.array([[0, 1, 2]])}, TypeError),
        ({"faces": np.int32([[0, 1, 3]])}, ValueError),
        ({"faces": np.int32([[0, 1, -1]])}, ValueError),
        ({"background": np.zeros((0, 5, 3), np.uint8)}, ValueError),
        ({"background": np.zeros((5, 5), np.uint8)}, ValueError),
        ({"focal": "x"}, ValueError),
        ({"focal": None}, TypeError),
        ({"focal": np.inf}, ValueError),
        ({"focal": 10**400}, ValueError),
        ({"exposure": np.nan}, ValueError),
        ({"occlusion_radius": -1.0}, ValueError),
        ({"samples": 2.5}, TypeError),
        ({"samples": 2**40}, ValueError),
        ({"stop": 5}, TypeError),
    ],
    ids=range(23),
)
def test_wrong_arguments(change: dict[str, object], error: type[Exception]) -> None:
    settings = {**scene(), **change}
    if "stop" in change:
        settings = {**overlapping(), **change}
    with pytest.raises(error) as caught:
        draw(**settings)  # type: ignore[arg-type]
    if "stop" not in change:
        assert next(iter(change)) in str(caught.value) and "\n" not in str(caught.value)


def test_threads_agree_on_odd_scenes() -> None:
    rng = np.random.default_rng(0)
    points = (rng.standard_normal((60, 3)) * 10.0 ** rng.integers(-3, 8, (60, 1))).astype(np.float32)
    before = ops.threads()
    try:
        pictures = []
        for count in (1, 3):
            ops.set_threads(count)
            pictures.append(draw(**scene(points)))  # type: ignore[arg-type]
    finally:
        ops.set_threads(before)
    np.testing.assert_array_equal(*pictures)
