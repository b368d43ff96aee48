"""Small rigs that tests of several files share."""

from __future__ import annotations

import dataclasses

import numpy as np

from facetalk.mesh import Mesh, RiggedSequence
from facetalk.mesh.eyes import EYE_NAMES, Eye
from facetalk.mesh.textures import Maps, Texture


def sphere(rows: int = 14, columns: int = 20, radius: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """A closed sphere: (V, 3) metres and (F, 3), counter-clockwise from outside."""
    polar = np.linspace(0, np.pi, rows + 2)[1:-1]
    around = np.arange(columns) * 2 * np.pi / columns
    ring = np.stack(
        [
            np.outer(np.sin(polar), np.sin(around)),
            np.outer(np.cos(polar), np.ones(columns)),
            np.outer(np.sin(polar), np.cos(around)),
        ],
        axis=-1,
    ).reshape(-1, 3)
    vertices = np.concatenate([ring, [[0, 1, 0], [0, -1, 0]]]) * radius
    top, bottom = len(ring), len(ring) + 1
    faces = []
    for c in range(columns):
        d = (c + 1) % columns
        faces += [[top, c, d], [bottom, (rows - 1) * columns + d, (rows - 1) * columns + c]]
        for r in range(rows - 1):
            a, b = r * columns, (r + 1) * columns
            faces += [[a + c, b + c, b + d], [a + c, b + d, a + d]]
    return vertices.astype(np.float32), np.array(faces, np.int32)


def some_poses(frames: int, *, seed: int = 0) -> np.ndarray:
    """(frames, 6) poses that follow each other smoothly: up to 30 degrees and 2 cm."""
    rng = np.random.default_rng(seed)
    times = np.arange(frames)[:, None] / 25.0
    waves = np.sin(2.0 * np.pi * rng.uniform(0.3, 1.0, 6) * times + rng.uniform(0.0, 6.0, 6))
    return (waves * np.array([0.5, 0.5, 0.5, 20.0, 20.0, 20.0])).astype(np.float32)


def talking_ball(frames: int = 30, shapes: int = 6, *, seed: int = 0) -> RiggedSequence:
    """A ball with local shapes that move up to 2 cm, four materials and colours."""
    rng = np.random.default_rng(seed)
    vertices, faces = sphere()
    centres = vertices[rng.choice(len(vertices), shapes, replace=False)]
    near = np.exp(-(np.linalg.norm(vertices - centres[:, None], axis=2) ** 2) / (2 * 0.04**2))
    near[near < 0.05] = 0.0
    basis = near[..., None] * rng.uniform(-0.02, 0.02, (shapes, 1, 3))
    time = np.arange(frames)[:, None] / 25.0
    weights = 0.5 + 0.5 * np.sin(2 * np.pi * (rng.uniform(1, 4, shapes) * time + rng.random(shapes)))
    part = np.where(vertices[:, 1] > 0.06, 1, np.where(vertices[:, 1] < -0.06, 2, 0)).astype(np.uint8)
    colors = np.clip(128 + vertices * 1000, 0, 255).astype(np.uint8)
    base = Mesh(vertices, faces, colors=colors, part=part)
    names = [f"shape{j}" for j in range(shapes)]
    return RiggedSequence(base, basis.astype(np.float32), weights.astype(np.float32), names=names)


def watching_ball(frames: int = 30, *, seed: int = 0) -> RiggedSequence:
    """The talking ball with two eyes on it, which its shapes turn by up to a radian."""
    ball, rng = talking_ball(frames, seed=seed), np.random.default_rng(seed)
    small, around = sphere(7, 10, 0.012)
    vertices, faces, eyes = [ball.base.vertices], [ball.base.faces], []
    for name, x in zip(EYE_NAMES, (0.04, -0.04), strict=True):
        centre, first = np.array([x, 0.02, 0.09]), sum(map(len, vertices))
        rates = rng.uniform(-0.4, 0.4, (len(ball.basis), 3))
        eyes.append(Eye(name, centre, np.arange(first, first + len(small)), rates))
        vertices.append((small + centre).astype(np.float32))
        faces.append(around + np.int32(first))
    added = 2 * len(small)
    assert ball.base.part is not None and ball.base.colors is not None
    base = Mesh(
        np.concatenate(vertices),
        np.concatenate(faces),
        colors=np.concatenate([ball.base.colors, np.full((added, 3), 240, np.uint8)]),
        part=np.concatenate([ball.base.part, np.ones(added, np.uint8)]),
    )
    basis = np.pad(ball.basis, ((0, 0), (0, added), (0, 0)))
    return RiggedSequence(base, basis, ball.weights, names=ball.names, eyes=eyes)


def ball_maps(size: int) -> dict[str, Maps]:
    """Pictures of three materials, each of one plain colour and of another size."""

    def plain(side: int, *color: int) -> np.ndarray:
        return np.full((side, side, 3), color, np.uint8)

    return {
        "skin": Maps(
            plain(size, 200, 120, 90),
            plain(size, 128, 128, 255),
            np.full((size // 4, size // 4), 128, np.uint8),
        ),
        "eyes": Maps(plain(size // 2, 40, 90, 200)),
        "teeth": Maps(plain(size // 2, 240, 240, 230), None, np.full((16, 16), 200, np.uint8)),
    }


def painted_ball(frames: int = 30) -> RiggedSequence:
    """The watching ball with pictures on it, whose coordinates have a seam at the back."""
    rig = watching_ball(frames)
    base = rig.base
    turn = np.arctan2(base.vertices[:, 0], base.vertices[:, 2]) / (2.0 * np.pi) + 0.5
    uv = np.stack([0.1 + 0.6 * turn, 0.5 + 4.0 * base.vertices[:, 1]], axis=1)
    across = np.ptp(turn[base.faces], axis=1) > 0.5
    wraps = across[:, None] & (turn[base.faces] < 0.5)
    twins = np.unique(base.faces[wraps])
    number = np.full(len(base), -1)
    number[twins] = len(base) + np.arange(len(twins))
    texture = Texture(
        np.concatenate([uv, uv[twins] + [0.6, 0.0]]).astype(np.float32),
        np.concatenate([np.arange(len(base)), twins]).astype(np.int32),
        np.where(wraps, number[base.faces], base.faces).astype(np.int32),
        ball_maps,
    )
    base = dataclasses.replace(base, texture=texture)
    return RiggedSequence(base, rig.basis, rig.weights, names=rig.names, eyes=rig.eyes)
