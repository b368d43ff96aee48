"""What a motion model takes from its data and its head before it is trained."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from facetalk.data.expressions import EXPRESSION_NAMES, INDEX
from facetalk.diffusion import representation
from facetalk.diffusion.representation import Representation, face_metric, lip_gap_matrix
from facetalk.diffusion.student import Student
from facetalk.errors import InputError
from facetalk.training.motion import train as motion_train
from facetalk.training.motion.dataset import MotionData
from facetalk.training.motion.train import MotionTrainingOptions, prepare
from facetalk.units import HEAD_UNIT_MM


def head(names: tuple[str, ...] = EXPRESSION_NAMES) -> SimpleNamespace:
    """68 points; the first weight moves each of the lower inner lips by another way, in mm."""
    moves = np.random.default_rng(0).normal(size=(len(names), 68, 3))
    moves[:, [61, 62, 63, 65, 66, 67], 1] = 0.0
    moves[0, [67, 66, 65], 1] = [-3.0, -6.0, -9.0]
    rest = np.random.default_rng(1).normal(size=(68, 3)) * 30
    rest[[61, 62, 63], 1] = 0.0
    rest[[67, 66, 65], 1] = [-1.0, -2.0, -6.0]
    return SimpleNamespace(
        expression_names=names, expression_basis=moves / HEAD_UNIT_MM, neutral=rest / HEAD_UNIT_MM,
        landmark_ids=np.arange(68),
    )  # fmt: skip


def data() -> MotionData:
    rng = np.random.default_rng(2)
    weights = rng.uniform(0, 1, (2, 120, len(EXPRESSION_NAMES))).astype(np.float16)
    return MotionData([rng.normal(3.0, 2.0, (120, 5)).astype(np.float16)], [weights])


def test_a_model_knows_its_names_lips_and_features(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    metric = motion_train.face_metric
    monkeypatch.setattr(motion_train.MorphableHead, "load", lambda path: head())
    monkeypatch.setattr(
        motion_train, "face_metric", lambda *args: asked.append(args[3]) or metric(*args[:3], 68, args[4])
    )
    model = prepare(data(), None, "mini")
    assert model.expression_names == list(EXPRESSION_NAMES) and asked == [6706]
    heard = np.concatenate(data().features).astype(np.float32)
    torch.testing.assert_close(model.feature_mean, torch.from_numpy(heard.mean(0)))
    torch.testing.assert_close(model.feature_scale, torch.from_numpy(heard.std(0) + 1e-3))
    contact = model.contact
    assert contact is not None and contact.close == INDEX["mouthClose"]
    assert contact.bias_mm == pytest.approx(3.0) and contact.per_unit_mm[0] == pytest.approx(6.0)
    np.testing.assert_allclose(contact.per_unit_mm[1:], 0.0, atol=1e-9)
    config = model.denoiser.config
    assert (config.motion_dim, config.audio_dim) == (model.representation.dim, 5)
    weights = data().weights[0].reshape(-1, len(EXPRESSION_NAMES)).astype(np.float32)
    coordinates = model.representation.encode(weights)
    np.testing.assert_allclose(coordinates.mean(0), 0.0, atol=1e-3)
    np.testing.assert_allclose(coordinates.std(0), 1.0, atol=0.01)
    np.testing.assert_allclose(model.representation.decode(coordinates), weights, atol=1e-3)
    monkeypatch.setattr(motion_train.MorphableHead, "load", lambda path: head(EXPRESSION_NAMES[::-1]))
    with pytest.raises(InputError, match="other expressions than the built-in head"):
        prepare(data(), Path("h"), "mini")


def test_a_model_that_is_gone_on_from_takes_the_new_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metric = motion_train.face_metric
    monkeypatch.setattr(motion_train.MorphableHead, "load", lambda path: head())
    monkeypatch.setattr(motion_train, "face_metric", lambda *args: metric(*args[:3], 68, args[4]))
    first = prepare(data(), None, "mini")
    first.save(tmp_path / "model")
    louder = data()
    louder.features[0] = (2.0 * louder.features[0].astype(np.float32)).astype(np.float16)
    second = prepare(louder, None, "paper", tmp_path / "model")
    torch.testing.assert_close(second.feature_mean, 2.0 * first.feature_mean, rtol=1e-2, atol=1e-2)
    assert second.denoiser.config == first.denoiser.config
    wider = MotionData([np.zeros((120, 6), np.float16)], louder.weights)
    with pytest.raises(InputError, match=r"takes 5 audio features, this encoder gives 6; drop --init"):
        prepare(wider, None, "mini", tmp_path / "model")


def test_a_command_says_what_matters_and_no_paths() -> None:
    told = MotionTrainingOptions(Path("/c"), "/a", Path("/o"), batch=3, minutes=None, share=0.5).command()
    assert told.startswith("facetalk train motion --preset mini --steps 20000 --batch 3 --crop 96")
    assert "--share 0.5" in told and "--minutes" not in told and "/" not in told
    for wrong in ({"share": 0.0}, {"share": 1.1}, {"crop": 1}, {"batch": 0}):
        with pytest.raises(InputError, match=r"--share must lie|--crop must be"):
            MotionTrainingOptions(Path("c"), "a", Path("o"), **wrong).check()
    MotionTrainingOptions(Path("c"), "a", Path("o"), share=1.0, crop=2, batch=1).check()


def test_the_metric_is_the_sum_of_what_is_seen() -> None:
    """Against sums over single points."""
    names = ["jawOpen", "eyeLookIn_L", "eyeLookOut_R", "eyeLookUp_L"]
    rng = np.random.default_rng(0)
    moves, rest, skin = rng.normal(size=(4, 90, 3)), rng.normal(size=(90, 3)) * 20, 80
    marks = np.arange(10, 78)
    found = face_metric(moves, rest, marks, skin, names)
    expected = np.zeros((4, 4))
    for vertex in range(skin):
        expected += moves[:, vertex] @ moves[:, vertex].T / skin
    for region, radius, weight in (
        (range(48, 68), 8.0, 3.0),
        (range(36, 48), 6.0, 3.0),
        (range(17, 27), 8.0, 1.0),
    ):
        near = [min(np.linalg.norm(rest[v] - rest[marks[m]]) for m in region) for v in range(skin)]
        mask = np.exp(-0.5 * (np.array(near) / radius) ** 2)
        for vertex in range(skin):
            expected += weight * mask[vertex] / mask.sum() * moves[:, vertex] @ moves[:, vertex].T
    for mark in marks:
        expected += moves[:, mark] @ moves[:, mark].T / 68
    gaps = lip_gap_matrix(moves, marks)
    for upper, lower, row in ((61, 67, 0), (62, 66, 1), (63, 65, 2)):
        np.testing.assert_allclose(gaps[row], moves[:, marks[upper], 1] - moves[:, marks[lower], 1])
        expected += representation.LIP_GAP_WEIGHT * np.outer(gaps[row], gaps[row])
    gaze = np.array([[0, 0, 0], [1, 0, 0], [0, -1, 0], [0, 0, 1]]) * representation.GAZE_MM
    expected += representation.GAZE_WEIGHT * gaze @ gaze.T
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_coordinates_are_principal_and_what_nobody_sees_is_left_out() -> None:
    rng = np.random.default_rng(0)
    motion = rng.normal(size=(4000, 3)) * [1.0, 0.1, 1.0] + [0.3, 0.2, 0.1]
    metric = np.diag([4.0, 1.0, 1e-4])  # the last moves a hundredth of a millimetre at weight 1
    found = Representation.fit(motion, metric, floor=0.05)
    np.testing.assert_allclose(found.scale_mm, [2.0, 0.1], rtol=0.05)
    np.testing.assert_allclose(found.mean, motion.mean(0))
    np.testing.assert_allclose(
        np.abs(found.encode(motion)[:, 0]),
        np.abs(motion[:, 0] - motion[:, 0].mean()) / motion[:, 0].std(),
        atol=0.05,
    )
    with pytest.raises(ValueError, match="does not move"):
        Representation.fit(np.ones((10, 3)), metric)


def test_a_student_of_a_frozen_teacher_is_trained(tmp_path: Path) -> None:
    from facetalk.diffusion import Denoiser, DenoiserConfig, MotionModel
    from facetalk.training.motion.distill import DistillTraining
    from facetalk.training.motion.distill_options import DistillOptions

    config = DenoiserConfig(motion_dim=3, audio_dim=4, layers=1, heads=1, width=8, feedforward=8)
    frozen = Denoiser(config).eval().requires_grad_(False)
    model = MotionModel(frozen, Representation.identity(3), expression_names=["a", "b", "c"])
    for start in (None, Student.of(frozen).requires_grad_(False)):
        work = DistillTraining(model, [], None, None, None, DistillOptions(), start=start)  # type: ignore[arg-type]
        assert all(p.requires_grad for p in work.net.parameters()) and work.net.training
        assert not any(p.requires_grad for p in work.average.parameters()) and not work.average.training
        assert start is not work.net
