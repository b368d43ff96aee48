"""Sound for programs of examples/, and the curves that they print."""

from __future__ import annotations

import csv
import io
import wave
from pathlib import Path

import numpy as np


def write_wav(path: Path, samples: np.ndarray, rate: int) -> np.ndarray:
    """Write 16-bit mono; gives what a reader gets back."""
    data = np.round(samples * 32767).clip(-32768, 32767).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(data.tobytes())
    return data.astype(np.float32) / 32768


def read_csv(text: str) -> tuple[list[str], np.ndarray]:
    """Names and rows."""
    rows = list(csv.reader(io.StringIO(text)))
    return rows[0], np.array(rows[1:], dtype=np.float64)
