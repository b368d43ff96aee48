"""What the page asks of a model: a head at rest, a recording as a talking head, a stream of curves."""

from __future__ import annotations

import dataclasses
import re
import threading
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from facetalk.arrays import Float32
from facetalk.audio.load import AudioReader
from facetalk.data.expressions import arkit_name
from facetalk.errors import InputError
from facetalk.mesh.export import export
from facetalk.mesh.pose import POSE_NAMES
from facetalk.mesh.tongue import TONGUE_NAMES
from facetalk.motion import Motion
from facetalk.pipeline import FaceTalk
from facetalk.reading import read_json
from facetalk.streaming import LiveStream
from facetalk.style import RANGES, Style
from facetalk.units import SAMPLE_RATE

MOST_BYTES = 256 * 2**20
"""Of a recording that is sent."""
MOST_SECONDS = 600.0
"""Of a recording: what a head of is a file that browsers still open."""
MOST_LIVE_SECONDS = 1800.0
"""Of the microphone, without a new start."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to speak; None leaves it to the model.

    Attributes:
        steps: of denoising.
        guidance: weight of classifier-free guidance.
        seed: of the noise.
        style: sliders.
    """

    steps: int | None = None
    guidance: float | None = None
    seed: int = 0
    style: Style = dataclasses.field(default_factory=Style)

    @classmethod
    def of(cls, said: dict[str, Any]) -> Settings:
        """The settings among the fields of a message.

        Raises:
            InputError: one of them is no such number; what a model takes, it says itself.
        """
        steps, guidance, seed = said.get("steps"), said.get("guidance"), said.get("seed", 0)
        for name, value, kinds in (
            ("steps", steps, int),
            ("seed", seed, int),
            ("guidance", guidance, int | float),
        ):
            if (value is None and name != "seed") or (
                isinstance(value, kinds) and not isinstance(value, bool)
            ):
                continue
            raise InputError(f"{name} must be a number, got {str(value)[:40]!r}")
        if not 0 <= seed < 2**64 or (guidance is not None and not guidance >= 0.0):
            raise InputError("seed and guidance must be at least 0")
        sliders = said.get("style", {})
        if not isinstance(sliders, dict) or not set(sliders) <= set(RANGES):
            raise InputError(f"style must name sliders among {', '.join(RANGES)}, got {str(sliders)[:40]}")
        return cls(steps, guidance, seed, Style(**sliders))


@dataclasses.dataclass(frozen=True)
class Talk:
    """A recording, spoken.

    Attributes:
        glb: the animated head.
        sound: the recording with the silence that was put around it, WAV.
        frames, steps, guidance: what became of it.
        notes: what was not well with the sound.
    """

    glb: bytes
    sound: bytes
    frames: int
    steps: int
    guidance: float
    notes: list[str]


class Speaker:
    """A model for a page. Its methods take as long as they take and may be called from any thread.

    Args:
        model: the model.
        folder: for files on the way, which nobody else uses.
        texture_size: of the heads, as :func:`facetalk.mesh.export.export` takes it.
    """

    def __init__(self, model: FaceTalk, folder: Path, texture_size: int | None = None) -> None:
        self._model, self._folder, self._texture_size = model, folder, texture_size
        self._one_at_a_time = threading.Lock()

    @cached_property
    def names(self) -> list[str]:
        """Names of the head's morph targets, in the order of :meth:`curves`, the tongue's last."""
        names = [arkit_name(name) for name in self._model.head.expression_names]
        return names if self._model.head.tables.mouth is None else [*names, *TONGUE_NAMES]

    def curves(self, motion: Motion) -> Float32:
        """Weights (T, names) of a motion's frames, in the order of :attr:`names`."""
        codes = motion.expressions
        still = np.zeros((len(codes), len(self.names) - codes.shape[1]), np.float32)
        return np.hstack([codes, motion.tongue if motion.tongue is not None and still.size else still])

    @cached_property
    def head(self) -> bytes:
        """The head at rest as a .glb with all its morph targets, and the node that it turns on."""
        with self._one_at_a_time:
            still = Motion(
                np.zeros((1, self._model.head.expression_dim), np.float32), self._model.config.fps,
                pose=np.zeros((1, len(POSE_NAMES)), np.float32),
            )  # fmt: skip
            path = export(self._folder / "head.glb", self._model.decode(still), fps=still.fps, quantize=True,
                          texture_size=self._texture_size)  # fmt: skip
            return path.read_bytes()

    def describe(self) -> dict[str, Any]:
        """What the page's controls are made of."""
        config = read_json(self._model.config.folder / "motion/config.json")
        student, plain = config.get("student"), config.get("sampling", {})
        few = {} if student is None else {"few": student["steps"], "range": student["guidance"]}
        return {
            "name": self._model.config.name,
            "fps": self._model.config.fps,
            "steps": plain.get("steps") if student is None else student["default_steps"],
            "guidance": plain.get("guidance"),
            **few,
            "sliders": {name: [*ends, getattr(Style(), name)] for name, ends in RANGES.items()},
            "most_bytes": MOST_BYTES,
            "most_seconds": MOST_SECONDS,
        }

    def talk(self, recording: Path, settings: Settings) -> Talk:
        """Speak a recording.

        Raises:
            InputError: it cannot be used, or a setting is out of range.
        """
        with self._one_at_a_time:
            sound = AudioReader(recording)
            _check_length(sound)
            motion = self._model.generate(
                sound, steps=settings.steps, guidance=settings.guidance, seed=settings.seed, pad=None,
                style=settings.style,
            )  # fmt: skip
            out = self._folder / "out"
            out.mkdir(exist_ok=True)
            path = export(out / "talk.glb", self._model.decode(motion), fps=motion.fps, audio=sound,
                          pad=motion.pad, texture_size=self._texture_size, force=True)  # fmt: skip
            made = motion.provenance
            return Talk(
                glb=path.read_bytes(),
                sound=path.with_suffix(".wav").read_bytes(),
                frames=len(motion),
                steps=made["steps"],
                guidance=made["guidance"],
                notes=[self.public(note) for note in made["hearing"]],
            )

    def listen(self, rate: float, look_ahead: float, settings: Settings) -> LiveStream:
        """A stream for the microphone.

        Raises:
            InputError: a setting is out of range.
        """
        return self._model.stream(
            rate=rate,
            look_ahead=look_ahead,
            steps=settings.steps,
            guidance=settings.guidance,
            seed=settings.seed,
            style=settings.style,
        )

    def place(self, name: str) -> Path:
        """Where a recording may be kept that somebody sends under a name of their own."""
        plain = re.sub(r"[^\w .()-]", "_", name.replace("\\", "/").rpartition("/")[2])[-80:].lstrip(". ")
        folder = self._folder / "in"
        folder.mkdir(exist_ok=True)
        return folder / (plain or "recording")

    def public(self, text: str) -> str:
        """A message without the places of this machine."""
        for folder in (self._folder / "in", self._folder / "out", self._folder):
            text = text.replace(f"{folder}/", "")
        return " ".join(text.split())


def _check_length(sound: AudioReader) -> None:
    """Refuse what is too long, whatever its header says."""
    heard = 0
    for block in sound.blocks():
        heard += len(block)
        if heard > MOST_SECONDS * SAMPLE_RATE:
            raise InputError(
                f"{sound.name} is longer than {MOST_SECONDS / 60:g} minutes; use facetalk generate"
            )
