"""What the sync expert sees and computes: mouth landmarks and log-mel spectra into one space.

Two temporal convolutional networks without padding read 16 frames (640 ms) each, so one pass over a clip
gives the embeddings of all its windows. Both inputs are freed of what says nothing about timing: a clip's
mean face and its amplitude, a microphone's colour and its gain.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from facetalk.arrays import AnyFloat, Float32, Float64
from facetalk.audio.mel import MEL_RATE
from facetalk.audio.mel_bands import MEL_BANDS
from facetalk.multi_pie import MOUTH

SYNC_FPS = 25
"""Frame rate at which motion and sound are compared."""
WINDOW = 16
"""Frames in a window."""
MEL_PER_FRAME = MEL_RATE // SYNC_FPS
STABLE = (27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 39, 42, 45)
"""Nose and corners of the eyes: speech hardly moves them, so they tell the pose of the head."""
LEAST_MM = 0.25
"""A mouth that moves less than this (rms) is not scaled up: stillness stays stillness."""
_VELOCITY_SCALE = 2.0
_MEL_SCALE = 1.0 / 15.0


@dataclasses.dataclass(frozen=True)
class SyncConfig:
    """Sizes of the two networks."""

    motion_width: int = 80
    audio_width: int = 80
    embedding: int = 128


class _Norm(nn.LayerNorm):
    """Layer normalisation over the channels of every step of a (B, C, T) sequence."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, T) -> (B, C, T)."""
        return super().forward(input.transpose(1, 2)).transpose(1, 2)


class _Residual(nn.Module):
    """Three taps with a dilation, no padding: 2 * dilation steps fewer come out."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.norm = _Norm(width)
        self.conv = nn.Conv1d(width, width, 3, dilation=dilation)
        self.dilation = dilation

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, C, T - 2 dilation)."""
        out: Tensor = self.conv(functional.gelu(self.norm(x)))
        return x[..., self.dilation : -self.dilation] + out


class SyncNetworks(nn.Module):
    """Motion and sound to unit vectors that are close where the two belong together.

    The audio network looks at 64 spectra of 10 ms, the motion network at 16 frames: the same 640 ms.
    """

    def __init__(self, config: SyncConfig) -> None:
        super().__init__()
        self.config = config
        m, a, e = config.motion_width, config.audio_width, config.embedding
        inputs = 2 * 3 * len(MOUTH)
        # Receptive fields: 3 + 2 (2 + 2 + 2) + 1 = 16 frames.
        self.motion = nn.Sequential(
            nn.Conv1d(inputs, m, 3), _Residual(m, 2), _Residual(m, 2), _Residual(m, 2),
            _Norm(m), nn.GELU(), nn.Conv1d(m, e, 2),
        )  # fmt: skip
        # 6, then 12 spectra in steps of 4; (1 + 2 + 2) * 8 and 3 * 4 more: 64.
        self.audio = nn.Sequential(
            nn.Conv1d(MEL_BANDS, a, 6, stride=2), _Norm(a), nn.GELU(), nn.Conv1d(a, a, 4, stride=2),
            _Residual(a, 1), _Residual(a, 2), _Residual(a, 2),
            _Norm(a), nn.GELU(), nn.Conv1d(a, e, 4),
        )  # fmt: skip
        self.log_scale = nn.Parameter(torch.tensor(float(np.log(10.0))))

    def embed_motion(self, features: Tensor) -> Tensor:
        """(B, T, 120) motion features -> (B, T - 15, E) unit vectors; row i starts at frame i."""
        return functional.normalize(self.motion(features.transpose(1, 2)).transpose(1, 2), dim=-1)

    def embed_audio(self, features: Tensor) -> Tensor:
        """(B, 4 T, 80) audio features -> (B, T - 15, E) unit vectors; row i starts at frame i."""
        return functional.normalize(self.audio(features.transpose(1, 2)).transpose(1, 2), dim=-1)


def stabilise(landmarks: AnyFloat, template: AnyFloat) -> Float64:
    """Take the motion of the head out of landmarks.

    Args:
        landmarks: (T, 68, 3) metres.
        template: (68, 3) metres: a face at rest that looks along +z.

    Returns:
        (T, 68, 3): every frame turned and moved so that nose and eye corners meet the template's best
        (least squares without scale, Kabsch 1976).
    """
    points = np.asarray(landmarks, np.float64)
    anchor = np.asarray(template, np.float64)[list(STABLE)]
    seen = points[:, list(STABLE)]
    middle, target = seen.mean(1, keepdims=True), anchor.mean(0)
    u, _, vt = np.linalg.svd(np.swapaxes(seen - middle, 1, 2) @ (anchor - target))
    handed = np.ones((len(points), 3))
    handed[:, 2] = np.sign(np.linalg.det(u @ vt))
    rotation = (u * handed[:, None]) @ vt
    return np.asarray((points - middle) @ rotation + target)


def motion_features(mouth: AnyFloat) -> Float32:
    """Features of a clip's mouth.

    Args:
        mouth: (T, 20, 3) landmarks 48 to 67 of a still head, metres.

    Returns:
        (T, 120) float32: displacement from the clip's mean and its change per frame, divided by the rms
        displacement of the clip, so that a mouth that moves twice as much gives the same features.
    """
    moved = (np.asarray(mouth, np.float64) - np.mean(mouth, axis=0)) * 1000.0
    size = float(np.sqrt((moved**2).sum(-1).mean()))
    flat = moved.reshape(len(moved), -1) / max(size, LEAST_MM)
    speed = np.gradient(flat, axis=0) if len(flat) > 1 else np.zeros_like(flat)
    return np.concatenate([flat, _VELOCITY_SCALE * speed], axis=1).astype(np.float32)


def audio_features(spectra: AnyFloat) -> Float32:
    """(N, 80) dB of a clip -> (N, 80) float32 without the clip's mean spectrum: blind to gain and colour."""
    return ((spectra - spectra.mean(0)) * _MEL_SCALE).astype(np.float32)
