"""LSE-D and LSE-C of rendered faces, for those who have SyncNet's weights.

Network and scoring as published by Chung & Zisserman (2016) with their code of 2017, which Wav2Lip's
evaluation (Prajwal et al. 2020) uses. The weights (``syncnet_v2.model``) were trained on photographs: values
on renders of a synthetic head are only comparable with each other.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy as np
import torch
from scipy import fft
from torch import Tensor, nn
from torch.nn import functional

from facetalk.arrays import Float32, UInt8
from facetalk.audio.load import Source, load_audio
from facetalk.errors import InputError
from facetalk.metrics.inception import fit, read_tensors

FACE_SIZE = 224
SHIFT = 15
"""Largest offset in frames of 25 a second."""
_FRAMES, _MFCC_FRAMES, _MFCC_PER_FRAME = 5, 20, 4
_SAMPLES_PER_FRAME = 640
_BATCH = 8
_Size = int | tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class _Layer:
    """A convolution with batch normalisation and ReLU, and a pool behind it."""

    channels: int
    kernel: tuple[int, ...]
    stride: _Size = 1
    padding: _Size = 0
    pool: tuple[int, ...] | None = None
    pool_stride: _Size = 1
    pool_padding: _Size = 0


_SOUND = (
    _Layer(64, (3, 3), padding=1, pool=(1, 1)),
    _Layer(192, (3, 3), padding=1, pool=(3, 3), pool_stride=(1, 2)),
    _Layer(384, (3, 3), padding=1),
    _Layer(256, (3, 3), padding=1),
    _Layer(256, (3, 3), padding=1, pool=(3, 3), pool_stride=(2, 2)),
    _Layer(512, (5, 4)),
)
_HALF = (1, 2, 2)
_LIPS = (
    _Layer(96, (5, 7, 7), _HALF, pool=(1, 3, 3), pool_stride=_HALF),
    _Layer(256, (1, 5, 5), _HALF, (0, 1, 1), pool=(1, 3, 3), pool_stride=_HALF, pool_padding=(0, 1, 1)),
    _Layer(256, (1, 3, 3), padding=(0, 1, 1)),
    _Layer(256, (1, 3, 3), padding=(0, 1, 1)),
    _Layer(256, (1, 3, 3), padding=(0, 1, 1), pool=(1, 3, 3), pool_stride=_HALF),
    _Layer(512, (1, 6, 6)),
)


def _stack(channels: int, layers: tuple[_Layer, ...]) -> nn.Sequential:
    """The layers in a row; the weights' names are their places in it."""
    flat = len(layers[0].kernel) == 2
    conv: Any = nn.Conv2d if flat else nn.Conv3d
    norm: Any = nn.BatchNorm2d if flat else nn.BatchNorm3d
    pool: Any = nn.MaxPool2d if flat else nn.MaxPool3d
    out: list[nn.Module] = []
    for layer in layers:
        out.append(conv(channels, layer.channels, layer.kernel, stride=layer.stride, padding=layer.padding))
        out += [norm(layer.channels), nn.ReLU()]
        if layer.pool is not None:
            out.append(pool(layer.pool, stride=layer.pool_stride, padding=layer.pool_padding))
        channels = layer.channels
    return nn.Sequential(*out)


def _head() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 1024))


