"""What a window's equations hold of points that are not independent."""

import numpy as np
import pytest
import torch

from facetalk.errors import InputError
from facetalk.fitting import FitOptions
from facetalk.fitting.frame import Frame
from facetalk.fitting.options import MM
from facetalk.fitting.pose import Pose
from facetalk.fitting.synthetic import scan
from facetalk.fitting.system import System, banded
from facetalk.fitting.window import _Seen


def test_points_that_share_what_they_say_count_for_less(capture):
    code = np.zeros(capture.head.expression_dim, np.float32)
    points = torch.from_numpy(scan(capture.field, code, points=400, noise_mm=1.0, seed=3).astype(np.float32))
    frame = Frame(
        points.double(),
        torch.full((len(code),), 0.1, dtype=torch.float64),
        Pose(torch.eye(3), torch.zeros(3), 1.0),
    )
    none, all_of_it, tenth = [], [], []
    for found, share, given in ((none, 1.0, points[:0]), (all_of_it, 1.0, points), (tenth, 0.1, points)):
        options = FitOptions(point_share=share)
        system, seen = System(1, len(code), options), _Seen.of(capture.field, frame, given, options)
        system.observe(0, frame, seen.residual(), seen.slopes, 40 * MM)
        found += [system.matrix, system.vector]
    for expected, whole, part in zip(none, all_of_it, tenth, strict=True):
        assert float((whole - expected).abs().max()) > 0.0
        # Slopes are of single precision, and which sums are rounded how depends on the processor.
        torch.testing.assert_close(part - expected, 0.1 * (whole - expected), rtol=1e-3, atol=1e-5)
    with pytest.raises(InputError, match="point_share"):
        FitOptions(point_share=0.0)


def test_frames_that_are_tied_are_solved_as_one_dense_system():
    """Blocks beside the diagonal, held against the whole matrix; of one frame, too."""
    generator = torch.Generator().manual_seed(0)
    for frames, each in ((1, 3), (2, 1), (7, 5)):
        half = torch.randn(frames, each, each, dtype=torch.float64, generator=generator)
        beside = torch.randn(frames, each, dtype=torch.float64, generator=generator)
        right = torch.randn(frames, each, dtype=torch.float64, generator=generator)
        blocks = half @ half.mT + 6 * torch.eye(each, dtype=torch.float64)
        whole = torch.block_diag(*blocks)
        for t in range(1, frames):
            rows = torch.arange(each) + t * each
            whole[rows, rows - each] = whole[rows - each, rows] = beside[t]
        wanted = torch.linalg.solve(whole, right.flatten()).view(frames, each)
        torch.testing.assert_close(banded(blocks, beside, right), wanted)


def test_a_step_goes_on_from_the_last_linearisation(capture):
    """What the networks would say after a small change, and what is told without asking them."""
    code = np.zeros(capture.head.expression_dim, np.float32)
    points = torch.from_numpy(scan(capture.field, code, points=400, seed=3))
    still = Pose(torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64), 1.0)
    frame = Frame(points, torch.full((len(code),), 0.1, dtype=torch.float64), still)
    seen = _Seen.of(capture.field, frame, frame.pose.apply(points), FitOptions())
    by = torch.full((len(code) + 6,), 1e-3, dtype=torch.float64)
    seen.moved += by
    turn, shift = by[len(code) :].split(3)
    there = frame.pose.moved(turn, shift).apply(points)
    now = capture.field.slopes(there, (frame.code + by[: len(code)]).float()).value
    change = float((now - seen.value).abs().mean())
    assert float((seen.residual() - now).abs().mean()) < 0.05 * change
    assert not len(_Seen.of(capture.field, frame, points[:0].float(), FitOptions()).residual())
