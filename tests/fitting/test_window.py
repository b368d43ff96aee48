"""What a window's equations hold of points that are not independent."""

import numpy as np
import pytest
import torch

from facetalk.errors import InputError
from facetalk.fitting import FitOptions
from facetalk.fitting.options import MM
from facetalk.fitting.pose import Pose
from facetalk.fitting.synthetic import scan
from facetalk.fitting.window import Frame, _System


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
        system = _System(1, len(code), options)
        system.observe(0, frame, capture.field, given, 40 * MM)
        found += [system.matrix, system.vector]
    for expected, whole, part in zip(none, all_of_it, tenth, strict=True):
        assert float((whole - expected).abs().max()) > 0.0
        torch.testing.assert_close(part - expected, 0.1 * (whole - expected), rtol=1e-4, atol=1e-6)
    with pytest.raises(InputError, match="point_share"):
        FitOptions(point_share=0.0)
