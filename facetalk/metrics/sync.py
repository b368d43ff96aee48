"""Is the mouth in step with the sound? A small expert that was trained on truth and judges motions.

The measures are those of SyncNet (Chung & Zisserman 2016): D(i, s) is the distance of the motion of window i
to the sound s frames later, m(s) its mean over the clip. Where the published LSE-D takes the smallest m, and
so cannot see a constant delay, ``distance`` here is m(0); the smallest one and its offset stand beside it.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike

from facetalk.ambient import loading
from facetalk.arrays import Float32, Float64, Int64
from facetalk.audio.load import Source, load_audio
from facetalk.audio.mel import log_mel
from facetalk.errors import InputError
from facetalk.files import atomic_path
from facetalk.metrics.sync_network import (
    MEL_PER_FRAME,
    SYNC_FPS,
    WINDOW,
    SyncConfig,
    SyncNetworks,
    audio_features,
    motion_features,
    stabilise,
)
from facetalk.multi_pie import MOUTH
from facetalk.reading import read_settings, usable, written_by
from facetalk.tensors import check_sizes
from facetalk.weights import build_for, check_tensors, read_tensors, write_tensors

MAX_SHIFT = 15
"""Largest offset that is searched, frames of 25 a second: 0.6 s, SyncNet's ``vshift``."""
LEAST_FRAMES = 25
"""Shorter clips (1 s) are not judged."""
_FORMAT, _VERSION = "facetalk-sync-expert", 1
_WEIGHTS, _SETTINGS = "weights.safetensors", "settings.json"
_BUILT_IN = Path(__file__).resolve().parents[1] / "models" / "sync"


