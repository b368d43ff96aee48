"""What turns speech into motion, and where: the C library on the CPU, or torch on any device."""

from __future__ import annotations

import ctypes
import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal, get_args

from facetalk.errors import ExtensionError, InputError
from facetalk.native import NativeModel, NativeStream
from facetalk.optional import needed_for

if TYPE_CHECKING:
    from facetalk.audio.encoder import AudioEncoder
    from facetalk.audio.whisper_encoder import WhisperEncoder
    from facetalk.diffusion.model import MotionModel
    from facetalk.diffusion.stream import MotionStream
    from facetalk.tongue import TongueNetwork
    from facetalk.torch_backend import TorchEngine


@dataclasses.dataclass(frozen=True)
class SpeechParts:
    """What turns speech into motion by torch.

    Attributes:
        encoder: what hears.
        own: the model's own encoder where another hears, for the upper face.
        motion: the motion model.
        tongue: reads its contacts from features; None of a model without.
    """

    encoder: AudioEncoder | WhisperEncoder
    own: AudioEncoder | None
    motion: MotionModel
    tongue: TongueNetwork | None


Backend = Literal["auto", "native", "torch"]
Listener = Literal["model", "whisper"]
"""What hears: the model's own audio encoder, or Whisper."""
EncoderName = Literal["auto", "model", "whisper"]
"""What may be asked for: one of them, or for whole recordings Whisper where it is there."""

_DRIVERS = ("libcuda.so.1", "libamdhip64.so")
"""What every GPU that torch could use on Linux comes with."""


def by_torch(what: str) -> ModuleType:
    """:mod:`facetalk.torch_backend`.

    Args:
        what: what needs it, the beginning of a sentence.

    Raises:
        NotInstalledError: there is no torch, or no transformers; the message names the extra.
    """
    with needed_for(what):
        import facetalk.torch_backend as module  # not from the package, whose names tell of themselves
    return module


def pick_device(device: str) -> str:
    """``"auto"`` -> ``"cuda"`` where torch has such a device, else ``"cpu"``; other names as torch has them.

    torch is not imported to learn that there is no GPU: that takes longer than a clip does.

    Raises:
        InputError: the device is not one that torch can use here, or there is no torch for it.
    """
    if device == "cpu":
        return device
    if device == "auto":
        if "torch" not in sys.modules and not has_gpu_driver():
            return "cpu"
        try:
            return str(by_torch("a GPU").usable_device(device))
        except InputError:
            return "cpu"  # a GPU, and no torch that could use it
    return str(by_torch(f"device {device!r}").usable_device(device))


def has_gpu_driver() -> bool:
    """Whether a driver for GPUs is installed, by its library; torch is not asked."""
    for name in _DRIVERS:
        try:
            ctypes.CDLL(name)
            return True
        except OSError:
            continue
    return False


def pick_for(device: str, backend: str) -> str:
    """The device by name, for a backend: the C library's is the CPU.

    Raises:
        InputError: no such device or backend, or the C library on another device.
    """
    if backend not in ("auto", "native", "torch"):
        raise InputError(f"backend must be 'auto', 'native' or 'torch', got {backend!r}")
    if backend == "torch":
        by_torch("backend 'torch'")
    chosen = pick_device("cpu" if backend == "native" and device == "auto" else device)
    if backend == "native" and not on_cpu(chosen):
        raise InputError(f"backend 'native' runs on the CPU, not on {chosen}; use device='cpu'")
    return chosen


def check_encoder(encoder: str, model: Path) -> None:
    """Refuse, before anything is loaded, what could not hear.

    Raises:
        InputError: no such encoder, or Whisper and a model without an adapter for it.
        NotInstalledError: Whisper, and its weights are not installed.
    """
    if encoder not in get_args(EncoderName):
        raise InputError(f"encoder must be 'auto', 'model' or 'whisper', got {encoder!r}")
    if encoder != "whisper":
        return
    from facetalk.audio.whisper_weights import FOLDER, find_weights, missing  # takes as long as the library

    if not (model / FOLDER).is_dir():
        raise missing(model / FOLDER)
    find_weights()


def listener(encoder: EncoderName, model: Path, *, whole: bool) -> Listener:
    """What hears where an encoder was asked for.

    Args:
        encoder: what was asked for. ``"auto"`` is Whisper for whole recordings, where its weights are
            installed and the model has an adapter for it; else the model's own.
        model: its folder.
        whole: whether a recording is there as a whole, or is heard as live sound is: for that Whisper hears a
            window a frame, and takes much longer.
    """
    if encoder != "auto":
        return encoder
    if not whole:
        return "model"
    try:
        check_encoder("whisper", model)
    except InputError:
        return "model"
    return "whisper"


def whisper_encoder(model: Path, device: object) -> WhisperEncoder:
    """Whisper, hearing for a model's motion.

    Raises:
        InputError: see :func:`check_encoder`; or the model's adapter is damaged, or another model's.
    """
    with needed_for("Whisper by torch", "torch,whisper"):
        from facetalk.audio.whisper_encoder import WhisperEncoder
    return WhisperEncoder.from_pretrained(model, device=str(device))


def on_cpu(device: object) -> bool:
    """Whether a device, by name or as torch has it, is the CPU."""
    return str(device).partition(":")[0] == "cpu"


def native_model(
    folder: Path, device: object, backend: Backend, encoder: Listener = "model"
) -> NativeModel | None:
    """The model in the C library; None where torch does the work.

    Args:
        folder: the model's.
        device: where it shall run.
        backend: what was asked for.
        encoder: what hears.

    Raises:
        InputError: the library was asked for by name and does not run this model.
        ExtensionError: it was asked for, and this installation has none.
    """
    if backend == "torch" or not on_cpu(device):
        return None
    try:
        if encoder == "model":
            return NativeModel(folder)
        from facetalk.audio.whisper_weights import kept_listener

        return NativeModel(folder, kept_listener())
    except (InputError, ExtensionError) as error:
        if backend == "native":
            raise
        _require_torch(error)
        return None  # torch says what is wrong with it, if it does not run it either


def _require_torch(error: InputError | ExtensionError) -> None:
    """Where there is no torch to say more, what the C library said is the answer."""
    try:
        by_torch("what the C library does not run")
    except InputError as missing:
        raise type(error)(f"{error}; {missing}") from error


def start(
    native: NativeModel | None,
    parts: Callable[[], SpeechParts],
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
        return native.stream(look_ahead=look_ahead, steps=steps, seed=seed, guidance=guidance, rate=int(rate))
    loaded, module = parts(), by_torch("such a stream")
    motion, upper = loaded.motion, None

    def clip(weight: float | None) -> MotionStream:
        return motion.stream(steps=steps, guidance=weight, seed=seed)

    # By Whisper little is left to guess, and mouths may differ as people's do.
    of_mouth = loaded.encoder.guidance if guidance is None else guidance
    if loaded.own is not None:
        upper = module.UpperFace(loaded.own, clip(guidance), fps, look_ahead, motion.expression_names)
    engine: TorchEngine = module.TorchEngine(
        loaded.encoder, clip(of_mouth), fps, look_ahead, rate, loaded.tongue, upper
    )
    return engine
