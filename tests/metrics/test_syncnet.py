"""SyncNet as published: its cepstra, its sizes, its scoring; the weights themselves are not at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from facetalk.errors import InputError
from facetalk.metrics.syncnet import FACE_SIZE, SyncNet, mfcc

# Frames 0 and 7 of mfcc(round(9000 sin(0.05 i) + 4000 sin(0.9 i)), 16000), i < 2000, of
# python_speech_features 0.6.
CEPSTRA = [[20.9094, -3.9352, -15.5337, 40.0161], [20.9088, 4.2444, -21.7104, 34.5779]]


def test_cepstra() -> None:
    index = np.arange(2000)
    wave = np.round(9000 * np.sin(0.05 * index) + 4000 * np.sin(0.9 * index))
    found = mfcc((wave / 32768).astype(np.float32))
    assert found.shape == (11, 13)
    np.testing.assert_allclose(found[[0, 7], :4], CEPSTRA, atol=2e-3)
    assert np.isfinite(mfcc(np.zeros(1000, np.float32))).all()


def test_sizes_are_those_of_the_published_weights() -> None:
    shapes = {name: tuple(value.shape) for name, value in SyncNet().state_dict().items()}
    assert shapes["netcnnaud.18.weight"] == (512, 256, 5, 4)
    assert shapes["netcnnlip.0.weight"] == (96, 3, 5, 7, 7)
    assert shapes["netcnnlip.18.weight"] == (512, 256, 1, 6, 6)
    assert shapes["netfcaud.3.weight"] == shapes["netfclip.3.weight"] == (1024, 512)
    with torch.inference_mode():
        network = SyncNet().eval()
        assert network.embed_sound(torch.zeros(2, 1, 13, 20)).shape == (2, 1024)
        assert network.embed_faces(torch.zeros(1, 3, 5, FACE_SIZE, FACE_SIZE)).shape == (1, 1024)


class Loudness(SyncNet):
    """Stands in for the network: faces carry the loudness of the sound in their blue channel."""

    def embed_sound(self, mfcc: torch.Tensor) -> torch.Tensor:
        return mfcc[:, 0, 0, :1].repeat(1, 1024)

    def embed_faces(self, faces: torch.Tensor) -> torch.Tensor:
        return faces[:, 0, 0, 0, :1].repeat(1, 1024) / 8.0


@pytest.mark.parametrize("late", [-4, 0, 3])
def test_offsets_and_distances(late: int) -> None:
    rng = np.random.default_rng(0)
    loud = np.repeat(rng.uniform(0.02, 0.9, 80), 640)
    samples = (loud * rng.normal(0, 0.3, len(loud)).clip(-1, 1)).astype(np.float32)
    level = mfcc(samples)[::4, 0][:75]
    faces = np.zeros((75, FACE_SIZE, FACE_SIZE, 3), np.uint8)
    shown = level[np.clip(np.arange(75) - late, 0, 74)]
    faces[..., 2] = np.round(8 * shown)[:, None, None]
    score = Loudness().score((samples, 16000), faces)
    assert score["offset_frames"] == late
    assert score["lse_d"] <= score["distance"] and score["lse_c"] > 1.0
    assert (score["lse_d"] == score["distance"]) == (late == 0)


def test_bad_input(tmp_path: Path) -> None:
    sound = (np.zeros(16000, np.float32), 16000)
    with pytest.raises(InputError, match="faces must be"):
        SyncNet().score(sound, np.zeros((20, 64, 64, 3), np.uint8))
    with pytest.raises(InputError, match="at least 7 frames"):
        SyncNet().score(sound, np.zeros((6, FACE_SIZE, FACE_SIZE, 3), np.uint8))
    with pytest.raises(InputError, match="no file"):
        SyncNet.load(tmp_path / "syncnet_v2.model")
    torch.save({"netcnnaud.0.weight": torch.zeros(3)}, tmp_path / "syncnet_v2.model")
    with pytest.raises(InputError, match=r"it lacks netcnnaud\.0\.bias"):
        SyncNet.load(tmp_path / "syncnet_v2.model")