class SyncExpert:
    """Two networks that put motion and sound of 640 ms into one space.

    Attributes:
        networks: the networks, in evaluation mode.
        template: (68, 3) metres, the resting face that landmarks are turned to.
    """

    def __init__(self, networks: SyncNetworks, template: ArrayLike) -> None:
        self.networks = networks
        self.template = np.asarray(template, np.float32)
        if self.template.shape != (68, 3):
            raise ValueError(f"template must have shape (68, 3), got {self.template.shape}")

    @classmethod
    @loading
    def from_pretrained(cls, folder: str | os.PathLike[str] | None = None) -> SyncExpert:
        """Load the expert that travels with the package, or one that ``facetalk train sync`` wrote.

        Args:
            folder: None for the built-in one.

        Raises:
            InputError: the folder is no sync expert, or a file of it is missing or damaged.
        """
        folder = _BUILT_IN if folder is None else Path(folder)
        if not (folder / _SETTINGS).is_file():
            raise InputError(f"{folder / _SETTINGS} is missing; {folder} is not a sync expert's folder")
        with usable(f"the sync expert in {folder}", "fetch it again"):
            settings = read_settings(folder / _SETTINGS, _FORMAT, _VERSION)
            tensors = read_tensors(folder / _WEIGHTS)
            check_tensors(tensors, folder / _WEIGHTS)
            check_sizes(settings["networks"], folder / _SETTINGS)
            config = SyncConfig(**settings["networks"])
            networks = build_for(lambda: SyncNetworks(config), tensors, folder)
            template = tensors.pop("template").float().numpy()
            networks.load_state_dict({name: value.float() for name, value in tensors.items()})
        return cls(networks.eval(), template)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write weights (float16) and settings as a whole; an expert that is there is replaced.

        Raises:
            InputError: the place cannot be written, or holds something else.
        """
        tensors = {
            name: value.detach().cpu().half().contiguous()
            for name, value in self.networks.state_dict().items()
        }
        tensors["template"] = torch.from_numpy(self.template)
        settings = {
            "format": _FORMAT,
            "version": _VERSION,
            "networks": dataclasses.asdict(self.networks.config),
            "fps": SYNC_FPS,
            "window_frames": WINDOW,
        }
        ours = written_by(_SETTINGS, _FORMAT, (_SETTINGS, _WEIGHTS))
        with atomic_path(folder, directory=True, ours=ours) as temporary:
            write_tensors(temporary / _WEIGHTS, tensors)
            (temporary / _SETTINGS).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")

    def score(self, audio: Source, landmarks: ArrayLike, fps: float) -> dict[str, float]:
        """Judge a clip.

        Args:
            audio: path of a recording, or ``(samples, rate)``.
            landmarks: (T, 68, 3) metres, Multi-PIE order, +y up, +z out of the face; the head may move.
            fps: frames per second; frame i is centred at ``(i + 0.5) / fps``.

        Returns:
            ``distance``: m(0), 0 (the same) to 2; ``best_distance``: the smallest m(s); ``offset_frames``: by
            how many frames of the motion it comes after the sound there, negative = before;
            ``confidence``: median of m minus its smallest; ``searched_frames``: how far was searched to
            each side (less than 0.6 s for clips under 2.4 s).

        Raises:
            InputError: the clip is shorter than 1 s, the landmarks or the rate cannot be used, the
                recording cannot be read.
        """
        shifts, means = self.curve(audio, landmarks, fps)
        best = int(np.argmin(means))
        return {
            "distance": float(means[len(shifts) // 2]),
            "best_distance": float(means[best]),
            "offset_frames": float(-shifts[best] * (fps / SYNC_FPS)) + 0.0,
            "confidence": float(np.median(means) - means[best]),
            "searched_frames": float(shifts[-1] * (fps / SYNC_FPS)),
        }

    def curve(self, audio: Source, landmarks: ArrayLike, fps: float) -> tuple[Int64, Float64]:
        """Mean distance over shifts of the sound: (S,) shifts in frames of 25 a second, (S,) m(s).

        All m(s) are means over the same windows of the motion. Arguments and errors as in :meth:`score`.
        """
        motion, sound = self.embed(audio, landmarks, fps)
        return mean_distances(motion, sound, min(MAX_SHIFT, len(motion) // 3))

    @torch.inference_mode()
    def embed(self, audio: Source, landmarks: ArrayLike, fps: float) -> tuple[Float32, Float32]:
        """Embeddings of all windows of a clip: motion (W, 128) and sound (W, 128), unit vectors.

        Arguments and errors as in :meth:`score`.
        """
        mouth = _mouth(landmarks, fps, self.template)
        spectra = log_mel(load_audio(audio))
        count = min(len(mouth), len(spectra) // MEL_PER_FRAME)
        if count < LEAST_FRAMES:
            raise InputError(
                f"the clip has {count / SYNC_FPS:.2f} s of motion with sound; synchrony needs at least "
                f"{LEAST_FRAMES / SYNC_FPS:g} s"
            )
        device = self.networks.log_scale.device
        training = self.networks.training
        self.networks.eval()
        moved = torch.from_numpy(motion_features(mouth[:count]))[None].to(device)
        heard = torch.from_numpy(audio_features(spectra[: count * MEL_PER_FRAME]))[None].to(device)
        motion = self.networks.embed_motion(moved)[0].cpu().numpy()
        sound = self.networks.embed_audio(heard)[0].cpu().numpy()
        self.networks.train(training)
        return motion, sound


def mean_distances(motion: Float32, sound: Float32, max_shift: int) -> tuple[Int64, Float64]:
    """m(s) for s = -max_shift .. max_shift.

    Args:
        motion: (W, E) unit vectors.
        sound: (W, E) unit vectors of the same windows.
        max_shift: at most (W - 1) / 2. Windows nearer to an end than this are compared with nothing.

    Returns:
        (2 max_shift + 1,) shifts and mean Euclidean distances.
    """
    shifts = np.arange(-max_shift, max_shift + 1)
    inner = np.arange(max_shift, len(motion) - max_shift)
    cosines = motion[inner].astype(np.float64) @ sound.astype(np.float64).T
    near = cosines[np.arange(len(inner))[:, None], inner[:, None] + shifts[None]]
    return shifts, np.sqrt(np.maximum(2.0 - 2.0 * near, 0.0)).mean(0)


def _mouth(landmarks: ArrayLike, fps: float, template: Float32) -> Float64:
    """Landmarks 48 to 67 of a still head at 25 frames a second: (T', 20, 3) metres."""
    points = np.asarray(landmarks, np.float64)
    if points.ndim != 3 or points.shape[1:] != (68, 3) or not len(points):
        raise InputError(f"landmarks must have shape (T, 68, 3), got {points.shape}")
    if not np.isfinite(points).all():
        frame = int(np.argmax(~np.isfinite(points).all(axis=(1, 2))))
        raise InputError(f"landmarks of frame {frame} are not finite")
    if not (np.isfinite(fps) and 1.0 <= fps <= 1000.0):
        raise InputError(f"the frame rate must lie in 1 to 1000, got {fps}")
    width = float(np.abs(points - points.mean(1, keepdims=True)).max())
    if not 0.01 <= width <= 1.0:
        raise InputError(
            f"the landmarks span {width:.3g} from their middle; they have to be those of a head in metres"
        )
    mouth = stabilise(points, template)[:, list(MOUTH)]
    if fps == SYNC_FPS:
        return mouth
    count = int(len(mouth) / fps * SYNC_FPS + 1e-6)
    place = np.clip((np.arange(count) + 0.5) * (fps / SYNC_FPS) - 0.5, 0, len(mouth) - 1)
    low = np.minimum(place.astype(int), max(len(mouth) - 2, 0))
    share = (place - low)[:, None, None]
    return np.asarray(mouth[low] * (1 - share) + mouth[np.minimum(low + 1, len(mouth) - 1)] * share)
