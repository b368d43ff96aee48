"""What turns speech into motion, and where: the C library on the CPU, or torch on any device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch

from facetalk.audio import AudioEncoder
from facetalk.diffusion import MotionModel
from facetalk.errors import ExtensionError, InputError
from facetalk.native import NativeModel, NativeStream
from facetalk.streaming import TorchEngine

Backend = Literal["auto", "native", "torch"]


def pick_device(device: str) -> torch.device:
    """``"auto"`` -> a CUDA device where torch has one, else the CPU; other names as torch has them.

    Raises:
        InputError: the device is not one that torch can use here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {device!r} cannot be used: {reason}; use device 'cpu' or 'auto'") from error
    return chosen


def pick_for(device: str, backend: str) -> torch.device:
    """The device by name, for a backend: the C library's is the CPU.

    Raises:
        InputError: no such device or backend, or the C library on another device.
    """
    if backend not in ("auto", "native", "torch"):
        raise InputError(f"backend must be 'auto', 'native' or 'torch', got {backend!r}")
    chosen = pick_device("cpu" if backend == "native" and device == "auto" else device)
    if backend == "native" and chosen.type != "cpu":
        raise InputError(f"backend 'native' runs on the CPU, not on {chosen}; use device='cpu'")
    return chosen


def native_model(folder: Path, device: torch.device, backend: Backend) -> NativeModel | None:
    """The model in the C library; None where torch does the work.

    Raises:
        InputError: the library was asked for by name and does not run this model.
        ExtensionError: it was asked for, and this installation has none.
    """
    if backend == "torch" or device.type != "cpu":
        return None
    try:
        return NativeModel(folder)
    except (InputError, ExtensionError):
        if backend == "native":
            raise
        return None  # torch says what is wrong with it, if it does not run it either


def start(
    native: NativeModel | None,
    parts: Callable[[], tuple[AudioEncoder, MotionModel]],
    *,
    fps: float,
    look_ahead: float,
    steps: int | None,
    guidance: float | None,
    seed: int,
    rate: float,
) -> NativeStream | TorchEngine:
    """A fresh clip, by the C library where it has the model and the rate is a whole number.

    Raises:
        InputError: an option is out of range, or the audio encoder has to hear the whole recording.
    """
    if native is not None and rate == int(rate):
        if not 0 <= seed < 2**64:
            raise InputError(f"seed must be a whole number in 0..2**64-1, got {seed}")
        return native.stream(look_ahead=look_ahead, steps=steps, seed=seed, guidance=guidance, rate=int(rate))
    encoder, motion = parts()
    clip = motion.stream(steps=steps, guidance=guidance, seed=seed)
    return TorchEngine(encoder, clip, fps, look_ahead, rate)
