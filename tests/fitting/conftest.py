"""A short capture of the built-in head whose truth is known."""

import dataclasses

import numpy as np
import pytest

from facetalk.fitting import DifferentiableField
from facetalk.fitting.synthetic import scan
from facetalk.models import find_model
from facetalk.nphm.head.head import HeadModel


@dataclasses.dataclass(frozen=True)
class Capture:
    head: HeadModel
    field: DifferentiableField
    codes: np.ndarray  # (T, E)
    frames: list[np.ndarray]  # 1 mm of noise, 20 % outliers, metres
    clean: list[np.ndarray]  # other points of the same surfaces, head space


@pytest.fixture(scope="session")
def capture() -> Capture:
    head = HeadModel.load(find_model("default").folder / "head")
    field = DifferentiableField(head.nphm, head.default_identity)
    codes = np.zeros((3, head.expression_dim), np.float32)
    codes[:, head.expression_names.index("jawOpen")] = (0.0, 0.15, 0.3)
    codes[:, head.expression_names.index("mouthSmile_L")] = 0.4
    frames = [
        0.25 * scan(field, code, points=2400, noise_mm=1.0, outliers=0.2, seed=t)
        for t, code in enumerate(codes)
    ]
    clean = [scan(field, code, points=1200, seed=50 + t) for t, code in enumerate(codes)]
    return Capture(head, field, codes, frames, clean)
