"""Motion: what a face does over time, as expression codes of one head, and where the head goes meanwhile."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from safetensors import safe_open

from facetalk.arguments import real_number
from facetalk.arrays import Float32, Float64
from facetalk.errors import InputError
from facetalk.files import atomic_path
from facetalk.interrupts import Uninterrupted
from facetalk.mesh.pose import checked_pose
from facetalk.mesh.smoothing import gaussian_smooth
from facetalk.mesh.tongue import checked_tongue
from facetalk.reading import parse_json, usable
from facetalk.tensors import tensor_bytes
from facetalk.units import DEFAULT_FPS, MAX_PAD

_FORMAT = "facetalk-motion"
_FRAME_WIDTH = 0.35
"""Standard deviation of a Gaussian over the length of the frame that it stands for."""

SUFFIX = ".safetensors"
"""Suffix of a stored motion."""


@dataclasses.dataclass(repr=False)
class Motion:
    """Expression codes over time and where they came from.

    Attributes:
        expressions: (T, E) float32 expression codes, one row per frame.
        fps: frames per second; frame ``i`` is centred at ``(i + 0.5) / fps`` seconds.
        identity: (I,) float32 identity code of the head that the codes belong to.
        provenance: how the motion was made (model, seed, steps ...), JSON values only.
        pose: (T, 6) float32 where the head is: pitch, yaw and roll in radians about the neck, positive down,
            to the head's left and to its right shoulder, then x, y, z in millimetres
            (:mod:`facetalk.mesh.pose`); None for a head that keeps still. Expressions, landmarks and decoded
            meshes are those of the still head; exports and live frames carry the pose beside them.
        tongue: (T, 3) float32 weights in [0, 1] of :data:`facetalk.mesh.tongue.TONGUE_NAMES`; None for a
            tongue that only rides on the jaw.
    """

    expressions: Float32
    fps: float = DEFAULT_FPS
    identity: Float32 = dataclasses.field(default_factory=lambda: np.zeros(0, np.float32))
    provenance: dict[str, Any] = dataclasses.field(default_factory=dict)
    pose: Float32 | None = None
    tongue: Float32 | None = None

    def __post_init__(self) -> None:
        """Bring the arrays to their types and check them."""
        self.expressions = np.ascontiguousarray(self.expressions, dtype=np.float32)
        self.identity = np.ascontiguousarray(self.identity, dtype=np.float32)
        self.fps = float(self.fps)
        if self.expressions.ndim != 2:
            raise InputError(f"expressions must have shape (T, E), got {self.expressions.shape}")
        if self.identity.ndim != 1:
            raise InputError(f"identity must have shape (I,), got {self.identity.shape}")
        if not 0.0 < self.fps <= 1000.0:
            raise InputError(f"fps must lie in (0, 1000], got {self.fps:g}")
        for name, value in (("expressions", self.expressions), ("identity", self.identity)):
            if not np.isfinite(value).all():
                bad = np.count_nonzero(~np.isfinite(value))
                raise InputError(f"{name} has {bad} values that are not finite")
        if self.pose is not None:
            self.pose = checked_pose(self.pose, len(self.expressions))
        if self.tongue is not None:
            self.tongue = checked_tongue(self.tongue, len(self.expressions))

    def __repr__(self) -> str:
        """Sizes and origin, not the arrays."""
        origin = "".join(f", {key}={value!r}" for key, value in self.provenance.items())
        return (
            f"Motion({len(self)} frames, {self.expressions.shape[1]} expressions, {self.fps:g} fps, "
            f"{self.duration:.2f} s{origin})"
        )

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.expressions)

    def __getitem__(self, frames: slice) -> Motion:
        """Motion of a range of frames, as in ``motion[25:50]``."""
        if not isinstance(frames, slice):
            raise TypeError(f"index a Motion with a slice of frames, got {type(frames).__name__}")
        if frames.step not in (None, 1):
            raise ValueError("slices of a Motion keep every frame: step must be 1")
        origin = {name: value for name, value in self.provenance.items() if name not in ("pad", "seconds")}
        pose = None if self.pose is None else self.pose[frames]
        tongue = None if self.tongue is None else self.tongue[frames]
        return dataclasses.replace(
            self, expressions=self.expressions[frames], pose=pose, tongue=tongue, provenance=origin
        )

    @classmethod
    def joined(cls, parts: Sequence[Motion]) -> Motion:
        """Motions of one head one after the other, such as the pieces of a stream.

        Provenance and identity are the first one's; what has no pose keeps its head still,
        what has no tongue lets it lie.

        Raises:
            InputError: there are none, or they are of different rates, widths or identities.
        """
        if not parts:
            raise InputError("there are no motions to join")
        first = parts[0]
        for part in parts[1:]:
            if part.fps != first.fps or part.expressions.shape[1] != first.expressions.shape[1]:
                raise InputError("motions of different frame rates or heads cannot be joined")
            if not np.array_equal(part.identity, first.identity):
                raise InputError("motions of different identities cannot be joined")
        pose = _joined([part.pose for part in parts], [len(part) for part in parts])
        tongue = _joined([part.tongue for part in parts], [len(part) for part in parts])
        origin = {name: value for name, value in first.provenance.items() if name not in ("pad", "seconds")}
        codes = np.concatenate([part.expressions for part in parts])
        return dataclasses.replace(first, expressions=codes, pose=pose, tongue=tongue, provenance=origin)

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self) / self.fps

    @property
    def seconds(self) -> float:
        """Length of the sound that the motion was made of, silence around it included, in seconds.

        By ``provenance["seconds"]``; where that is not known, or cannot be of this motion, :attr:`duration`,
        which is at most half a frame more or less.
        """
        said = self.provenance.get("seconds")
        if isinstance(said, int | float) and abs(said - self.duration) <= 0.51 / self.fps:
            return float(said)
        return self.duration

    @property
    def pad(self) -> tuple[float, float]:
        """Seconds of silence before and after the recording that the motion was made of.

        By ``provenance["pad"]``; a slice of a motion has it no longer, since its frames begin elsewhere.

        Raises:
            InputError: the provenance says something else.
        """
        said = self.provenance.get("pad", (0.0, 0.0))
        try:
            before, after = (real_number("pad", value) for value in said)
        except (TypeError, ValueError) as error:
            raise InputError(f"the motion's pad must be two numbers of seconds, got {said!r}") from error
        if not (0.0 <= before <= MAX_PAD and 0.0 <= after <= MAX_PAD):
            raise InputError(
                f"the motion's pad must lie in 0..{MAX_PAD:g} seconds, got {before:g}, {after:g}"
            )
        return before, after

    def at(self, times: ArrayLike, *, fps: float | None = None) -> Float32:
        """Expression codes at any times: (n, E) float32.

        Between the middles of frames by a monotone cubic (Fritsch and Carlson, "Monotone Piecewise Cubic
        Interpolation", 1980): what is closed in a frame is closed there, and no weight goes beyond those of
        the frames around it. Before the first middle and after the last one the face stays as it is there.

        Args:
            times: (n,) seconds, frame ``i`` having its middle at ``(i + 0.5) / self.fps``.
            fps: the rate at which they follow each other; what is too quick for a lower rate than the
                motion's is smoothed away first, so that it does not come back as something slower.

        Raises:
            InputError: the motion has no frames.
        """
        return self._between(self.expressions, times, fps)

    def pose_at(self, times: ArrayLike, *, fps: float | None = None) -> Float32 | None:
        """The pose at any times, (n, 6) float32, as :meth:`at` has the expressions; None for a still head."""
        return None if self.pose is None else self._between(self.pose, times, fps)

    def tongue_at(self, times: ArrayLike, *, fps: float | None = None) -> Float32 | None:
        """The tongue's weights at any times, (n, 3) float32, as :meth:`at` has the expressions, or None."""
        return None if self.tongue is None else self._between(self.tongue, times, fps)

    def _between(self, codes: Float32, times: ArrayLike, fps: float | None) -> Float32:
        if not len(self):
            raise InputError("a motion without frames cannot be resampled")
        wanted = np.asarray(times, np.float64)
        if fps is not None and fps < self.fps:
            # A frame is as wide as its rate; the Gaussian adds what the new frames are wider by.
            sigma = _FRAME_WIDTH * float(np.sqrt(1.0 / fps**2 - 1.0 / self.fps**2))
            codes = gaussian_smooth(codes, sigma, self.fps)
        if len(self) == 1:
            return np.repeat(codes, len(wanted), axis=0)
        middles = (np.arange(len(self)) + 0.5) / self.fps
        return monotone_cubic(codes, np.clip((wanted - middles[0]) * self.fps, 0.0, len(self) - 1.0))

    def resample(self, fps: float) -> Motion:
        """The motion at another frame rate; it ends with its sound, half a frame more or less at most.

        Args:
            fps: frames per second, such as 24, 29.97 or 60.

        Raises:
            InputError: the rate is not in [1, 1000], or there are no frames.
        """
        fps = frame_rate(fps)
        if fps == self.fps:
            return self
        count = max(1, round(self.seconds * fps))
        times = (np.arange(count) + 0.5) / fps
        codes, pose = self.at(times, fps=fps), self.pose_at(times, fps=fps)
        tongue = self.tongue_at(times, fps=fps)
        return dataclasses.replace(self, expressions=codes, pose=pose, tongue=tongue, fps=fps)

    def smooth(self, sigma: float) -> Motion:
        """Motion filtered over time by a Gaussian of standard deviation ``sigma`` seconds (0 = unchanged)."""
        codes = gaussian_smooth(self.expressions, sigma, self.fps)
        pose = None if self.pose is None else gaussian_smooth(self.pose, sigma, self.fps)
        tongue = None if self.tongue is None else gaussian_smooth(self.tongue, sigma, self.fps)
        return dataclasses.replace(self, expressions=codes, pose=pose, tongue=tongue)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the motion as one safetensors file and return its path.

        Raises:
            InputError: the folder is missing or cannot be written to, or the provenance is no JSON.
        """
        header = {"format": _FORMAT, "version": "1", "fps": repr(self.fps)}
        try:
            header["provenance"] = json.dumps(self.provenance, default=_plain)
        except (TypeError, ValueError) as error:
            raise InputError(f"the motion's provenance cannot be written as JSON: {error}") from error
        tensors = {"expressions": self.expressions, "identity": self.identity}
        if self.pose is not None:
            tensors["pose"] = self.pose
        if self.tongue is not None:
            tensors["tongue"] = self.tongue
        with atomic_path(path) as temporary:
            # Not by save_file: its files only their owner may read, its error on a full disk is no OSError.
            temporary.write_bytes(tensor_bytes(tensors, header))
        return Path(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Motion:
        """Read a motion written by :meth:`save`.

        Raises:
            InputError: the file is missing, damaged, or not a motion.
        """
        if not Path(path).is_file():
            raise InputError(f"no motion file at {path}")
        with usable(path, "a motion is what facetalk generate writes"):
            with open(path, "rb") as file:
                start, size = file.read(9), Path(path).stat().st_size
            # A recording or a .glb that somebody takes for a motion is none that was damaged: a motion begins
            # with the length of its header, and then with that.
            if int.from_bytes(start[:8], "little") > size and start[8:] != b"{":
                raise InputError(
                    f"{path} is not a facetalk motion; a motion is what facetalk generate writes"
                )
            with Uninterrupted(), safe_open(path, framework="numpy") as file:
                header = file.metadata() or {}
                if header.get("format") != _FORMAT:
                    raise InputError(f"{path} is not a facetalk motion (no format {_FORMAT!r})")
                provenance = parse_json(header.get("provenance", "{}"), f"{path}: provenance")
                expressions, identity = file.get_tensor("expressions"), file.get_tensor("identity")
                held = set(file.keys())
                pose = file.get_tensor("pose") if "pose" in held else None
                tongue = file.get_tensor("tongue") if "tongue" in held else None
                fps = float(header["fps"])
            try:
                return cls(expressions, fps, identity, provenance, pose, tongue)
            except InputError as error:
                raise InputError(f"{path}: {error}") from error


def _joined(parts: Sequence[Float32 | None], lengths: Sequence[int]) -> Float32 | None:
    """A channel of motions one after the other, zeros where one has none; None where none has it."""
    width = next((part.shape[1] for part in parts if part is not None), None)
    if width is None:
        return None
    pairs = zip(parts, lengths, strict=True)
    return np.concatenate([np.zeros((n, width), np.float32) if part is None else part for part, n in pairs])


def monotone_cubic(values: Float32, positions: Float64) -> Float32:
    """Rows between rows: (T, E) values at (n,) positions in [0, T - 1] -> (n, E) float32; T at least 2.

    Fritsch and Butland, "A Method for Constructing Local Monotone Piecewise Cubic Interpolants" (1984): at a
    row the slope is the harmonic mean of those beside it, and 0 where they go different ways.
    """
    rows = values.astype(np.float64)
    rise = np.diff(rows, axis=0)
    before, after = rise[:-1], rise[1:]
    product, total = before * after, before + after
    slope = np.zeros_like(rows)
    slope[1:-1] = np.where(product > 0.0, 2.0 * product / np.where(product > 0.0, total, 1.0), 0.0)
    slope[0], slope[-1] = rise[0], rise[-1]
    if len(rise) > 1:
        # The two ends by a parabola, held to what keeps the curve monotone.
        for row, near, far in ((0, rise[0], rise[1]), (-1, rise[-1], rise[-2])):
            tangent = (3.0 * near - far) / 2.0
            tangent = np.where(tangent * near <= 0.0, 0.0, tangent)
            steep = (near * far <= 0.0) & (np.abs(tangent) > 3.0 * np.abs(near))
            slope[row] = np.where(steep, 3.0 * near, tangent)
    low = np.minimum(positions.astype(np.int64), len(rows) - 2)
    t = (positions - low)[:, None]
    start, end = rows[low], rows[low + 1]
    eased = t * t * (3.0 - 2.0 * t)
    curve = start + (end - start) * eased + t * (1.0 - t) * ((1.0 - t) * slope[low] - t * slope[low + 1])
    return curve.astype(np.float32)


def frame_rate(fps: float) -> float:
    """A frame rate that was asked for.

    Raises:
        InputError: it is not in [1, 1000].
    """
    rate = real_number("fps", fps)
    if not 1.0 <= rate <= 1000.0:
        raise InputError(f"fps must lie in 1..1000, got {rate:g}")
    return rate


def ease_ends(expressions: Float32, silent: tuple[int, int], eased: tuple[int, int]) -> Float32:
    """Take the silence off both ends of a motion and have what is left come from rest and go to rest.

    Rest is what the motion itself does at the far ends of the silence, so it is right for any head; a mouth
    that takes longer to close than there is silence left is led there.

    Args:
        expressions: (T, E) codes.
        silent: frames to take off the beginning and the end, 0 for an end that stays as it is.
        eased: frames of what is left, from its beginning and up to its end, that are led from and to rest.

    Returns:
        (T - sum(silent), E) float32.
    """
    first, last = silent
    out = expressions[first : len(expressions) - last].astype(np.float32)
    for away, count, rest, rows in (
        (first, eased[0], expressions[:first], out),
        (last, eased[1], expressions[len(expressions) - last :][::-1], out[::-1]),
    ):
        if not away or not count:
            continue
        # 1 at the very end, 0 where the recording begins; level at both.
        share = 1.0 - np.arange(min(count, len(out))) / count
        share = (share * share * (3.0 - 2.0 * share))[:, None].astype(np.float32)
        still = rest[: max(1, away // 2)].mean(axis=0)
        rows[: len(share)] += share * (still - rows[: len(share)])
    return out


def _plain(value: object) -> object:
    """NumPy's numbers and arrays, and paths, as JSON has them."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{type(value).__name__} is no JSON value")
