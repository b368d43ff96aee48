"""The mouth from the corpus: what its score sees, in which direction it pulls, and the option of the verb."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from facetalk.cli import main
from facetalk.diffusion import Denoiser, DenoiserConfig, MotionModel, Representation
from facetalk.errors import InputError
from facetalk.models import find_model
from facetalk.nphm.head.head import HeadModel
from facetalk.training.motion import distill_mouth
from facetalk.training.motion.dataset import MotionData
from facetalk.training.motion.distill import DistillTraining, hold_out
from facetalk.training.motion.distill_cache import Cache, Teacher, grid, teacher_timesteps
from facetalk.training.motion.distill_energy import distance
from facetalk.training.motion.distill_mouth import FOLLOWED, HELD, USUAL, MouthParts, MouthScore
from facetalk.training.motion.distill_options import DistillOptions
from facetalk.training.openings import Lips, Opening, lid_openings, lips_of

NAMES = ["jawOpen", "mouthClose", "mouthRollLower", "browDown_L", "eyeBlink_L"]
JAW, CLOSE, ROLL, BROW, BLINK = range(5)
REST_MM = 0.9


def lips() -> Lips:
    """A mouth whose lower lip goes down with the jaw, up with mouthClose and back when it rolls in."""
    points = np.zeros((5, 20, 3))
    points[JAW, 10:, 1], points[CLOSE, 10:, 1], points[ROLL, 10:, 2] = -30.0, 30.0, -10.0
    points[BROW], points[BLINK] = 5.0, 5.0
    return Lips(points, points[:, 17], Opening(REST_MM, np.array([30.0, -30.0, 0.0, 0.0, 0.0])))


def motion_model(names: list[str] | None = None) -> MotionModel:
    config = DenoiserConfig(motion_dim=5, audio_dim=3, layers=1, heads=1, width=8, feedforward=8, dropout=0.0)
    torch.manual_seed(0)
    # Coordinates have a variance of 1 in the training motion, as those of a fitted space do.
    space = Representation(np.full(5, 0.2), np.eye(5) / 0.1, np.eye(5) * 0.1, np.ones(5))
    return MotionModel(Denoiser(config), space, expression_names=names or NAMES)


MODEL = motion_model()


def coordinates(weights: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(MODEL.representation.encode(weights))


def speech(count: int, seed: int = 0) -> np.ndarray:
    """(B, 40, 5) weights: an open mouth that closes at frame 12 and has its lip at the teeth at frame 28."""
    rng = np.random.default_rng(seed)
    weights = np.zeros((count, 40, 5))
    weights[..., JAW] = 0.25 + 0.02 * rng.normal(size=(count, 40))
    weights[:, 11:14, CLOSE] = weights[:, 11:14, JAW] + (REST_MM - 0.2) / 30.0
    weights[:, 27:30, ROLL] = 0.34
    weights[..., BROW:] = 0.3
    return weights


def judged(
    first: torch.Tensor,
    second: torch.Tensor,
    truth: torch.Tensor,
    guidance: float = 1.0,
    *,
    twin: torch.Tensor | None = None,
    apart: float = 0.0,
) -> MouthParts:
    score = MouthScore(MODEL, lips(), apart=apart)
    twins = torch.stack([truth, truth if twin is None else twin])
    return score(first, second, twins, torch.full((len(truth),), guidance), torch.Generator().manual_seed(0))


def contact(weights: np.ndarray) -> float:
    sampled, truth = coordinates(weights), coordinates(speech(2))
    return float(judged(sampled, sampled, truth).contact)


def test_the_truth_itself_touches_as_asked() -> None:
    assert contact(speech(2)) == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("shift", [-1, 1])
def test_lips_may_close_a_frame_early_or_late(shift: int) -> None:
    assert contact(np.roll(speech(2), shift, axis=1)) == pytest.approx(0.0, abs=1e-4)
    for weight in (CLOSE, ROLL):
        late = speech(2)
        late[..., weight] = np.roll(late[..., weight], 4 * shift, axis=1)
        assert contact(late) > 0.5


@pytest.mark.parametrize(
    ("frames", "weight", "value"),
    [(slice(11, 14), CLOSE, 0.0), (slice(27, 30), ROLL, 0.0), (slice(16, 24), CLOSE, 0.27)],
    ids=["lips stay apart", "the lip stays from the teeth", "the mouth stays shut"],
)
def test_each_kind_of_contact_is_missed_and_pulled_back(frames: slice, weight: int, value: float) -> None:
    """What is wrong costs millimetres, and the gradient leads towards the truth."""
    wrong, right = speech(2), speech(2)
    wrong[:, frames, weight] = value
    start = coordinates(wrong).requires_grad_()
    parts = judged(start, start, coordinates(right))
    assert parts.contact > 0.3
    (slope,) = torch.autograd.grad(parts.contact, start)
    towards = coordinates(right) - start.detach()
    assert float((slope * towards).sum()) < 0.0
    nearer = start.detach() + 0.3 * towards
    assert judged(nearer, nearer, coordinates(right)).contact < parts.contact


def test_a_lip_from_the_teeth_and_lips_apart_count_so_many_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each by itself is its weight times what it is without one."""
    for name, frames, weight in (("CLOSURE", slice(11, 14), CLOSE), ("TEETH", slice(27, 30), ROLL)):
        wrong = speech(2)
        wrong[:, frames, weight] = 0.0
        asked, found = getattr(distill_mouth, name), contact(wrong)
        with monkeypatch.context() as changed:
            changed.setattr(distill_mouth, name, 1.0)
            assert asked > 1.0 and found == pytest.approx(asked * contact(wrong), rel=1e-5)


