"""Random folded heads of random sizes, for tests of everything that evaluates them."""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import strategies as st

from facetalk.ops.field.source import FieldSource


def random_layers(
    rng: np.random.Generator, sets: int, coords: int, hidden: list[int], outputs: int, skip: int | None
) -> tuple[list, list[int]]:
    """Weights of a folded network; a layer `skip` also reads the coordinates."""
    layers, sizes = [], [*hidden, outputs]
    for i, size in enumerate(sizes):
        before = sizes[i - 1] if i else 0
        gain = 1.4 / math.sqrt(before + coords)
        take = lambda n: torch.from_numpy(rng.normal(0, gain, (sets, size, n)).astype(np.float32))  # noqa: E731, B023
        layers.append((take(before) if i else None, take(coords) * 3 if i in (0, skip) else None))
    return layers, sizes


@st.composite
def heads(
    draw: st.DrawFn, family: str | None = None
) -> tuple[FieldSource, list[torch.Tensor], np.random.Generator]:
    """A random head, the biases of a few frames, and a generator for points."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    family = family or draw(st.sampled_from(["nphm", "mononphm"]))
    coords = 3 if family == "nphm" else draw(st.integers(3, 6))
    anchors = draw(st.integers(1, 14))
    pairs = draw(st.integers(0, anchors // 2))
    members = anchors + 1
    widths = st.lists(st.integers(1, 37), min_size=1, max_size=4)
    hidden = draw(widths)
    identity, sizes = random_layers(
        rng, members - pairs, coords, hidden, 1, draw(st.integers(1, len(hidden)))
    )
    member = np.arange(members)
    bias = lambda rows, n: torch.from_numpy(rng.normal(0, 0.1, (rows, n)).astype(np.float32))  # noqa: E731
    moving = draw(widths)
    deformation, moves = random_layers(rng, 1, 3, moving, coords, draw(st.integers(1, len(moving))))
    deformation[-1] = (deformation[-1][0] * 0.1, deformation[-1][1])
    if deformation[-1][1] is not None:
        deformation[-1] = (deformation[-1][0], deformation[-1][1] * 0.03)
    source = FieldSource(
        identity=identity,
        identity_bias=[bias(members, n) for n in sizes],
        anchors=torch.from_numpy(rng.uniform(-0.5, 0.5, (anchors, 3)).astype(np.float32)),
        member_set=torch.from_numpy(np.where(member < 2 * pairs, member // 2, member - pairs)),
        mirror=torch.from_numpy(
            np.where((member < 2 * pairs) & (member % 2 == 1), -1.0, 1.0).astype(np.float32)
        ),
        deformation=deformation,
        blending=family,
        neighbours=draw(st.integers(1, anchors)),
        blend_std=draw(st.floats(1.0, 4.0)),
    )
    frames = draw(st.integers(1, 3))
    return source, [bias(frames, n) for n in moves], rng


def some_points(rng: np.random.Generator, n: int, columns: int = 3) -> torch.Tensor:
    return torch.from_numpy(rng.uniform(-0.8, 0.8, (n, columns)).astype(np.float32))


def random_head(seed: int) -> tuple[FieldSource, list[torch.Tensor], np.random.Generator]:
    """A fixed head of uneven sizes."""
    rng = np.random.default_rng(seed)
    identity, sizes = random_layers(rng, 7, 3, [13, 21, 30], 1, 1)
    deformation, moves = random_layers(rng, 1, 3, [17, 9, 40], 3, 2)
    bias = lambda rows, n: torch.from_numpy(rng.normal(0, 0.1, (rows, n)).astype(np.float32))  # noqa: E731
    source = FieldSource(
        identity=identity,
        identity_bias=[bias(9, n) for n in sizes],
        anchors=torch.from_numpy(rng.uniform(-0.5, 0.5, (8, 3)).astype(np.float32)),
        member_set=torch.tensor([0, 0, 1, 1, 2, 3, 4, 5, 6]),
        mirror=torch.tensor([1.0, -1, 1, -1, 1, 1, 1, 1, 1]),
        deformation=[(h, c) for h, c in deformation[:-1]] + [(deformation[-1][0] * 0.1, None)],
    )
    return source, [bias(2, n) for n in moves], rng
