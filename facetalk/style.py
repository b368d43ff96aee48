"""Sliders of the sampled talk: how much a face smiles, blinks, looks around, and how its head moves.

They work on named expression curves after they were sampled, frame by frame and in order, so that a stream
gives what a whole clip does. But for ``jaw`` and ``lips``, which say how far a mouth moves for what it says,
they leave the curves that part and close the lips alone; those that they change move the gap between the lips
by less than 0.1 mm (a test measures it). What is closed stays closed with all of them.
``csrc/cpu/network/style.cpp`` does the same for the C library, and its streams take ``head_motion`` too.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from facetalk.arguments import real_number
from facetalk.arrays import Float32, Float64
from facetalk.data import phones
from facetalk.data.expressions import arkit_name
from facetalk.data.visemes import AT_TEETH_ROLL, gap_slopes
from facetalk.diffusion.noise import frame_noise
from facetalk.errors import InputError

RANGES: dict[str, tuple[float, float]] = {
    "intensity": (0.0, 2.0),
    "smile": (-1.0, 1.0),
    "brow_activity": (0.0, 3.0),
    "blink_rate": (0.0, 3.0),
    "gaze_steadiness": (0.0, 1.0),
    "head_motion": (0.0, 2.0),
    "jaw": (0.0, 2.0),
    "lips": (0.0, 2.0),
}
"""Smallest and largest value of each slider."""


@dataclasses.dataclass(frozen=True)
class Style:
    """Sliders; each changes nothing where it is left alone.

    Attributes:
        intensity: factor of what the face expresses beside speech: brows, widened and narrowed eyes, cheeks,
            smiles and frowns; 0 to 2.
        smile: corners of the mouth up and cheeks with them (above 0, to 1), or down (below 0, to -1).
        brow_activity: factor of all that the brows do, 0 to 3.
        blink_rate: factor of the number of blinks, 0 to 3: fewer by leaving some out, more by blinks like
            the model's own between them.
        gaze_steadiness: 0 lets the eyes wander as they do, 1 has them look straight ahead.
        head_motion: factor of the head's motion, 0 (still) to 2.
        jaw: factor of how far the jaw opens, 0 to 2: below 1 it mumbles, above it over-enunciates.
        lips: factor of how far the lips are rounded, spread and parted, 0 to 2. These two are the axes of
            JALI (Edwards et al., 2016).

    Raises:
        InputError: a value is no number, or out of range.
    """

    intensity: float = 1.0
    smile: float = 0.0
    brow_activity: float = 1.0
    blink_rate: float = 1.0
    gaze_steadiness: float = 0.0
    head_motion: float = 1.0
    jaw: float = 1.0
    lips: float = 1.0

    def __post_init__(self) -> None:
        """Check the values."""
        for name, (low, high) in RANGES.items():
            value = real_number(name, getattr(self, name))
            if not low <= value <= high:
                raise InputError(f"{name} must lie in {low:g}..{high:g}, got {value:g}")
            object.__setattr__(self, name, value)

    def changed(self) -> dict[str, float]:
        """The sliders that are not where they change nothing, by name."""
        still = {field.name: field.default for field in dataclasses.fields(self)}
        return {name: value for name, value in dataclasses.asdict(self).items() if value != still[name]}


def checked_style(style: Style | None) -> Style:
    """Sliders as callers give them; None leaves all alone.

    Raises:
        InputError: it is something else.
    """
    if style is None:
        return Style()
    if not isinstance(style, Style):
        raise InputError(f"style must be a facetalk.Style, got {style!r}")
    return style


_SMILE = {"mouthSmile": 0.42, "mouthStretch": 0.2, "cheekSquint": 0.22}
_FROWN = {"mouthFrown": 0.45, "cheekSquint": 0.14}
"""What the slider's ends add. A smile of the mouth alone would be none (Duchenne); cheeks also lift the upper
lip by what corners and stretch lower it in the middle and beside it, so the gap stays what it is."""

# By the beginnings of ARKit's names.
_EXPRESSIVE = ("brow", "eyeWide", "eyeSquint", "cheekSquint", "mouthSmile", "mouthFrown")
_JAW = ("jawOpen", "jawForward")
_LIPS = (
    "mouthFunnel", "mouthPucker", "mouthStretch", "mouthSmile", "mouthDimple", "mouthLowerDown",
    "mouthUpperUp", "mouthShrug",
)  # fmt: skip
_NEEDED = {
    "intensity": "brow", "smile": "mouthSmile", "brow_activity": "brow", "blink_rate": "eyeBlink",
    "gaze_steadiness": "eyeLook", "jaw": "jawOpen", "lips": "mouthFunnel",
}  # fmt: skip


class StyleFilter:
    """Applies sliders to the curves of a clip, in any pieces.

    Args:
        style: the sliders.
        names: of the E expressions.
        fps: motion frame rate.
        seed: 0 to 2**64 - 1, of the choices that are left to chance.

    Raises:
        InputError: a slider is used that has no curve of these names to work on.
    """

    def __init__(self, style: Style, names: Sequence[str], fps: float, seed: int) -> None:
        self._style, self._fps, self._seed = style, fps, seed
        self._names = [arkit_name(name) for name in names]
        for slider in style.changed():
            needed = "mouthFrown" if slider == "smile" and style.smile < 0.0 else _NEEDED.get(slider)
            if needed is not None and not self._columns(needed):
                raise InputError(
                    f"{slider} works on expressions named {needed}*, which this model does not have; use a "
                    f"model of named expressions, like the built-in one"
                )
        self._blinks = _Blinks(style.blink_rate, fps, seed) if style.blink_rate != 1.0 else None

    def apply(self, curves: Float32) -> Float32:
        """Take the next (n, E) curves, give them (n, E) in this style."""
        style = self._style
        if not set(style.changed()) - {"head_motion"} or not len(curves):
            return curves
        out = np.array(curves, np.float32)
        if style.jaw != 1.0 or style.lips != 1.0:
            self._articulate(out)
        down = out[:, [i for i, name in enumerate(self._names) if name.startswith("eyeLookDown")]]
        follow = _lid_follows() * (down.mean(axis=1) if down.shape[1] else np.zeros(len(out), np.float32))
        lids = self._columns("eyeBlink")
        if self._blinks is not None:
            out[:, lids] = self._blinks.apply(out[:, lids], follow)
        if style.gaze_steadiness:
            out[:, self._columns("eyeLook")] *= np.float32(1.0 - style.gaze_steadiness)
            # A lid that went down with the gaze does not stay there.
            out[:, lids] -= (np.float32(style.gaze_steadiness) * follow)[:, None]
        out[:, self._columns(*_EXPRESSIVE)] *= np.float32(style.intensity)
        out[:, self._columns("brow")] *= np.float32(style.brow_activity)
        for name, weight in (_SMILE if style.smile > 0.0 else _FROWN).items():
            out[:, self._columns(name)] += np.float32(weight * abs(style.smile))
        return np.clip(out, 0.0, 1.0)

    def _articulate(self, out: Float32) -> None:
        """Jaw and lips, in place.

        A lower lip at the teeth stays there, and what closes lips goes with what there is to close, so that
        the gap of a closed mouth stays the share of it that it was.
        """
        close = self._columns("mouthClose")
        rest, slopes = gap_slopes()
        per_unit = {arkit_name(name): slope for name, slope in slopes.items() if name != "mouthClose"}
        slope = np.array([per_unit.get(name, 0.0) for name in self._names], np.float32)
        before = np.maximum(rest + out @ slope, _LEAST_MM)
        rolled = out[:, self._columns("mouthRollLower")].max(axis=1, initial=0.0)
        free = 1.0 - np.clip(rolled / np.float32(AT_TEETH_ROLL), 0.0, 1.0)
        for factor, names in ((self._style.jaw, _JAW), (self._style.lips, _LIPS)):
            out[:, self._columns(*names)] *= (1.0 + np.float32(factor - 1.0) * free)[:, None]
        out[:, close] *= (np.maximum(rest + out @ slope, _LEAST_MM) / before)[:, None]

    def _columns(self, *beginnings: str) -> list[int]:
        return [i for i, name in enumerate(self._names) if name.startswith(beginnings)]


_LEAST_MM = 0.2
"""Gap that there is at least to be closed, so that ratios of gaps stay finite."""
_BEGINS = 0.2
"""Closure beyond what follows the gaze, above which lids are in a blink."""
_FLUTTER = 0.06
"""What is left of a blink where there shall be none."""
_NOISE_STEP = 0x626C696E
_REST_S = 0.25
"""Time between two blinks, from the end of one to the beginning of the next."""


class _Blinks:
    """Leaves out blinks of the model, or puts more between them."""

    def __init__(self, rate: float, fps: float, seed: int) -> None:
        self._rate, self._fps, self._seed = rate, fps, seed
        self._frame = 0
        self._under_way = self._kept = False
        self._depth, self._deepest = 0.9, 0.0
        self._since, self._pending, self._wait = 1e9, 0, 0.0
        self._shape: list[float] = []

    def apply(self, lids: Float32, follow: Float32) -> Float32:
        """(n, L) weights of the lids -> (n, L), with how far they follow the gaze (n,)."""
        out = lids.copy()
        for row in range(len(lids)):
            out[row] = self._step(lids[row], float(follow[row]))
            self._frame += 1
        return out

    def _step(self, lids: Float32, follow: float) -> Any:
        beyond = float(lids.mean()) - follow
        if beyond > _BEGINS and not self._under_way:
            self._under_way = True
            # One that would come while another is under way waits its turn.
            self._kept = not self._shape and self._draw()[0] < self._rate
            self._pending += bool(self._shape)
            self._deepest = 0.0
        elif beyond <= _BEGINS and self._under_way:
            self._under_way = False
            if self._kept:
                self._depth = min(1.0, max(0.5, self._deepest))
                self._since = 0.0
                self._more()
        self._deepest = max(self._deepest, float(lids.mean()))
        self._since += 1.0 / self._fps
        if not self._under_way:
            self._wait -= 1.0 / self._fps
        shown = lids
        if self._rate == 0.0 or (self._under_way and not self._kept):
            shown = np.minimum(lids, np.float32(follow + (_FLUTTER if self._rate == 0.0 else _BEGINS)))
        if self._pending and not self._shape and self._wait <= 0.0 and self._free():
            self._begin()
        if self._shape:
            shown = np.maximum(shown, np.float32(self._shape.pop(0)))
            if not self._shape:
                self._since = 0.0
                self._wait = self._gap(self._draw()[1])
        return shown

    def _free(self) -> bool:
        return not self._under_way and self._since >= _REST_S

    def _more(self) -> None:
        """After a blink of the model's: how many shall follow before its next."""
        draws = self._draw()
        extra = max(0.0, self._rate - 1.0)
        count = math.floor(extra) + (draws[2] < extra - math.floor(extra))
        if count and not self._pending:
            self._wait = self._gap(draws[1])
        self._pending += count

    def _gap(self, share: float) -> float:
        return 0.3 + 0.9 * share

    def _begin(self) -> None:
        """A blink as people's are, as deep as the model's last: see ``blink`` in data/visemes.json."""
        self._pending -= 1
        shape, share = phones.table()["blink"]["shape"], self._draw()[3:6]
        close, hold, opening = (
            low + (high - low) * part
            for (low, high), part in zip(
                (shape[key] for key in ("close_s", "hold_s", "open_s")), share.tolist(), strict=True
            )
        )
        # A frame sees it shut, whatever the rate.
        begin = close % (1.0 / self._fps)
        times = begin + np.arange(math.ceil((close + hold + 2.0 * opening) * self._fps)) / self._fps
        rise = np.clip(times / close, 0.0, 1.0)
        fall = np.exp(-np.maximum(times - close - hold, 0.0) * 3.5 / opening)
        curve = self._depth * rise * rise * (3.0 - 2.0 * rise) * fall
        self._shape = curve[curve > 0.02].tolist()

    def _draw(self) -> Float64:
        """Six numbers in 0..1 that belong to this frame."""
        normal = frame_noise(self._seed, _NOISE_STEP, self._frame, self._frame + 1, 6)[0]
        return np.array([0.5 * math.erfc(-x / math.sqrt(2.0)) for x in normal.tolist()])


def _lid_follows() -> np.float32:
    return np.float32(phones.table()["blink"]["lid_follows_gaze"]["eyeLookDown"])