def test_the_energy_score_is_least_with_the_truth_of_this_sound() -> None:
    truth, other = coordinates(speech(8)), coordinates(np.roll(speech(8), 10, axis=1))
    own = coordinates(speech(8, seed=1))
    assert judged(own, own, truth).energy < 0.5 * judged(other, other, truth).energy


def test_draws_score_better_than_their_mean() -> None:
    """Speakers open more and less: to do as one or another does is right, to do as none is not."""
    rng = np.random.default_rng(4)

    def draws() -> torch.Tensor:
        weights = np.zeros((200, 40, 5))
        weights[..., JAW] = rng.normal(0.2, 0.03, 200)[:, None]
        return coordinates(weights)

    mean = torch.full_like(draws(), 0.0) + draws().mean(0)
    assert judged(draws(), draws(), draws()).energy < 0.85 * judged(mean, mean, draws()).energy
    # Guidance asks for what is likely rather than for all that could be.
    assert judged(mean, mean, draws(), 2.5).energy < 0.95 * judged(draws(), draws(), draws(), 2.5).energy


@pytest.mark.parametrize(("guidance", "times"), [(1.0, 1.5), (USUAL, 1.0), (3.0, 0.5)])
def test_nothing_is_gained_beyond_the_distance_of_two_draws(guidance: float, times: float) -> None:
    score = MouthScore(MODEL, lips(), apart=1.0)

    def jaws(value: float) -> torch.Tensor:
        weights = np.zeros((1, 40, 5))
        weights[..., JAW] = value
        return score._windows(score._shown(coordinates(weights)))[0]

    def reward(value: float) -> float:
        spread = distance(jaws(0.2), jaws(0.2 + value))
        return float(score._reward(spread, truth, torch.tensor([guidance])).mean())

    truth = torch.stack([jaws(0.2), jaws(0.28)])
    usual = float(distance(*truth).mean())
    assert reward(0.5) == pytest.approx(times * usual) and reward(0.3) == pytest.approx(times * usual)
    # Below that it is the energy score's, whatever the guidance.
    assert reward(0.03) == pytest.approx(float(distance(jaws(0.2), jaws(0.23)).mean()))


def test_the_sliced_distance_sees_jitter() -> None:
    rng = np.random.default_rng(3)
    truth = coordinates(speech(8))
    smooth, shaking = speech(8, seed=1), speech(8, seed=2)
    shaking[..., JAW] += 0.05 * rng.normal(size=(8, 40))
    calm, jittery = (coordinates(weights) for weights in (smooth, shaking))
    start = jittery.requires_grad_()
    found = judged(start, start, truth).sliced
    assert judged(calm, calm, truth).sliced < 0.5 * found
    (slope,) = torch.autograd.grad(found, start)
    assert float((slope[..., JAW] * (calm - start.detach())[..., JAW]).sum()) < 0.0


def test_the_score_does_not_see_the_upper_face() -> None:
    weights = speech(2)
    before = judged(*[coordinates(weights)] * 2, coordinates(speech(2, seed=5)))
    weights[..., BROW:] = np.random.default_rng(0).uniform(0.0, 1.0, (2, 40, 2))
    after = judged(*[coordinates(weights)] * 2, coordinates(speech(2, seed=5)))
    assert float(after.total) == pytest.approx(float(before.total), rel=1e-4)


def test_other_expressions_have_no_mouth_to_compare() -> None:
    with pytest.raises(InputError, match="--mouth"):
        MouthScore(motion_model(["a", "b", "c", "d", "e"]), lips())


def test_the_lips_are_those_of_the_head() -> None:
    """The gap of the built-in head's lips is what its landmarks say of any face."""
    head = HeadModel.load(find_model("default").folder / "head")
    found, weights = lips_of(head), np.random.default_rng(0).uniform(0.0, 0.3, len(head.expression_names))
    person = head.bind()
    points = person.landmarks()
    basis = person.forward_basis(points, np.zeros(len(points), np.uint8))
    moved = (points + np.tensordot(weights - head.rest_expression, basis, axes=1)) * 250.0
    expected = (moved[[61, 62, 63], 1] - moved[[67, 66, 65], 1]).mean()
    assert found.gap.rest_mm + weights @ found.gap.per_unit_mm == pytest.approx(expected, abs=1e-3)
    assert 0.5 < found.gap.rest_mm < 1.5
    assert len(lid_openings(head)) == 2


