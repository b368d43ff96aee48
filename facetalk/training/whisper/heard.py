"""What the adapter for Whisper learns from: spoiled crops as Whisper hears them, beside what is asked.

Whisper is frozen and slow, the adapter small and quick: every batch is drawn and heard once, kept on disk,
and taken many times.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from facetalk.audio.whisper import Whisper
from facetalk.audio.whisper_encoder import LOUDNESS, Adapter
from facetalk.errors import InputError
from facetalk.files import atomic_path
from facetalk.reading import usable
from facetalk.training.audio.finetune_batches import Batches
from facetalk.training.audio.finetune_losses import Losses
from facetalk.training.workers import Batch, Drawn

_EDGE = 5
"""Frames at a crop's ends that are not asked for: there Whisper has not heard what is around them."""
_KEPT = ("classes", "curves", "spoken", "lower", "cuts", "weight", "features", "heard")


class Heard:
    """Batches by number, each heard once.

    Args:
        batches: draws them.
        losses: knows what is asked of them.
        whisper: hears them.
        adapter: reduces what it hears.
        folder: where they are kept, a file for each.
    """

    def __init__(
        self, batches: Batches, losses: Losses, whisper: Whisper, adapter: Adapter, folder: Path
    ) -> None:
        self._batches, self._losses = batches, losses
        self._whisper, self._adapter = whisper, adapter
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def gather(self, numbers: range, workers: int = 0) -> list[Batch]:
        """The batches of some numbers, drawn and heard where an earlier run has not.

        Raises:
            InputError: a kept one is damaged.
        """
        out = []
        with Drawn(self._batches, workers) as drawn:
            for number in tqdm(
                numbers, "Whisper listens", unit="batch", disable=not sys.stderr.isatty(), mininterval=1.0
            ):
                file = self._folder / f"{number}.npz"
                if not file.exists():
                    self._keep(file, self._hear(drawn(number)))
                out.append(_read(file))
        return out

    @torch.no_grad()
    def _hear(self, batch: Batch) -> Batch:
        asked = self._losses.targets(self._losses.placed(batch))
        margin = self._batches.margin
        waves = batch["spoilt"].numpy()[:, margin : margin + self._batches.length]
        states = self._whisper([LOUDNESS * wave for wave in waves])
        weight = torch.ones(batch["classes"].shape[:2])
        weight[:, :_EDGE], weight[:, -_EDGE:] = 0.0, 0.0
        heard = torch.stack([self._adapter.reduce(each) for each in states])
        return {**batch, "features": asked.features, "heard": heard, "weight": weight}

    @staticmethod
    def _keep(file: Path, batch: Batch) -> None:
        halves = {
            name: batch[name].cpu().numpy().astype(np.int64 if name == "cuts" else np.float16)
            for name in _KEPT
            if name in batch
        }
        with atomic_path(file) as temporary, temporary.open("wb") as out:
            np.savez(out, **halves)  # type: ignore[arg-type]  # arrays by name, which the stubs do not know


def _read(file: Path) -> Batch:
    with usable(file, "delete it and go on with --resume"), np.load(file, allow_pickle=False) as arrays:
        if not {*_KEPT} - {"lower"} <= {*arrays.files}:
            raise InputError(f"{file}: not a batch that Whisper heard")
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def wide(batch: Batch, device: torch.device) -> dict[str, Tensor]:
    """A kept batch in 32 bit on a device."""
    return {
        name: (value if name == "cuts" else value.float()).to(device, non_blocking=True)
        for name, value in batch.items()
    }
