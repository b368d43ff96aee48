"""The bank of draws that features are fitted to knows where its clips end."""

from __future__ import annotations

import numpy as np
import pytest
from listener import PHONES, Listener

from facetalk.metrics import evaluate as evaluation
from facetalk.metrics.motion_features import FEATURE_REGIONS, WindowBasis, motion_windows
from facetalk.metrics.reference import Neighbours, draw
from facetalk.motion import Motion

RATE = 25.0


def fitted(monkeypatch: pytest.MonkeyPatch, bank: Neighbours) -> list[np.ndarray]:
    """The windows, region by region, that the bases of an evaluation are fitted to."""
    seen: list[np.ndarray] = []
    run = object.__new__(evaluation._Run)
    run.pipeline, run._fps, run._identity = Listener(), RATE, np.zeros(0, np.float32)
    run._rest = run._landmarks(np.zeros((1, 53), np.float32))[0]
    with monkeypatch.context() as patch:
        patch.setattr(WindowBasis, "fit", lambda rows: seen.append(rows))
        run._fit(bank)
    return seen


def test_no_window_runs_from_one_clip_into_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    clips = [PHONES["a"], PHONES["b"]]
    bank = Neighbours.of([(phones, "arpabet") for phones in clips], [0, 1], RATE, seed=3)
    assert bank.ends[-1] == len(bank.motions) and len(bank.ends) == 2
    face = Listener()
    rest = face.landmarks(Motion(np.zeros((1, 53), np.float32), RATE))[0]
    expected = []
    for points in FEATURE_REGIONS.values():
        own = []
        for index, phones in enumerate(clips):
            alone = draw(phones, round(phones[-1][2] * RATE), RATE, "arpabet", 3 + index)
            own.append(motion_windows(face.landmarks(Motion(alone, RATE)), rest, points, RATE))
        expected.append(np.concatenate(own))
    for windows, wanted in zip(fitted(monkeypatch, bank), expected, strict=True):
        np.testing.assert_allclose(windows, wanted, atol=1e-5)


def test_clips_under_a_second_have_no_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    short = [("M", 0.0, 0.1), ("AA1", 0.1, 0.8)]
    bank = Neighbours.of([(short, "arpabet")] * 9, list(range(9)), RATE, seed=0)
    assert len(bank.motions) == 9 * 20 and fitted(monkeypatch, bank) == []