def training(folder: Path, **changes: float) -> DistillTraining:
    model = motion_model()
    rng = np.random.default_rng(0)
    heard = [rng.normal(size=(60, 3)).astype(np.float16) for _ in range(2)]
    states = grid(model.schedule, (1, 2, 4, 8))
    teacher = Teacher(
        model,
        heard,
        states,
        timesteps=teacher_timesteps(states, 1, 2),
        guidance=(1.0, 2.5),
        clips=2,
        frames=40,
    )
    said = np.concatenate([speech(2)[:, :30]] * 2, axis=1)
    said[..., BROW:] += 0.1 * rng.normal(size=(2, 60, 2))
    faces = MotionData(heard, [said.astype(np.float16)] * 2)
    options = DistillOptions(steps=4, batch=2, crop=40, warm_up=4, uses=1e9, anchor=0, life=1.0, starts=0.0)
    told = DistillOptions(**{**options.__dict__, **changes})
    folder.mkdir()
    cache, held_out = Cache(folder / "cache", {}, keep=9), hold_out(teacher, 0, folder / "held_out.npz")
    return DistillTraining(
        model, [], cache, teacher, held_out, told, faces=faces,
        beginnings=faces if told.starts else None, lips=lips() if told.mouth else None,
    )  # fmt: skip


def test_the_mouth_joins_the_loss_and_the_teacher_recedes(tmp_path: Path) -> None:
    plain, mouthed = training(tmp_path / "a"), training(tmp_path / "b", mouth=0.5)
    without, found = plain.step(0), mouthed.step(0)
    assert found["life"].item() == pytest.approx(without["life"].item(), rel=1e-5)
    assert found["loss"].item() == pytest.approx((without["loss"] + 0.5 * found["mouth"]).item(), rel=1e-5)
    found["loss"].backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in mouthed.net.parameters())
    teachers, less = plain.step(1), mouthed.step(1)
    assert "mouth" not in less
    assert less["loss"].item() == pytest.approx(FOLLOWED * teachers["loss"].item(), rel=1e-5)


def test_beginnings_count_from_the_first_frame_and_middles_do_not(tmp_path: Path) -> None:
    """A student that is wrong in the first frames alone is told so where a recording begins."""
    for starts, sees in ((0.0, False), (1.0, True)):
        work = training(tmp_path / f"{starts}", mouth=0.5, starts=starts)
        found = work.step(0)
        assert ("life_start" in found) == sees
        walked = work._walked

        def late(*told: Any, walked: Any = walked) -> torch.Tensor:
            motion = walked(*told).clone()
            motion[:, :3] += 2.0
            return torch.as_tensor(motion)

        work._walked = late  # type: ignore[method-assign, assignment]
        wrong = work.step(0)
        for part in ("life_start" if sees else "life", "mouth"):
            assert (abs((wrong[part] - found[part]).item()) > 1e-3) == sees, part


def test_beginnings_go_with_their_share() -> None:
    with pytest.raises(ValueError, match="beginnings"):
        DistillTraining(
            MODEL, [], None, None, None, DistillOptions(life=1.0),  # type: ignore[arg-type]
            faces=MotionData([], []),
        )  # fmt: skip


def test_without_life_the_upper_face_stays_as_it_was(tmp_path: Path) -> None:
    work = training(tmp_path / "a", life=0.0, mouth=0.5)
    found = work.step(0)
    assert "life" not in found and found["held"].item() == pytest.approx(0.0, abs=1e-6)
    assert found["loss"].item() == pytest.approx(0.5 * found["mouth"].item(), rel=1e-4)
    with torch.no_grad():
        work.net.motion_out.bias[JAW] += 0.5
    moved = work.step(0)
    assert moved["held"].item() == pytest.approx(0.0, abs=1e-6)
    with torch.no_grad():
        work.net.motion_out.bias[BROW] += 0.5
    moved = work.step(0)
    assert moved["held"] > 1e-3
    assert moved["loss"].item() == pytest.approx(
        (HELD * moved["held"] + 0.5 * moved["mouth"]).item(), rel=1e-4
    )


def test_lips_go_with_a_weight_of_the_mouth() -> None:
    with pytest.raises(ValueError, match="lips are needed"):
        DistillTraining(
            MODEL, [], None, None, None, DistillOptions(life=1.0, mouth=1.0),  # type: ignore[arg-type]
            faces=MotionData([], []),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--mouth", "1"], "--init"),
        (["--mouth", "1", "--life", "1", "--produce", "1"], "--produce"),
        (["--starts", "0.5"], "--starts"),
        (["--life", "1", "--starts", "0.5", "--produce", "1"], "--starts"),
        (["--life", "1", "--starts", "2"], "--starts"),
        (["--life", "1", "--apart", "1"], "--apart"),
    ],
)
def test_a_mouth_that_does_nothing_is_refused(
    tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "audio").mkdir()
    place = ["--audio", str(tmp_path / "audio"), "--out", str(tmp_path / "run")]
    assert main(["distill", *place, *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()