class SyncNet(nn.Module):
    """SyncNet: 5 frames of a face and 20 MFCC frames (200 ms) to 1024 numbers each."""

    def __init__(self) -> None:
        super().__init__()
        self.netcnnaud, self.netfcaud = _stack(1, _SOUND), _head()
        self.netcnnlip, self.netfclip = _stack(3, _LIPS), _head()

    def embed_sound(self, mfcc: Tensor) -> Tensor:
        """(N, 1, 13, 20) -> (N, 1024)."""
        out: Tensor = self.netfcaud(self.netcnnaud(mfcc).flatten(1))
        return out

    def embed_faces(self, faces: Tensor) -> Tensor:
        """(N, 3, 5, 224, 224) BGR in 0 to 255 -> (N, 1024)."""
        out: Tensor = self.netfclip(self.netcnnlip(faces).flatten(1))
        return out

    @classmethod
    def load(cls, file: str | os.PathLike[str]) -> SyncNet:
        """Read ``syncnet_v2.model``; nothing in the file is executed.

        Raises:
            InputError: there is no such file, or it holds something else.
        """
        module = cls()
        fit(module, read_tensors(file, "SyncNet's syncnet_v2.model"), file, "SyncNet (syncnet_v2.model)")
        return module.eval().requires_grad_(False)

    @torch.inference_mode()
    def score(self, audio: Source, faces: UInt8) -> dict[str, float]:
        """LSE-D and LSE-C of a clip.

        Args:
            audio: path of a recording, or ``(samples, rate)``.
            faces: (T, 224, 224, 3) uint8 RGB at 25 frames a second, as
                :func:`facetalk.metrics.images.face_crops` draws them.

        Returns:
            ``lse_d``: smallest mean distance over 31 offsets; ``lse_c``: the median of these minus it;
            ``offset_frames``: by how many frames the face comes after the sound at the smallest;
            ``distance``: mean distance at offset 0, since LSE-D cannot see a constant delay. Ends are padded
            with zeros, as published.

        Raises:
            InputError: pictures of another shape, or less than 0.28 s of them with sound.
        """
        if faces.ndim != 4 or faces.shape[1:] != (FACE_SIZE, FACE_SIZE, 3) or faces.dtype != np.uint8:
            raise InputError(f"faces must be (T, 224, 224, 3) uint8, got {faces.shape} {faces.dtype}")
        samples = load_audio(audio)
        spectra = mfcc(samples)
        count = min(len(faces), len(samples) // _SAMPLES_PER_FRAME) - _FRAMES
        if count < 2:
            raise InputError(f"SyncNet needs at least {_FRAMES + 2} frames with sound, got {count + _FRAMES}")
        bgr = np.ascontiguousarray(faces[..., ::-1].transpose(3, 0, 1, 2))
        seen, heard = [], []
        for start in range(0, count, _BATCH):
            windows = range(start, min(start + _BATCH, count))
            pictures = np.stack([bgr[:, i : i + _FRAMES] for i in windows]).astype(np.float32)
            sounds = np.stack(
                [spectra[None, _MFCC_PER_FRAME * i :][:, :_MFCC_FRAMES].transpose(0, 2, 1) for i in windows]
            )
            seen.append(self.embed_faces(torch.from_numpy(pictures)))
            heard.append(self.embed_sound(torch.from_numpy(np.ascontiguousarray(sounds))))
        faces_code = torch.cat(seen)
        padded = functional.pad(torch.cat(heard), (0, 0, SHIFT, SHIFT))
        means = torch.stack(
            [
                functional.pairwise_distance(faces_code, padded[k : k + count]).mean()
                for k in range(2 * SHIFT + 1)
            ]
        )
        best = int(means.argmin())
        return {
            "lse_d": float(means[best]),
            "lse_c": float(means.median() - means[best]),
            "offset_frames": float(SHIFT - best),
            "distance": float(means[SHIFT]),
        }


def mfcc(samples: Float32) -> Float32:
    """Mel cepstra as SyncNet was trained on: those of python_speech_features with its defaults.

    Args:
        samples: (N,) 16 kHz mono in [-1, 1].

    Returns:
        (F, 13) float32 at 100 Hz: 25 ms frames without a window, pre-emphasis 0.97 at 16-bit scale, 26 mel
        bands up to 8 kHz, orthonormal DCT, lifter 22, the first coefficient replaced by the log energy.
    """
    signal = np.asarray(samples, np.float64) * 32768.0
    signal = np.append(signal[:1], signal[1:] - 0.97 * signal[:-1])
    count = 1 + max(0, -(-(len(signal) - 400) // 160))
    signal = np.pad(signal, (0, max(0, (count - 1) * 160 + 400 - len(signal))))
    frames = np.lib.stride_tricks.sliding_window_view(signal, 400)[::160][:count]
    power = np.abs(np.fft.rfft(frames, 512)) ** 2 / 512
    mel = np.linspace(0.0, 2595.0 * np.log10(1.0 + 8000.0 / 700.0), 28)
    bins = np.floor(513 * 700.0 * (10.0 ** (mel / 2595.0) - 1.0) / 16000.0)
    index = np.arange(257)
    rising = (index - bins[:-2, None]) / np.maximum(bins[1:-1] - bins[:-2], 1.0)[:, None]
    falling = (bins[2:, None] - index) / np.maximum(bins[2:] - bins[1:-1], 1.0)[:, None]
    bank = np.where(index < bins[1:-1, None], rising, falling).clip(0.0)
    tiny = np.finfo(np.float64).eps
    bands, energy = power @ bank.T, power.sum(1)
    cepstra = fft.dct(np.log(np.where(bands == 0, tiny, bands)), type=2, axis=1, norm="ortho")[:, :13]
    cepstra *= 1.0 + 11.0 * np.sin(np.pi * np.arange(13) / 22.0)
    cepstra[:, 0] = np.log(np.where(energy == 0, tiny, energy))
    return cepstra.astype(np.float32)
