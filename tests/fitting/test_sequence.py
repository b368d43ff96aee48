"""Captures with known codes, fitted."""

import numpy as np
import pytest
import torch
from golden import GOLDEN

from facetalk.errors import InputError
from facetalk.fitting import DifferentiableField, FitOptions, fit_points, fit_sequence
from facetalk.fitting.identity import fit_identity
from facetalk.fitting.options import MM
from facetalk.fitting.pose import Pose, rotation
from facetalk.fitting.synthetic import scan
from facetalk.metrics.lips import CLOSED_MM, lip_gap
from facetalk.nphm import load_checkpoint
from facetalk.posing import landmarks

QUICK = FitOptions(points=900, steps=8)


def surface_mm(capture, fit, of_head):
    """Mean distance of the true surface's points from the fitted one, millimetres, a frame."""
    found = []
    for t, points in enumerate(capture.clean):
        there = np.c_[of_head(points), np.ones(len(points))] @ fit.poses[t].T
        at = torch.from_numpy(there[:, :3].astype(np.float32))
        code = torch.from_numpy(fit.motion.expressions[t])
        found.append(float(capture.field.slopes(at, code).value.abs().mean()) / MM)
    return found


def test_noise_and_outliers(capture):
    fit = fit_sequence(capture.frames, capture.head, fps=30, options=QUICK)
    assert max(surface_mm(capture, fit, lambda x: 0.25 * x)) < 0.4
    assert fit.motion.fps == 30 and fit.motion.expressions.shape == capture.codes.shape
    jaw = capture.head.expression_names.index("jawOpen")
    assert np.abs(fit.motion.expressions[:, jaw] - capture.codes[:, jaw]).max() < 0.08
    assert fit.motion.expressions.min() >= 0 and fit.motion.expressions.max() <= 1
    assert 0.1 < np.mean(fit.report.outliers) < 0.3 and not fit.report.flagged
    assert 0.5 < np.mean(fit.report.mean_mm) < 1.5  # of points with 1 mm of noise


def test_windows_go_on_from_each_other(capture):
    """Frames that are not in one window are tied all the same, and each is measured once."""
    options = FitOptions(points=900, steps=8, window=2, overlap=1, together=1)
    told = []
    fit = fit_sequence(capture.frames, capture.head, fps=30, options=options, progress=told.append)
    assert told == [2, 3] and len(fit.report.mean_mm) == len(fit.poses) == 3
    assert max(surface_mm(capture, fit, lambda x: 0.25 * x)) < 0.4


def test_a_person_is_found(capture):
    """A few coefficients of somebody else's head explain scans of it better than the mean head does."""
    coefficients = np.zeros(capture.head.coefficient_dim, np.float32)
    coefficients[:3] = (1.5, -1.5, 1.0)
    code = capture.head.encode_identity(coefficients)
    frames = [0.25 * scan(DifferentiableField(capture.head.nphm, code), capture.codes[0], points=1500)]
    found = fit_identity(frames, capture.head, coefficients=3, rounds=3, options=QUICK)
    mine, mean = (
        fit_sequence(frames, capture.head, fps=25, identity=identity, options=QUICK).report.median_mm[0]
        for identity in (found, capture.head.default_identity)
    )
    assert mine < 0.1 * mean
    assert np.abs(capture.head.coefficients(found)[:3] - coefficients[:3]).max() < 0.1


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_a_person_of_any_nphm_is_found(direction):
    """By every point's own derivative, which autograd through the plain networks confirms."""
    from facetalk.fitting.people import Code
    from facetalk.models.heads import mean_landmarks
    from facetalk.nphm.plain_head import PlainHead

    model = load_checkpoint(GOLDEN / "nphm_tiny", direction=direction)
    head = PlainHead(model, mean_landmarks())
    generator = torch.Generator().manual_seed(3)
    code = 0.15 * torch.randn(model.identity_dim, generator=generator)
    expression = 0.05 * torch.randn(model.expression_dim, generator=generator)
    person = Code(head)
    person.move(code)
    points = 0.2 * torch.randn(5, 3, generator=generator)
    (found,) = person.slopes([points], [expression])[1]
    own = code.clone().requires_grad_()
    for row, point in zip(found, points, strict=True):
        (wanted,) = torch.autograd.grad(model.sdf(point[None], own, expression).sum(), own)
        assert (row - wanted).abs().max() < 2e-3 * float(wanted.abs().max())
    frames = model.bind(code).track(torch.stack([expression, -expression]), resolution=18)[0]
    options = FitOptions(points=1000, steps=4, aligned=True)
    mine = fit_identity(list(frames), head, rounds=3, options=options, unit="head")

    def median(identity):
        fit = fit_sequence(frames, head, fps=25, identity=identity, options=options, unit="head")
        return np.mean(fit.report.median_mm)

    assert median(mine) < 0.3 * median(None)


