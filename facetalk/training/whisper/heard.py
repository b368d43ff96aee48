"""What an adapter for Whisper learns from: spoiled crops as Whisper hears them, beside what is asked.

Whisper is frozen and slow, the adapter small and quick: every batch is drawn and heard once, kept on disk,
and taken many times.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from facetalk.errors import InputError
from facetalk.files import atomic_path
from facetalk.reading import usable
from facetalk.training.audio.finetune_batches import Batches
from facetalk.training.workers import Batch, Drawn

Hear = Callable[[Batch], Batch]
"""What is kept of a batch: what Whisper hears of it, and what is asked."""


class Heard:
    """Batches by number, each heard once.

    Args:
        batches: draws them.
        hear: what is kept of one.
        kept: names that it has then.
        folder: where they are kept, a file for each.
    """

    def __init__(self, batches: Batches, hear: Hear, kept: tuple[str, ...], folder: Path) -> None:
        self._batches, self._hear, self._names = batches, hear, kept
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
                out.append(self._read(file))
        return out

    @staticmethod
    def _keep(file: Path, batch: Batch) -> None:
        halves = {
            name: value.cpu().numpy().astype(np.float16 if value.is_floating_point() else np.int64)
            for name, value in batch.items()
        }
        with atomic_path(file) as temporary, temporary.open("wb") as out:
            np.savez(out, **halves)  # type: ignore[arg-type]  # arrays by name, which the stubs do not know

    def _read(self, file: Path) -> Batch:
        with usable(file, "delete it and go on with --resume"), np.load(file, allow_pickle=False) as arrays:
            if not {*self._names} <= {*arrays.files}:
                raise InputError(f"{file}: not a batch that Whisper heard")
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def wide(batch: Batch, device: torch.device) -> dict[str, Tensor]:
    """A kept batch in 32 bit on a device."""
    return {
        name: (value.float() if value.is_floating_point() else value).to(device, non_blocking=True)
        for name, value in batch.items()
    }
