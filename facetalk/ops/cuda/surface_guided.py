"""Frames found from the canonical cache, on the GPU: the CUDA form of `facetalk.ops.field.surface.guided`.

See csrc/cuda/surface/field_guided.h. All frames of a call go together; points, samples and lists stay on the
device, and the host waits for counts only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facetalk.ops.cuda.canonical_cache import CudaCanonicalCache
from facetalk.ops.cuda.device_axes import DeviceAxes
from facetalk.ops.cuda.field_launch import FieldRunner
from facetalk.ops.cuda.offset_nodes import OffsetNodes, make_nodes
from facetalk.ops.cuda.surface_band import INSIDE, FieldBricks, by_frame, per_frame
from facetalk.ops.field.bounds import LocalBounds, SlopeBounds
from facetalk.ops.field.kernels import ExtractionCounts, constants
from facetalk.ops.field.source import OffsetWeight

# Listed points of a frame are filled up to whole segments of this many, the most that the kernels take
# together.
_SEGMENT = 128


class GuidedSearch:
    """The search of all frames of a call; see :meth:`facetalk.ops.cuda.field.CudaField.guided`.

    Args:
        runner: the bound field.
        axes: sample positions along x, y, z.
        frames: packed biases (T, bias_count).
        cache: of the canonical field.
        bounds: of the canonical field and the deformations of all frames.
        weight: spatial weight of the offset.
        spacing: samples between nodes of the coarsest lattice of offsets.
        most_points: points in flight at a time.
    """

    def __init__(
        self,
        runner: FieldRunner,
        axes: DeviceAxes,
        frames: Tensor | None,
        cache: CudaCanonicalCache,
        bounds: SlopeBounds,
        weight: OffsetWeight | None,
        spacing: int,
        most_points: int,
    ) -> None:
        knobs = constants()
        self.brick, self.samples_each, self.knobs = knobs.brick, knobs.brick**3, knobs
        if spacing < knobs.finest_spacing or spacing & (spacing - 1):
            raise ValueError(
                f"spacing: expected a power of two, at least {knobs.finest_spacing}, got {spacing}"
            )
        if runner.coords != 3:
            raise ValueError(
                f"field: expected a canonical field of space alone, got {runner.coords} coordinates"
            )
        if cache.device != runner.device:
            raise ValueError(f"cache: expected one on {runner.device}, got one on {cache.device}")
        if frames is None:
            raise ValueError("biases: expected frames to deform by, got None")
        if min(len(a) for a in axes.tensors) < 2:
            raise ValueError("axes: expected at least two samples along every axis")
        self.runner, self.frames, self.weight = runner, frames, weight
        self.core, self.stream, self.device = cache.core, runner.stream(), frames.device
        cache.stream()  # whose memory this stream's work reads, too
        self.groups = max(1, most_points // _SEGMENT)
        x, y, z = axes.tensors
        self.shape = (len(x), len(y), len(z))
        front, back = axes.ends
        steps = (back - front) / (np.array(self.shape) - 1)
        edge = (back - front).astype(np.float32) / (np.array(self.shape) - 1).astype(np.float32)
        self._held: list[Any] = [axes, cache]  # what the kernels' descriptions point to
        self.bricks = self.runner.core.Bricks(
            axes=[a.data_ptr() for a in axes.tensors],
            shape=list(self.shape),
            frames=len(frames),
            side=self.brick,
        )
        self.guide = self.core.Guide(
            bricks=self.bricks, front=front.tolist(), edge=edge.tolist(),
            diagonal=float(np.sqrt(np.sum(edge * edge))), cache=cache.packed, everywhere=bounds.everywhere,
            slope=self._local(bounds.slope), stretch=bounds.stretch, stretches=self._local(bounds.stretches),
        )  # fmt: skip
        sides = [-(-n // self.brick) for n in self.shape]
        self.table = torch.empty((len(frames), *sides), dtype=torch.int32, device=self.device)
        self.levels = []
        finest = max(knobs.finest_spacing, spacing // knobs.least_share)
        while spacing >= finest:
            self.levels.append(
                make_nodes(self.core, self.device, self.shape, front, steps, len(frames), spacing)
            )
            spacing //= 2
        # Points of each frame that went through the deformation, and through the ensemble.
        self.deformed = torch.zeros(len(frames), dtype=torch.int64, device=self.device)
        self.evaluated = torch.zeros_like(self.deformed)

    def run(
        self, exact: bool, tolerance: float, cache_tolerance: float
    ) -> tuple[FieldBricks, list[ExtractionCounts]]:
        """Finds the bricks, guesses their samples, and evaluates until nothing contradicts."""
        near = self._near()
        level, error, last = self._refine(near, tolerance)
        count = len(near)
        self.where = near
        self.samples = self.runner.empty(count, self.samples_each)
        self.state = torch.empty((count, self.samples_each), dtype=torch.uint8, device=self.device)
        self.table.view(-1)[near] = torch.arange(count, dtype=torch.int32, device=self.device)
        for number, nodes in enumerate(self.levels[: last + 1]):
            self.core.guess(
                self.guide, nodes.packed, self.stream, number=number, rest=number == last, exact=exact,
                cache_tolerance=cache_tolerance, list=near.data_ptr(), level=level.data_ptr(),
                error=error.data_ptr(), listed=count, samples=self.samples.data_ptr(),
                state=self.state.data_ptr(),
            )  # fmt: skip
        self._ask(exact, cache_tolerance)
        while True:
            grown = self._grow()
            self.core.contradictions(
                self.guide, self.stream, where=self.where.data_ptr(), stored=len(self.where),
                table=self.table.data_ptr(), samples=self.samples.data_ptr(), state=self.state.data_ptr(),
            )  # fmt: skip
            if self._ask(exact, cache_tolerance) == 0 and grown == 0:
                break
        counts = self._counts(near, level)
        samples = self.samples.view(-1, self.brick, self.brick, self.brick)
        evaluated = sum(frame.evaluated for frame in counts)
        return FieldBricks(self.table, samples, self.shape, evaluated), counts

    def _counts(self, near: Tensor, level: Tensor) -> list[ExtractionCounts]:
        """What each frame took; the host waits for all of it at once."""
        broken = (self.state & self.core.broken).ne(0).sum(dim=1)
        uncertified = 8 * torch.zeros_like(self.deformed).index_add_(0, self._frame_of(self.where), broken)
        of = self._frame_of(near)
        found = [
            self.deformed, self.evaluated, uncertified, self._per_frame(of), self._per_frame(of[level < 0])
        ]  # fmt: skip
        return [
            ExtractionCounts(deformed=d, evaluated=e, uncertified=u, bricks=b, direct=r)
            for d, e, u, b, r in torch.stack(found, dim=1).tolist()
        ]

    def _frame_of(self, bricks: Tensor) -> Tensor:
        """The frames (n,) of bricks by their numbers in the table."""
        return bricks // (self.table.numel() // max(1, len(self.frames)))

    def _per_frame(self, of: Tensor) -> Tensor:
        return per_frame(of, len(self.frames))

    # Bricks ---------------------------------------------------------------------------------------------

    def _near(self) -> Tensor:
        """Numbers of the bricks that the surface may cross, frame by frame; the others get their sign."""
        coarse = self.levels[0]
        some = slice(1, None, self.knobs.first_stride)
        coarse.known.view(len(self.frames), *coarse.shape)[:, some, some, some] = 1
        self._evaluate_nodes(coarse)
        longest = self.knobs.longest_margin * coarse.longest()
        while True:
            self.core.near(self.guide, self.stream, longest=longest.data_ptr(), table=self.table.data_ptr())
            near = self._wanted()
            self._need(coarse, near)
            seen = coarse.longest()
            over = seen > longest
            if not over.any():
                break
            longest = torch.where(over, self.knobs.longest_margin * seen, longest)
        self.core.cross(
            self.guide, coarse.packed, self.stream, list=near.data_ptr(), listed=len(near),
            table=self.table.data_ptr(),
        )  # fmt: skip
        return self._wanted()

    def _wanted(self) -> Tensor:
        return torch.nonzero(self.table.view(-1) == self.runner.core.brick_wanted).view(-1)

    def _refine(self, near: Tensor, tolerance: float) -> tuple[Tensor, Tensor, int]:
        """For each brick the coarsest lattice that is good enough, or -1, and the error of its offsets; and
        the lattice that serves those without one.
        """
        level = torch.full((len(near),), -1, dtype=torch.int32, device=self.device)
        error = self.runner.empty(len(near))
        # Without a tolerance no lattice is good enough, and the coarsest guides as well as any.
        last = len(self.levels) - 1 if tolerance > 0 else 0
        for number, nodes in enumerate(self.levels[: last + 1]):
            rough = near[level < 0]
            self._need(nodes, rough)
            self.core.probes(
                self.guide, nodes.packed, self.stream, list=rough.data_ptr(), listed=len(rough),
                wanted=nodes.probed.data_ptr(),
            )  # fmt: skip
            cells, offsets = self._offsets(nodes, nodes.probed, middles=True)
            self.core.probe_errors(
                nodes.packed, self.stream, list=cells.data_ptr(), listed=len(cells),
                offsets=offsets.data_ptr(),
            )  # fmt: skip
            self.core.levels(
                self.guide, nodes.packed, self.stream, number=number, tolerance=tolerance,
                list=near.data_ptr(), listed=len(near), level=level.data_ptr(), error=error.data_ptr(),
            )  # fmt: skip
        return level, error, last

    # Nodes ----------------------------------------------------------------------------------------------

    def _need(self, level: OffsetNodes, bricks: Tensor) -> None:
        """Evaluates the nodes that bricks are interpolated from, as far as they are new."""
        self.core.need(
            self.guide, level.packed, self.stream, list=bricks.data_ptr(), listed=len(bricks),
            wanted=level.known.data_ptr(),
        )  # fmt: skip
        self._evaluate_nodes(level)

    def _evaluate_nodes(self, level: OffsetNodes) -> None:
        slots, offsets = self._offsets(level, level.known, middles=False)
        level.offset[slots] = offsets  # -1 is the row that nobody reads

    def _offsets(self, level: OffsetNodes, wanted: Tensor, *, middles: bool) -> tuple[Tensor, Tensor]:
        """Offsets (n, 3) by the network at the nodes, or the middles of the cells, that are wanted; and their
        numbers (n,), with -1 in between.
        """
        found = torch.nonzero(wanted.view(-1) == 1).view(-1)
        wanted.view(-1)[found] = 2
        of = found // level.nodes
        slots, row, _ = by_frame(found, of, len(self.frames), _SEGMENT)
        offsets = self.runner.empty(len(slots), 3)
        for a, part, frame in self._parts(slots, row):
            points = self.runner.empty(len(frame), _SEGMENT, 3)
            self.core.node_points(
                level.packed, self.stream, middles=middles, list=part.data_ptr(), listed=len(part),
                points=points.data_ptr(),
            )  # fmt: skip
            out = {"offsets": offsets[a : a + len(part)]}
            self.runner.deform(points, frame, self.frames, self.weight, out, derive=False)
        self.deformed += self._per_frame(of)
        return slots, offsets

    # Samples --------------------------------------------------------------------------------------------

    def _ask(self, exact: bool, cache_tolerance: float) -> int:
        """Evaluates the samples that are queued; how many they were."""
        found = torch.nonzero((self.state.view(-1) & 3) == self.core.queued).view(-1)
        # Bricks that were stored later come behind, whatever their frame.
        of, order = torch.sort(self._frame_of(self.where[found // self.samples_each]), stable=True)
        slots, row, _ = by_frame(found[order], of, len(self.frames), _SEGMENT)
        for _, part, segment in self._parts(slots, row):
            points = self.runner.empty(len(segment), _SEGMENT, 3)
            self.core.sample_points(
                self.guide, self.stream, where=self.where.data_ptr(), list=part.data_ptr(), listed=len(part),
                points=points.data_ptr(),
            )  # fmt: skip
            y, _ = self.runner.deform(points, segment, self.frames, self.weight, {}, derive=False)
            values = self.runner.empty(len(part))
            if exact:
                self.runner.blend(y, {"sdf": values}, None)
            else:
                self._look_up(y, part, segment, values, cache_tolerance)
            self.core.store(
                self.stream, list=part.data_ptr(), listed=len(part), values=values.data_ptr(),
                samples=self.samples.data_ptr(), state=self.state.data_ptr(),
            )  # fmt: skip
        asked = self._per_frame(of)
        self.deformed += asked
        if exact:
            self.evaluated += asked
        return len(found)

    def _look_up(
        self, y: Tensor, slots: Tensor, segment: Tensor, values: Tensor, cache_tolerance: float
    ) -> None:
        """Values at canonical points from the cache, and from the networks where it is not good enough."""
        left = torch.empty(len(slots), dtype=torch.uint8, device=self.device)
        self.core.cached(
            self.guide, self.stream, y=y.data_ptr(), list=slots.data_ptr(), listed=len(slots),
            cache_tolerance=cache_tolerance, values=values.data_ptr(), left=left.data_ptr(),
        )  # fmt: skip
        ask = torch.nonzero(left).view(-1)
        if len(ask) == 0:
            return
        sdf = self.runner.empty(len(ask))
        self.runner.blend(y[ask], {"sdf": sdf}, None)
        values[ask] = sdf
        self.evaluated += self._per_frame(segment[ask // _SEGMENT].long())

    def _grow(self) -> int:
        """Stores the bricks whose sign a neighbour's samples contradict; how many they were."""
        wanted = torch.empty(self.table.numel(), dtype=torch.uint8, device=self.device)
        self.runner.core.contradictions(
            self.bricks, self.stream, table=self.table.data_ptr(), samples=self.samples.data_ptr(),
            wanted=wanted.data_ptr(),
        )  # fmt: skip
        found = torch.nonzero(wanted).view(-1)
        if len(found) == 0:
            return 0
        flat = self.table.view(-1)
        sign = torch.where(flat[found] == INSIDE, -1.0, 1.0)
        stored = len(self.where)
        flat[found] = torch.arange(stored, stored + len(found), dtype=torch.int32, device=self.device)
        self.where = torch.cat([self.where, found])
        self.samples = torch.cat([self.samples, sign[:, None].expand(-1, self.samples_each)])
        self.state = torch.cat([self.state, self.state.new_zeros(len(found), self.samples_each)])
        return len(found)

    def _parts(self, slots: Tensor, row: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        """(first, slots, frames of their segments) of parts that fit the workspace."""
        for a in range(0, len(row), self.groups):
            frame = row[a : a + self.groups]
            first = a * _SEGMENT
            yield first, slots[first : first + len(frame) * _SEGMENT], frame

    # Packing --------------------------------------------------------------------------------------------

    def _local(self, bounds: LocalBounds | None) -> tuple[Any, ...] | None:
        if bounds is None:
            return None
        if len(bounds.values) != len(bounds.reach):
            raise ValueError(f"values: expected {len(bounds.reach)} levels, got {len(bounds.values)}")
        if not (bounds.values > 0).all():
            raise ValueError("values: expected slopes above 0")
        values = torch.from_numpy(np.array(bounds.values, dtype=np.float32, order="C")).to(self.device)
        self._held.append(values)
        return bounds.origin, bounds.spacing, list(bounds.reach), values.shape[1:], values.data_ptr()
