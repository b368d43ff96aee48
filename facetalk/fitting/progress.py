"""Where a fit is, on disk, so that one that was killed goes on from its last whole window."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from facetalk.errors import InputError
from facetalk.files import atomic_path
from facetalk.fitting.pose import Pose
from facetalk.reading import read_arrays

__all__ = ["Progress", "Resting", "key_of"]

Resting = tuple[torch.Tensor, Pose]
"""Code and pose of a frame whose points were let go."""


@dataclasses.dataclass
class Progress:
    """The state of a fit after a window.

    Attributes:
        measured: what :meth:`facetalk.fitting.report.Measurement.state` gives.
        window: of the frames that the next window goes on from.
        before: of the frame in front of them, or None.
        random: state of the generator that draws points.
    """

    measured: dict[str, np.ndarray]
    window: list[Resting]
    before: Resting | None
    random: torch.Tensor

    def save(self, path: Path, key: str) -> None:
        """Write it in place of what was there."""
        rows = [*self.window, *([] if self.before is None else [self.before])]
        arrays: dict[str, Any] = {
            **self.measured,
            "key": np.frombuffer(key.encode(), np.uint8),
            "before": np.array(self.before is not None),
            "random": self.random.numpy(),
            "resting_codes": np.stack([code.numpy() for code, _ in rows]) if rows else np.zeros((0, 0)),
            "resting_turns": np.array([pose.turn.numpy() for _, pose in rows]).reshape(-1, 3, 3),
            "resting_shifts": np.array([pose.shift.numpy() for _, pose in rows]).reshape(-1, 3),
            "resting_scales": np.array([pose.scale for _, pose in rows], np.float64),
        }
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: Path, key: str) -> Progress | None:
        """What an earlier run of the same fit left; None where it is another's, damaged, or not there."""
        if not path.is_file():
            return None
        with contextlib.suppress(InputError, KeyError, ValueError, TypeError, RuntimeError):
            arrays = read_arrays(path)
            if arrays.pop("key").tobytes().decode(errors="replace") != key:
                return None
            rows: list[Resting] = [
                (torch.from_numpy(code), Pose(torch.from_numpy(turn), torch.from_numpy(shift), float(scale)))
                for code, turn, shift, scale in zip(
                    *(arrays.pop(f"resting_{name}") for name in ("codes", "turns", "shifts", "scales")),
                    strict=True,
                )
            ]
            last = rows.pop() if bool(arrays.pop("before")) else None
            return cls(arrays, rows, last, torch.from_numpy(arrays.pop("random")))
        return None


def key_of(*parts: object) -> str:
    """A name for a fit: the same for the same head, person, options and frames."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.tobytes() if isinstance(part, np.ndarray) else repr(part).encode())
        digest.update(b"\0")
    return digest.hexdigest()[:24]
