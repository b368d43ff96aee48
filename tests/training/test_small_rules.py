"""Rules of trainings that a run of seconds does not show."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from chance import Chance

from facetalk.data.expressions import EXPRESSION_NAMES
from facetalk.data.heads.samples import SurfaceSampler
from facetalk.errors import InputError
from facetalk.training import checkpoint
from facetalk.training.audio.augment import noise
from facetalk.training.motion.distill_cache import Cache, Clips
from facetalk.training.mouth import train as mouth_train
from facetalk.training.sync.dataset import MouthRig
from facetalk.training.sync.train import SyncTraining
from facetalk.units import SAMPLE_RATE


def test_a_damaged_checkpoint_is_ours_only_where_everything_in_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(folder: Path) -> bool:
        raise InputError("damaged")

    monkeypatch.setattr(checkpoint, "_is_checkpoint", damaged)
    (tmp_path / "optimizer.bin").touch()
    assert checkpoint._is_ours(tmp_path)
    (tmp_path / "notes.txt").touch()
    assert not checkpoint._is_ours(tmp_path)


def test_hum_is_of_50_or_60_hertz() -> None:
    class Sixty(Chance):
        def choice(self, options: Any) -> Any:
            assert list(options) == [50.0, 60.0]
            return options[1]

    power = np.abs(np.fft.rfft(noise(SAMPLE_RATE, Sixty([0.1])))) ** 2  # type: ignore[arg-type]
    assert power[60] > 10 * np.median(power[40:80]) and power[50] < 10 * np.median(power[40:80])


def test_a_rig_measures_the_default_identity_first_and_others_within_reason() -> None:
    asked: list[np.ndarray] = []

    class Model:
        head = SimpleNamespace(
            expression_names=EXPRESSION_NAMES,
            default_identity=np.zeros(100),
            encode_identity=lambda c: np.asarray(c),
        )

        def landmarks(self, motion: Any) -> np.ndarray:
            asked.append(np.asarray(motion.identity))
            still = np.arange(68.0)[None, :, None] + len(asked)
            return np.asarray(still + motion.expressions.sum(1)[:, None, None] * np.ones(3), np.float32)

    rig = MouthRig.of(Model(), 3, seed=1)  # type: ignore[arg-type]
    assert not asked[0].any() and all(0.3 < a.std() < 0.9 and np.abs(a).max() <= 1.6001 for a in asked[1:])
    assert rig.neutral.shape == (3, 20, 3) and rig.basis.shape == (3, 53, 20, 3)
    np.testing.assert_allclose(rig.template[:, 0], np.arange(68) + 1)
    np.testing.assert_allclose(rig.neutral[2, :, 0], np.arange(48, 68) + 3)
    np.testing.assert_allclose(rig.basis, 1.0, atol=1e-5)
    weights = np.zeros((2, 53))
    weights[1, :3] = 0.5
    np.testing.assert_allclose(rig.mouth(weights)[:, 0, 0], [49.0, 50.5], atol=1e-5)
    np.testing.assert_allclose(rig.mouth(weights, 2)[:, 0, 0], [51.0, 52.5], atol=1e-5)
    odd = SimpleNamespace(head=SimpleNamespace(expression_names=("a",)))
    with pytest.raises(InputError, match="other expressions"):
        MouthRig.of(odd, 1)  # type: ignore[arg-type]


def test_settings_of_the_sync_expert() -> None:
    told = SyncTraining(Path("c"), Path("o"))
    assert (told.batch, told.variants, told.faces, told.identities, told.learning_rate) == (
        24,
        3,
        3,
        16,
        2e-3,
    )


def test_features_are_measured_on_changes_of_the_truth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoken = SimpleNamespace(phones=[("AA", 0.0, 1.0), ("B", 1.0, 2.0)], alphabet="arpabet")
    durations: list[float] = []

    def curves(phones: Any, seconds: float, fps: float, *, alphabet: str, rng: Any) -> np.ndarray:
        durations.append(seconds)
        return np.repeat(rng.uniform(0, 0.9, (50, 1)), 53, axis=1).astype(np.float32)

    seen: list[np.ndarray] = []
    monkeypatch.setattr(mouth_train, "curves", curves)
    monkeypatch.setattr(mouth_train, "_rest", lambda *_: None)
    monkeypatch.setattr(mouth_train, "mouth_crops", lambda meshes, rest: meshes)
    monkeypatch.setattr(
        mouth_train,
        "image_distances",
        lambda truth, other, features, seed: seen.append(other) or {"seed": seed},
    )
    model = SimpleNamespace(
        head=SimpleNamespace(default_identity=np.zeros(3)), decode=lambda motion: motion.expressions
    )
    rows = mouth_train.measure(None, [spoken], model, 60, 7)  # type: ignore[arg-type]
    assert durations == [2.0] * 4 and rows["half"] == {
        "seed": 7
    }  # gone through until there are enough frames
    again, smooth, half, doubled, frozen = seen
    assert all(len(part) == 60 for part in seen)
    np.testing.assert_allclose(half, 0.5 * again)
    np.testing.assert_allclose(doubled, np.clip(2 * again, 0, 1))
    assert frozen.std(0).max() < 1e-6 and smooth.std() < 0.6 * again.std()
    with pytest.raises(InputError, match="at least 2 pictures"):
        mouth_train.measure(None, [spoken], model, 1, 7)  # type: ignore[arg-type]
    asked: list[Any] = []
    monkeypatch.setattr(mouth_train.MouthFeatures, "from_pretrained", lambda folder: None)
    monkeypatch.setattr(mouth_train, "read", lambda manifest, split: asked.append(split) or [])
    monkeypatch.setattr(mouth_train, "with_phones", lambda items: items)
    monkeypatch.setattr(mouth_train, "measure", lambda *_: {})
    told = mouth_train.validate_folder(tmp_path, tmp_path / "m.jsonl", model, split="valid", count=9, seed=1)  # type: ignore
    assert asked == ["valid"] and told == {
        "manifest": "m.jsonl", "split": "valid", "seed": 1, "pictures": 9, "distances": {},
    }  # fmt: skip


def test_a_shard_that_somebody_removed_is_no_harm(tmp_path: Path) -> None:
    cache = Cache(tmp_path, {}, keep=1)
    clips = Clips(np.zeros((1, 4, 2), np.float16), np.zeros((1, 2, 4, 3), np.float16), np.ones(1, np.float32))
    cache.add(clips, 0, 0)
    cache.refresh()
    cache.add(clips, 0, 1)
    (tmp_path / "000-0000000.npz").unlink()
    cache.refresh()
    assert cache.shards_made == 2 and [p.name for p in tmp_path.glob("*.npz")] == ["000-0000001.npz"]


def test_points_are_drawn_densest_at_lips_and_lids_and_nowhere_below_the_neck(synthetic_data: Path) -> None:
    from facetalk.data.heads.ict import MorphableHead
    from facetalk.nphm.head.parts import Part

    head = MorphableHead.load(synthetic_data)
    sampler = SurfaceSampler(head)
    shape, middle = head.canonical(), head.canonical()[head.faces].mean(1)
    below = (middle - head.neck_point) @ head.neck_normal < -0.02
    assert not sampler.importance[below].any() and sampler.importance.max() > 24.0
    lips = np.isin(head.faces, head.landmark_ids[60:68]).any(1) & (head.face_part == Part.SKIN)
    back = (middle[:, 2] < 0) & (head.face_part == Part.SKIN) & ~below
    assert sampler.importance[lips].min() > 15.0
    assert sampler.importance[back].min() == pytest.approx(1.0, abs=0.6)
    nose = sampler._closeness(head.landmark_ids[27:36], 0.12)
    plain = (np.stack([sampler.lips, sampler.lids, nose]).max(0) == 0.0) & (shape[:, 2] > 0.11)
    ears = shape[head.anchor_ids[[20, 21]]] + np.array([0.0, 0.01, -0.03])
    arms = (shape[:, None] - ears) * np.array([0.3, 1.0, 1.0])
    plain &= np.linalg.norm(arms, axis=-1).min(1) > 0.13
    front = plain[head.faces].all(1) & (head.face_part == Part.SKIN) & ~below
    front[head.part_faces("mouth_socket")] = False
    assert front.sum() > 3
    np.testing.assert_allclose(sampler.importance[front], 4.0, rtol=1e-5)
    np.testing.assert_allclose(sampler.lips[head.landmark_ids[48:68]], 1.0)
    np.testing.assert_allclose(sampler.lids[head.landmark_ids[36:48]], 1.0)
    reach = np.linalg.norm(shape[:, None] - shape[head.landmark_ids[48:68]], axis=-1).min(1)
    np.testing.assert_allclose(sampler.lips, np.clip(1 - reach / 0.1, 0, 1), atol=1e-5)
    for name in ("sclera_left", "sclera_right"):
        span = head.part_faces(name)
        front = middle[span][:, 2] > shape[head.part_vertices(name)].mean(0)[2]
        np.testing.assert_array_equal(sampler.importance[span], np.where(front, 24.0, 0.0))
    points = sampler.draw(20_000, np.random.default_rng(0))
    np.testing.assert_allclose(points.weights.sum(1), 1.0, atol=1e-5)
    assert points.weights.min() >= 0.0
    np.testing.assert_allclose(points.weights.mean(0), 1 / 3, atol=0.01)
    counts = np.zeros(len(head.faces))
    where = {tuple(face): number for number, face in enumerate(head.faces.tolist())}
    for corners in points.corners.tolist():
        counts[where[tuple(corners)]] += 1
    sides = shape[head.faces]
    area = np.linalg.norm(np.cross(sides[:, 1] - sides[:, 0], sides[:, 2] - sides[:, 0]), axis=1)
    share = area * sampler.importance
    assert np.corrcoef(counts, share)[0, 1] > 0.95
