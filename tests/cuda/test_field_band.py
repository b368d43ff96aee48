"""The search for the bricks that hold the surface, run on the host."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from field_host import emulated_core, random_head
from torch import Tensor

from facetalk.ops.cuda.field import CudaField
from facetalk.ops.cuda.surface_band import FieldBricks, by_frame
from facetalk.ops.field.source import FieldSource
from facetalk.ops.reference import band


def cuda_field(source: FieldSource, **options: object) -> CudaField:
    return CudaField(source, precision="float32", device="cpu", _core=emulated_core().cuda_field, **options)


def stored(bricks: FieldBricks) -> Tensor:
    """Whether each sample of the dense volume was evaluated: no value of these fields is exactly one."""
    return bricks.dense().abs() != 1.0


def crossed(volume: Tensor) -> Tensor:
    """Whether each sample is a corner of a cell whose corners differ in sign."""
    inside = volume < 0
    n = [s - 1 for s in volume.shape[1:]]
    parts = [
        inside[:, i : i + n[0], j : j + n[1], k : k + n[2]] for i, j, k in itertools.product((0, 1), repeat=3)
    ]
    mixed = torch.stack(parts).any(0) & ~torch.stack(parts).all(0)
    corner = torch.zeros_like(inside)
    for i, j, k in itertools.product((0, 1), repeat=3):
        corner[:, i : i + n[0], j : j + n[1], k : k + n[2]] |= mixed
    return corner


@pytest.mark.parametrize("shape", [(8, 8, 8), (9, 17, 20), (25, 10, 17), (2, 3, 40), (1, 5, 9)])
@pytest.mark.parametrize("lipschitz", [0.0, 1.5])
def test_bricks_hold_the_surface_and_the_values_of_the_grid(
    shape: tuple[int, int, int], lipschitz: float
) -> None:
    """With any margin: what is stored equals the grid, and cells with a change of sign are complete."""
    source, biases, _ = random_head(12, frames=2)
    field = cuda_field(source)
    axes = [np.linspace(-0.7, 0.7, n).astype(np.float32) for n in shape]
    bricks = field.bricks(axes, biases, lipschitz=lipschitz)
    dense, grid = bricks.dense(), field.grid(axes, biases)
    here = stored(bricks)
    assert dense.shape == grid.shape
    assert torch.equal(dense[here], grid[here])
    assert torch.equal(dense[~here].abs(), torch.ones_like(dense[~here]))
    if min(shape) > 1:
        assert here[crossed(dense)].all()
    assert bricks.samples.shape[1:] == (8, 8, 8) and len(bricks.samples) == (bricks.table >= 0).sum()
    nodes = 2 * np.prod([(n + 7) // 8 + 1 for n in shape])
    # The nodes between, groups that are filled up, and samples.
    assert nodes <= bricks.evaluated <= nodes + 3 * grid.numel() + 128 * 16
    again = cuda_field(source, _most_points=600).bricks(axes, biases, lipschitz=lipschitz)
    assert torch.equal(again.table, bricks.table) and torch.equal(again.dense(), dense)


def band_table(
    nodes: Tensor, axes: list[Tensor], side: int, parents: Tensor | None, lipschitz: float
) -> Tensor:
    """The kernel's table of blocks."""
    core = emulated_core().cuda_field
    frames, shape = len(nodes), [len(axis) for axis in axes]
    blocks = core.Bricks(axes=[axis.data_ptr() for axis in axes], shape=shape, frames=frames, side=side)
    table = torch.full((frames, *(-(-n // side) for n in shape)), 99, dtype=torch.int32)
    core.classify(
        blocks, 0, nodes=nodes.data_ptr(), parents=0 if parents is None else parents.data_ptr(),
        lipschitz=lipschitz, table=table.data_ptr(),
    )  # fmt: skip
    return table


@pytest.mark.parametrize("shape", [(17, 24, 25), (1, 2, 40), (9, 8, 7)])
@pytest.mark.parametrize("lipschitz", [0.0, 1.5])
def test_blocks_are_classified_as_by_the_slow_twin(shape: tuple[int, int, int], lipschitz: float) -> None:
    rng = np.random.default_rng(sum(shape))
    # Steps that differ, some above and some below the size of blocks whose slope is measured.
    axes = [torch.from_numpy(np.cumsum(rng.uniform(0.002, 0.02, n)).astype(np.float32)) for n in shape]
    at = [axis[(torch.arange((len(axis) + 1) // 2 + 1) * 2).clamp(max=len(axis) - 1)] for axis in axes]
    centres = torch.from_numpy(rng.uniform(0, 0.3, (2, 3)).astype(np.float32))
    lattice = torch.stack(torch.meshgrid(*at, indexing="ij"), dim=-1)
    nodes = (lattice - centres[:, None, None, None]).norm(dim=-1) * 1.1 - 0.1
    nodes += torch.from_numpy(rng.normal(0, 0.004, nodes.shape).astype(np.float32))
    parents = None
    counts = {}
    for side in (8, 4, 2):
        expected = band.classify(nodes, axes, side, parents, lipschitz)
        found = band_table(nodes, axes, side, parents, lipschitz)
        # Sums are rounded in another order.
        assert (found != expected).float().mean() <= 0.002
        counts[side] = expected.unique().tolist()
        parents = expected.contiguous()
    if shape == (17, 24, 25) and lipschitz:
        assert counts[2] == [band.WANTED, band.INSIDE, band.OUTSIDE]


@pytest.mark.parametrize("shape", [(16, 9, 12), (5, 6, 7)])
@pytest.mark.parametrize("side", [2, 4])
def test_contradictions_are_those_of_the_slow_twin(shape: tuple[int, int, int], side: int) -> None:
    rng = np.random.default_rng(side)
    table = torch.from_numpy(rng.choice([-2, -1, 0], (2, *(-(-n // side) for n in shape)), p=[0.3, 0.4, 0.3]))
    table = table.to(torch.int32)
    table[table == 0] = torch.arange(int((table == 0).sum()), dtype=torch.int32)
    samples = torch.from_numpy(
        rng.normal(0.9, 1.0, (int(table.max()) + 1, side, side, side)).astype(np.float32)
    )
    axes = [torch.linspace(0, 1, n) for n in shape]
    core = emulated_core().cuda_field
    blocks = core.Bricks(axes=[a.data_ptr() for a in axes], shape=list(shape), frames=2, side=side)
    wanted = torch.full(table.shape, 9, dtype=torch.uint8)
    core.contradictions(
        blocks, 0, table=table.data_ptr(), samples=samples.data_ptr(), wanted=wanted.data_ptr()
    )
    expected = band.contradictions(table, samples, shape)
    assert torch.equal(wanted, expected.to(torch.uint8)) and expected.any() and not expected.all()


def test_lists_of_frames_fill_whole_groups_and_wait_for_no_count() -> None:
    rng = np.random.default_rng(5)
    for counts in ([0, 0, 0], [5], [3, 0, 9], [0, 1, 0], [4, 4, 0, 8]):
        frame = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
        found = torch.from_numpy(rng.permutation(1000)[: len(frame)])
        slots, row, slot = by_frame(found, frame, len(counts), 4)
        assert len(slots) == 4 * len(row) and torch.equal(slots[slot.long()], found)
        assert (slots >= 0).sum() == len(found) and torch.equal(row[slot.long() // 4].long(), frame)
        assert len(row) <= sum(-(-n // 4) for n in counts) + len(counts) - 1
        assert ((row >= 0) & (row < len(counts))).all()


def rod(radius: float) -> FieldSource:
    """A thin slanted rod: |x - z / 4| + |y| less a radius, from hidden units of opposite slope."""
    slant = 0.25
    hidden = torch.tensor([[[1.0, 0, -slant], [-1.0, 0, slant], [0, 1.0, 0], [0, -1.0, 0]]]).repeat(2, 1, 1)
    return FieldSource(
        identity=[(None, hidden), (torch.ones(2, 1, 4), None)],
        identity_bias=[torch.zeros(2, 4), torch.full((2, 1), -radius)],
        anchors=torch.tensor([[50.0, 0.0, 0.0]]),  # far away: the member without anchor decides alone
        member_set=torch.tensor([0, 1]),
        mirror=torch.ones(2),
    )


def test_the_surface_is_followed_where_the_margin_is_wrong() -> None:
    """Only one node lies inside the rod, and there is no margin: only following it finds the rest."""
    axes = [np.linspace(-0.5, 0.5, 49).astype(np.float32)] * 3
    field = cuda_field(rod(0.045), cull=0.0)
    grid = field.grid(axes)
    assert (grid[0, ::8, ::8, ::8] < 0).sum() == 1
    bricks = field.bricks(axes, lipschitz=0.0)
    assert torch.equal(bricks.dense() < 0, grid < 0)
    assert bricks.evaluated < 0.3 * grid.numel()


def test_a_surface_between_nodes_of_opposite_sign_is_found() -> None:
    """A plane between two layers of nodes: their signs alone say that it is there."""
    source = rod(0.0)
    plane = torch.tensor([[[1.0, 0.0, 0.0]] * 4]).repeat(2, 1, 1)
    source = FieldSource(
        identity=[(None, plane), (torch.ones(2, 1, 4), None)],
        identity_bias=[torch.full((2, 4), 0.1), torch.full((2, 1), -0.4)],
        anchors=source.anchors,
        member_set=source.member_set,
        mirror=source.mirror,
    )
    axes = [np.linspace(-0.5, 0.5, 32).astype(np.float32)] * 3
    field = cuda_field(source, cull=0.0)
    bricks = field.bricks(axes, lipschitz=0.0)
    assert torch.equal(bricks.dense() < 0, field.grid(axes) < 0)
    assert 0 < (bricks.table >= 0).sum() < bricks.table.numel()


def test_nothing_inside_the_box_stores_nothing() -> None:
    axes = [np.linspace(0.3, 0.5, 9).astype(np.float32)] * 3
    bricks = cuda_field(rod(0.01), cull=0.0).bricks(axes, lipschitz=1.0)
    assert bricks.samples.shape == (0, 8, 8, 8)
    assert (bricks.dense() > 0).all()
