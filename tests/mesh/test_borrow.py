"""Colours lent by a mesh in the same place: interpolated, within a part, from what faces the same way."""

import numpy as np

from facetalk.mesh.borrow import borrow


def sheet(height, normal, color, part):
    x = np.stack(np.meshgrid(np.arange(6.0), np.arange(6.0)), -1).reshape(-1, 2)
    count = len(x)
    return (
        np.c_[x, np.full(count, height)].astype(np.float32), np.tile(np.float32(normal), (count, 1)),
        np.tile(np.uint8(color), (count, 1)), np.full(count, part, np.uint8),
    )  # fmt: skip


def test_the_side_that_faces_away_lends_nothing():
    near = sheet(0.05, (0, 0, -1), (255, 0, 0), 2)  # nearer to the points, but it looks the other way
    right = sheet(0.0, (0, 0, 1), (0, 255, 0), 1)
    lender = [np.concatenate(pair) for pair in zip(near, right, strict=True)]
    points = np.array([[2.3, 2.4, 0.06], [4.1, 1.2, 0.06]], np.float32)
    up = np.tile(np.float32([0, 0, 1]), (2, 1))
    colors, part = borrow(points, up, *lender)
    assert (part == 1).all() and (colors == [0, 255, 0]).all()
    colors, part = borrow(points, -up, *lender)
    assert (part == 2).all() and (colors == [255, 0, 0]).all()


def test_between_vertices_colours_mix_but_not_between_parts():
    vertices, normals, colors, part = sheet(0.0, (0, 0, 1), (0, 0, 0), 0)
    colors[:] = np.where(vertices[:, :1] > 2.5, 200, 100)
    point, up = np.array([[2.5, 2.5, 0.0]], np.float32), np.float32([[0, 0, 1]])
    mixed, _ = borrow(point, up, vertices, normals, colors, part)
    assert 120 < mixed[0, 0] < 180
    part = (vertices[:, 0] > 2.5).astype(np.uint8)
    mixed, mine = borrow(point - np.float32([0.1, 0, 0]), up, vertices, normals, colors, part)
    assert mine[0] == 0 and (mixed[0] == 100).all()


def test_nobody_to_paint_and_nobody_facing():
    lender = sheet(0.0, (0, 0, -1), (10, 20, 30), 3)
    nothing = np.zeros((0, 3), np.float32)
    colors, part = borrow(nothing, nothing, *lender)
    assert colors.shape == (0, 3) and part.shape == (0,)
    colors, part = borrow(np.float32([[1, 1, 0]]), np.float32([[0, 0, 1]]), *lender)
    assert (colors == [10, 20, 30]).all() and part[0] == 3
