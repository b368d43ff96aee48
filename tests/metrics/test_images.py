"""Rendered mouths and their distances, with the features that travel with the package, and Inception's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.ndimage import gaussian_filter1d
from truth import TEXTS, speech

from facetalk import ops
from facetalk.data.expressions import INDEX
from facetalk.data.visemes import curves
from facetalk.errors import InputError
from facetalk.metrics.image_features import FEATURES, MouthFeatures
from facetalk.metrics.images import face_crops, image_distances, mouth_crops
from facetalk.metrics.inception import InceptionFeatures
from facetalk.motion import Motion
from facetalk.pipeline import FaceTalk


class Studio:
    """Draws expression codes of the default head."""

    def __init__(self) -> None:
        self.model = FaceTalk.from_pretrained(device="cpu")
        self.rest = self.model.landmarks(self.motion(np.zeros((1, 53))))[0]

    def motion(self, weights: np.ndarray) -> Motion:
        return Motion(weights.astype(np.float32), 25.0, np.zeros(0, np.float32))

    def mouths(self, weights: np.ndarray) -> np.ndarray:
        return mouth_crops(self.model.decode(self.motion(weights)), self.rest)


@pytest.fixture(scope="module")
def studio() -> Studio:
    return Studio()


@pytest.fixture(scope="module")
def weights() -> np.ndarray:
    said = speech(TEXTS[0])
    return curves(said.phones, len(said.samples) / 16000, 25.0, alphabet=said.alphabet)


@pytest.fixture(scope="module")
def pictures(studio: Studio, weights: np.ndarray) -> np.ndarray:
    return studio.mouths(weights[::4])


def test_crops_show_the_mouth(studio: Studio) -> None:
    codes = np.zeros((2, 53))
    codes[1, INDEX["jawOpen"]] = 0.5
    closed, opened = studio.mouths(codes)
    assert closed.shape == (64, 64, 3) and closed.dtype == np.uint8
    change = np.abs(closed.astype(int) - opened).sum(2)
    assert (change > 30).mean() > 0.1
    # Dark between the lips, a little below the middle, and nowhere else as dark as that.
    assert opened[28:40, 26:38].mean() < 0.75 * closed[28:40, 26:38].mean()


def test_crops_are_the_same_however_they_are_drawn(studio: Studio, weights: np.ndarray) -> None:
    some = weights[10:14]
    rig = studio.model.decode(studio.motion(some))
    before = ops.threads()
    try:
        ops.set_threads(1)
        one = mouth_crops(rig, studio.rest)
        ops.set_threads(2)
        two = mouth_crops(rig, studio.rest)
    finally:
        ops.set_threads(before)
    np.testing.assert_array_equal(one, two)
    apart = mouth_crops((mesh for mesh in rig), studio.rest)
    # The same meshes one by one: their vertices are chosen anew in each frame, far from what is seen.
    assert np.abs(apart.astype(int) - one).max(axis=3).mean() < 0.5


def test_faces_are_whole(studio: Studio) -> None:
    face = face_crops(studio.model.decode(studio.motion(np.zeros((1, 53)))), studio.rest, size=96)[0]
    background = face[-4:, :8].reshape(-1, 3).mean(0)  # a corner below the neck
    away = np.abs(face - background).max(axis=2)
    assert away[-4:, -8:].max() < 20
    # Forehead, both cheeks, chin.
    for row, column in ((8, 48), (45, 28), (45, 68), (70, 48)):
        assert away[row, column] > 40


@pytest.mark.parametrize(
    ("rest", "size", "message"),
    [
        (np.zeros((68, 3)), 64, "in metres"),
        (np.zeros((20, 3)), 64, "68 finite"),
        (np.full((68, 3), np.inf), 64, "68 finite"),
        (None, 8, "pixels"),
    ],
)
def test_bad_framing(studio: Studio, rest: np.ndarray | None, size: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        mouth_crops([], studio.rest if rest is None else rest, size=size)
    with pytest.raises(InputError, match="no frames"):
        mouth_crops([], studio.rest)


def test_distances_tell_worse_mouths_from_truth(
    studio: Studio, weights: np.ndarray, pictures: np.ndarray
) -> None:
    same = image_distances(pictures, pictures)
    assert same["features"] == "mouth-ae" and same["pictures"] == len(pictures)
    # KID leaves pairs of a picture with itself out within a set, not between sets: below 0 for equal ones.
    assert abs(same["fid"]) < 1e-3 and same["kid"] < 1e-4
    again = image_distances(pictures, studio.mouths(weights[1::4]))
    smoothed = image_distances(pictures, studio.mouths(gaussian_filter1d(weights, 3.0, axis=0)[1::4]))
    frozen = image_distances(pictures, np.repeat(pictures[:1], len(pictures), axis=0))
    for key in ("fid", "kid"):
        assert again[key] < smoothed[key] < frozen[key]
    assert again["fid"] < 0.5 * smoothed["fid"]
    assert image_distances(pictures, studio.mouths(weights[1::4])) == again


class Flat(torch.nn.Module):
    """A few pixels as features."""

    num_features = 5
    name = "five pixels"

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures.flatten(1)[:, :: pictures[0].numel() // 4][:, :5].double()


def test_the_distance_is_frechets() -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(0, 200, (300, 6, 6, 3), dtype=np.uint8)
    b = rng.integers(30, 256, (200, 6, 6, 3), dtype=np.uint8)
    found = image_distances(a, b, features=Flat())
    x, y = (Flat()(torch.from_numpy(v.transpose(0, 3, 1, 2).copy())).numpy() for v in (a, b))
    s, t = np.cov(x.T), np.cov(y.T)
    wanted = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s + t - 2 * np.real(sqrtm(s @ t)))
    assert found["fid"] == pytest.approx(wanted, rel=1e-4) and found["features"] == "five pixels"


@pytest.mark.parametrize(
    "bad", [np.zeros((1, 64, 64, 3), np.uint8), np.zeros((4, 64, 64, 3)), np.zeros((4, 64, 64), np.uint8)]
)
def test_bad_pictures(pictures: np.ndarray, bad: np.ndarray) -> None:
    with pytest.raises(InputError, match="at least two pictures"):
        image_distances(pictures, bad)


def test_features_as_files(pictures: np.ndarray, tmp_path: Path) -> None:
    features = MouthFeatures.from_pretrained()
    features.save(tmp_path / "one")
    again = MouthFeatures.from_pretrained(tmp_path / "one")
    batch = torch.from_numpy(pictures[:4].transpose(0, 3, 1, 2).copy())
    with torch.inference_mode():
        assert features(batch).shape == (4, FEATURES)
        torch.testing.assert_close(again(batch), features(batch), rtol=0.02, atol=0.02)
        large = torch.nn.functional.interpolate(batch.float(), scale_factor=2, mode="nearest")
        torch.testing.assert_close(features(large), features(batch), rtol=0.3, atol=0.3)
    for content, message in (("{", "damaged"), (json.dumps({"format": "x"}), "is not ")):
        (tmp_path / "one" / "settings.json").write_text(content)
        with pytest.raises(InputError, match=message):
            MouthFeatures.from_pretrained(tmp_path / "one")
    with pytest.raises(InputError, match="holds no mouth features"):
        MouthFeatures.from_pretrained(tmp_path)


def test_inception_from_a_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = InceptionFeatures()
    tensors = {**module.state_dict(), "fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    # Sizes of pytorch-fid's file: 94 convolutions, each with five tensors and a counter; 21.8 M weights
    # without the classifier.
    assert sum(name.endswith("conv.weight") for name in tensors) == 94
    weights = [value for name, value in module.state_dict().items() if name.endswith(("weight", "bias"))]
    assert sum(value.numel() for value in weights) == 21_785_568
    file = tmp_path / "inception.pth"
    torch.save(tensors, file)
    loaded = InceptionFeatures.load(file)
    with torch.inference_mode():
        out = loaded(torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8))
    assert out.shape == (1, 2048) and bool(torch.isfinite(out).all())
    del tensors["Mixed_6b.branch7x7_2.conv.weight"]
    torch.save(tensors, file)
    with pytest.raises(InputError, match=r"lacks Mixed_6b.branch7x7_2.conv.weight"):
        InceptionFeatures.load(file)


def test_bad_weights(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("no weights")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    (tmp_path / "empty.pth").touch()
    for name, message in (
        ("none.pth", "no file"),
        ("text.pth", "not a file of weights"),
        ("empty.pth", "not a file of weights"),
        ("list.pth", "no table of tensors"),
        ("other.pth", "is not the Inception of pytorch-fid: it lacks"),
    ):
        with pytest.raises(InputError, match=message):
            InceptionFeatures.load(tmp_path / name)