def test_millimetres_z_up_and_a_head_that_drifts(capture):
    turn = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    drift = [np.array([300 + 4.0 * t, 20, 1500 + 2.0 * t]) for t in range(3)]
    frames = [1000 * frame @ turn.T + shift for frame, shift in zip(capture.frames, drift, strict=True)]
    fit = fit_sequence(frames, capture.head, fps=25, options=QUICK)
    for t, shift in enumerate(drift):
        back = np.c_[250 * capture.clean[t] @ turn.T + shift, np.ones(len(capture.clean[t]))]
        there = torch.from_numpy((back @ fit.poses[t].T)[:, :3].astype(np.float32))
        code = torch.from_numpy(fit.motion.expressions[t])
        assert float(capture.field.slopes(there, code).value.abs().mean()) / MM < 0.4


def test_a_wrong_person_is_told_by_the_distance(capture):
    rng = np.random.default_rng(3)
    other = capture.head.encode_identity(rng.normal(0, 1.5, capture.head.coefficient_dim))
    right = fit_sequence(capture.frames[:1], capture.head, fps=25, options=QUICK)
    wrong = fit_sequence(capture.frames[:1], capture.head, fps=25, options=QUICK, identity=other)
    assert np.array_equal(wrong.motion.identity, other)
    assert wrong.report.median_mm[0] > 1.3 * right.report.median_mm[0]


def test_the_papers_way_goes_downhill(capture):
    options = FitOptions(method="adam", adam_steps=40, points=400)
    fit = fit_sequence(capture.frames[:2], capture.head, fps=25, options=options)
    start = fit_sequence(
        capture.frames[:2], capture.head, fps=25, options=FitOptions(method="adam", adam_steps=1, points=400)
    )
    assert np.mean(fit.report.mean_mm) < np.mean(start.report.mean_mm)


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_codes_of_any_nphm(direction):
    from facetalk.fitting.frame import Frame
    from facetalk.fitting.window import solve

    model = load_checkpoint(GOLDEN / "nphm_tiny", direction=direction)
    field = DifferentiableField(model, np.zeros(model.identity_dim, np.float32))
    generator = torch.Generator().manual_seed(0)
    code = 0.15 * torch.randn(model.expression_dim, generator=generator)
    points = 0.3 * torch.randn(600, 3, generator=generator)
    for _ in range(30):  # onto the posed surface, where there is one near
        found = field.slopes(points, code)
        slope = found.by_point.square().sum(1, keepdim=True).clamp(min=0.05)
        points = points - 0.5 * found.value[:, None] * found.by_point / slope
    points = points[field.slopes(points, code).value.abs() < 1e-4]
    assert len(points) > 200
    still = Pose(torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64), 1.0)
    frame = Frame(points.double(), torch.zeros(len(code), dtype=torch.float64), still)
    before = float(field.slopes(points, frame.code.float()).value.abs().mean())
    options = FitOptions(pose=False, code_spread=5.0, outlier_mm=30.0, steps=20)
    solve(field, [frame], None, None, options, generator)
    assert float(field.slopes(points, frame.code.float()).value.abs().mean()) < 0.1 * before


