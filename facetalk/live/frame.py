"""One frame on its way to a receiver, and what takes it there."""

from __future__ import annotations

import abc
import dataclasses
import json
import struct

from facetalk.arrays import Float32
from facetalk.data.arkit import ANGLE_NAMES, ARKIT_NAMES

_BINARY = struct.Struct(f"<IId{len(ARKIT_NAMES) + len(ANGLE_NAMES)}f")


@dataclasses.dataclass(frozen=True)
class Frame:
    """A face at one moment.

    Attributes:
        index: number of the frame, from 0.
        time: its middle, in seconds of the sound: ``(index + 0.5) / fps``.
        weights: (52,) blendshapes in [0, 1], in the order of :data:`facetalk.data.arkit.ARKIT_NAMES`.
        angles: (9,) radians, in the order of :data:`facetalk.data.arkit.ANGLE_NAMES`.
    """

    index: int
    time: float
    weights: Float32
    angles: Float32

    def to_json(self) -> str:
        """One line of JSON without its end: frame, time, weights and angles by name."""
        content = {
            "frame": self.index,
            "time": round(self.time, 6),
            "weights": _named(ARKIT_NAMES, self.weights),
            "angles": _named(ANGLE_NAMES, self.angles),
        }
        return json.dumps(content, separators=(",", ":"))

    def to_bytes(self) -> bytes:
        """Little endian: u32 frame, u32 number of values, f64 time, then 52 weights and 9 angles as f32."""
        values = (*self.weights.tolist(), *self.angles.tolist())
        return _BINARY.pack(self.index & 0xFFFFFFFF, len(values), self.time, *values)


def _named(names: tuple[str, ...], values: Float32) -> dict[str, float]:
    return {name: round(value, 5) for name, value in zip(names, values.tolist(), strict=True)}


class Sender(abc.ABC):
    """Takes frames to a receiver, and never waits for it: what it does not take now is dropped and counted.

    Attributes:
        where: the address, for messages.
        dropped: frames that the receiver did not take.
        trouble: what is not well with the receiver, in words; empty while all is.
    """

    where: str
    dropped: int = 0
    trouble: str = ""

    @abc.abstractmethod
    def send(self, frame: Frame) -> None:
        """Hand a frame over, or drop it.

        Raises:
            BrokenPipeError: the receiver is gone for good.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Let go of the receiver, within about two seconds whatever it does; a second call does nothing."""