def test_what_cannot_be_fitted(capture):
    head, frame = capture.head, capture.frames[0]
    for frames, text in (
        ([], "at least one frame"),
        ([frame[:50]], "50 points; at least 200"),
        ([np.full((300, 3), np.nan)], "not finite"),
        ([frame[:, :2]], r"points \(N, 3\)"),
        (["points"], r"points \(N, 3\)"),
        ([frame * 0.05], "in no unit of"),
        ([np.random.default_rng(0).uniform(-0.1, 0.1, (500, 3))], "do not lie on the head"),
    ):
        with pytest.raises(InputError, match=text):
            fit_points(frames, head, fps=25)
    assert FitOptions().stride == 34 and FitOptions(method="adam").stride == 10
    with pytest.raises(InputError, match="identity"):
        fit_points([frame], head, fps=25, identity=np.zeros(3))
    for options in (
        {"window": 0},
        {"together": 0},
        {"overlap": 10},
        {"method": "lm"},
        {"code_speed": 0.0},
        {"contact": -1.0},
    ):
        with pytest.raises(InputError, match=next(iter(options))):
            FitOptions(**options)


def test_small_motions_of_a_pose():
    pose = Pose(rotation(torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)), torch.ones(3).double(), 2.0)
    points = torch.randn(5, 3, dtype=torch.float64)
    there = pose.apply(points).double()
    by = torch.tensor([1e-4, -2e-4, 3e-4]), torch.tensor([1e-3, 0.0, 0.0])
    moved = pose.moved(*by).apply(points).double()
    wanted = there + torch.linalg.cross(by[0].double().expand(5, 3), there) + by[1]
    assert torch.allclose(moved, wanted, atol=2e-6)
    assert torch.allclose(
        torch.cat([points, torch.ones(5, 1)], 1) @ pose.matrix().T,
        torch.cat([there, torch.ones(5, 1)], 1), atol=1e-6,
    )  # fmt: skip


def test_a_shut_mouth_that_rests(capture):
    """Noise opens lips whose inner sides nobody sees, and shakes them; they are likelier to touch."""
    code = np.zeros(capture.head.expression_dim, np.float32)
    for side in ("L", "R"):
        code[capture.head.expression_names.index(f"mouthPress_{side}")] = 0.2
    frames = [0.25 * scan(capture.field, code, points=1500, noise_mm=1.0, seed=70 + t) for t in range(3)]
    shown = {}
    for contact in (0.0, 4.0):
        options = FitOptions(points=1000, contact=contact)
        marks = landmarks(
            capture.head, fit_sequence(frames, capture.head, fps=25, options=options).motion, None
        )
        shown[contact] = lip_gap(marks)
        assert 1000 * np.linalg.norm(np.diff(marks, axis=0), axis=2).mean() < 0.05
    assert shown[4.0].max() < CLOSED_MM and shown[4.0].mean() < shown[0.0].mean() - 0.1


def test_landmarks_of_any_nphms_person():
    """They follow the anchors, whose derivatives are held against differences."""
    from facetalk.fitting.people import Code
    from facetalk.models.heads import mean_landmarks
    from facetalk.nphm.plain_head import PlainHead

    model = load_checkpoint(GOLDEN / "nphm_tiny", direction="backward")
    head = PlainHead(model, mean_landmarks())
    generator = torch.Generator().manual_seed(5)
    code = 0.3 * torch.randn(model.identity_dim, generator=generator)
    person = Code(head, code.numpy())
    by = 1e-2 * torch.randn(model.identity_dim, generator=generator)
    ends = [model.identity.anchors((code + sign * by)[None])[0] for sign in (0.5, -0.5)]
    moved = torch.from_numpy(head.anchor_shares()[17:]) @ (ends[0] - ends[1]).detach()
    off = (person.mark_slopes() @ by.double() - moved).abs().mean()
    assert float(off) < 0.2 * float(moved.abs().mean())  # its units have kinks
    with pytest.raises(InputError, match="got none"):
        fit_identity(None, head)
