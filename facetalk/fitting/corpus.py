"""From recordings to a corpus that ``facetalk train motion`` reads.

Every take is fitted, unless it was; frames that are not well explained are cut out; the lips are laid on the
sound, and a take that is not in step with it is left out, or moved; what remains is written piece by piece.
A builder that was killed goes on where it was: fits that are done stay in the corpus's folder.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from facetalk.ambient import plainly
from facetalk.arguments import real_number
from facetalk.arrays import Bool, Float32
from facetalk.audio.load import load_audio
from facetalk.data.captured import Stretch
from facetalk.data.captured_writer import CorpusWriter
from facetalk.errors import InputError
from facetalk.fitting.options import FitOptions
from facetalk.fitting.progress import key_of
from facetalk.fitting.space import code_space
from facetalk.fitting.takes import Take
from facetalk.fitting.views import Capture
from facetalk.metrics.sync import SyncExpert
from facetalk.motion import SUFFIX, Motion
from facetalk.nphm.head.head import HeadModel
from facetalk.nphm.plain_head import PlainHead, fingerprint
from facetalk.posing import landmarks
from facetalk.units import SAMPLE_RATE

__all__ = ["CorpusOptions", "Outcome", "build_corpus"]

Head = HeadModel | PlainHead
Sync = Literal["check", "shift", "ignore"]
Person = Callable[[Take, Capture], Float32 | None]

_FITS = "fits"
_PEOPLE = 4  # whose metric is averaged
_HELD_OUT = 0.1  # share of the pieces, where there is but one voice
_LONGEST_S = 20.0  # of a piece
_TELLING_S = 2.4  # from this length on the expert on synchrony searches as far as it can


@dataclasses.dataclass(frozen=True)
class CorpusOptions:
    """What is kept.

    Attributes:
        sync: "check" leaves a take out whose lips are not in step with its sound, "shift" moves it, "ignore"
            does not look.
        late_s: how far lips may be from the sound.
        confidence: of the expert on synchrony, below which it cannot tell and the take is kept as it is.
        least_s: pieces that are shorter are left out.
        least_share: a take of which less than this share of the frames is well explained is left out.
    """

    sync: Sync = "check"
    late_s: float = 0.085
    confidence: float = 0.3
    least_s: float = 1.0
    least_share: float = 0.5

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.sync not in ("check", "shift", "ignore"):
            raise InputError(f"sync: expected check, shift or ignore, got {self.sync!r}")
        if not 0.1 <= real_number("least_s", self.least_s) <= 600.0:
            raise InputError(f"least_s must lie in 0.1..600 seconds, got {self.least_s}")


@dataclasses.dataclass
class Outcome:
    """What became of a take.

    Attributes:
        id: of the take.
        frames: that it has.
        flagged: of them that are not well explained.
        kept_s: seconds in the corpus.
        median_mm: of the distances of its points, where a fit told it.
        lips_late_s: how much later than the sound the lips are, where that could be told.
        left_out: why nothing of it was kept, or "".
    """

    id: str
    frames: int = 0
    flagged: int = 0
    kept_s: float = 0.0
    median_mm: float | None = None
    lips_late_s: float | None = None
    left_out: str = ""


@plainly
def build_corpus(
    takes: Sequence[Take],
    head: Head,
    out: Path,
    *,
    fps: float = 25.0,
    unit: str | None = None,
    person: Person = lambda take, capture: None,
    fit: FitOptions | None = None,
    options: CorpusOptions | None = None,
) -> list[Outcome]:
    """Fit, check and write.

    Args:
        takes: recordings.
        head: whose codes are wanted.
        out: folder of the corpus; one that is there is made anew of these takes, with its fits kept.
        fps: of takes that do not say theirs.
        unit: of points of takes that do not say theirs, None to find it.
        person: the identity code of a take, None for the head's default one.
        fit: weights and limits of the fits.
        options: what is kept.

    Returns:
        what became of each take.

    Raises:
        InputError: a take cannot be read or fitted, its motion is of another head, or nothing is left.
    """
    options, fit = options or CorpusOptions(), fit or FitOptions()
    _check_inputs(takes, out)
    with CorpusWriter(out, (_FITS,)) as writer:
        expert = None if options.sync == "ignore" else SyncExpert.from_pretrained()
        mark = fingerprint(head.nphm)
        for take in takes:  # before hours of fitting
            if take.motion is not None:
                _check_head(take, Motion.load(take.motion), head, mark)
        outcomes: list[Outcome] = []
        found: list[tuple[Stretch, str, Float32]] = []
        people: dict[str, Float32] = {}
        for take in tqdm(takes, desc="takes", unit="take", disable=None):
            outcome = Outcome(take.id)
            outcomes.append(outcome)
            motion = _motion(take, head, mark, out, fps, unit, person, fit)
            kept, offset = _judge(take, motion, head, expert, options, outcome)
            for number, (begin, end) in enumerate(_runs(kept, motion.fps, options.least_s)):
                piece = _write(take, motion[begin:end], begin / motion.fps + offset, number, writer)
                if piece is not None:
                    found.append((piece, take.split, motion.expressions[begin:end]))
                    outcome.kept_s += (end - begin) / motion.fps
            if outcome.kept_s:
                people.setdefault(take.voice, motion.identity)
            elif not outcome.left_out:
                outcome.left_out = f"no {options.least_s:g} s in a row with sound are well explained"
        if not found:
            reasons = "; ".join(f"{outcome.id}: {outcome.left_out}" for outcome in outcomes[:3])
            raise InputError(f"nothing is left for a corpus: {reasons}")
        if len(found) == 1:
            raise InputError(
                f"{found[0][0].id} alone is left for a corpus, which needs two pieces, one to train on and "
                f"one that is held out"
            )
        listed = {take.id for take in takes}
        # A piece is named by its take and a number.
        gone = sorted({name.rpartition(".")[0] or name for name in writer.earlier} - listed)
        outcomes += [
            Outcome(name, left_out="not in the list any more, only its fit is kept") for name in gone
        ]
        stretches = _split([(piece, split) for piece, split, _ in found])
        codes = [rows for piece, (_, _, rows) in zip(stretches, found, strict=True) if piece.split == "train"]
        every = np.concatenate(codes or [rows for _, _, rows in found])
        mean = every.mean(0, dtype=np.float64).astype(np.float32)
        space = code_space(head, list(people.values())[:_PEOPLE], mean)
        writer.finish(stretches, space, {"takes": [dataclasses.asdict(outcome) for outcome in outcomes]})
    return outcomes


def _check_inputs(takes: Sequence[Take], out: Path) -> None:
    """What a corpus is made of must not lie where pieces of an earlier one are removed."""
    for take in takes:
        for file in (take.audio, take.motion, *take.points, take.views):
            for room in (out / "audio", out / "codes"):
                if file is not None and room.resolve() in file.resolve().parents:
                    raise InputError(
                        f"take {take.id}: {file} lies in the corpus that is made anew; move it elsewhere, or "
                        f"choose another -o"
                    )


def _motion(
    take: Take,
    head: Head,
    mark: str,
    out: Path,
    fps: float,
    unit: str | None,
    person: Person,
    fit: FitOptions,
) -> Motion:
    """The take's codes: given ones, those of an earlier run, or fitted now."""
    if take.motion is not None:
        return Motion.load(take.motion)
    place = out / _FITS / (take.id.replace("/", "__") + SUFFIX)
    place.parent.mkdir(exist_ok=True)
    capture = Capture(take.points, take.views, take.unit or unit, place.with_suffix(".cameras.json"))
    identity = person(take, capture)
    rate = take.fps or fps
    code = head.default_identity if identity is None else identity
    seen = np.zeros(0) if capture.marks is None else capture.marks
    key = key_of(mark, np.asarray(code), fit, capture.unit, rate, capture.names, capture.stamp, seen)
    if place.is_file():
        motion = Motion.load(place)
        if motion.provenance.get("key") == key:
            return motion
    with tqdm(total=len(capture), unit="frame", desc=take.id, leave=False, disable=None) as bar:
        fitted = capture.fit(
            head, fps=rate, identity=identity, options=fit, state=place.with_suffix(".partial"),
            progress=lambda done: bar.update(done - bar.n),
        )  # fmt: skip
    motion = dataclasses.replace(fitted.motion, provenance={**fitted.motion.provenance, "key": key})
    motion.save(place)
    return motion


def _check_head(take: Take, motion: Motion, head: Head, mark: str) -> None:
    said, width = motion.provenance.get("head"), motion.expressions.shape[1]
    if width != head.expression_dim:
        raise InputError(
            f"{take.motion}: codes of {width} numbers, the head's have {head.expression_dim}; it is another "
            f"model's"
        )
    if said is not None and said != mark:
        raise InputError(f"{take.motion}: its codes were fitted with another head than --model names")
    if motion.identity.size not in (0, head.identity_dim):
        raise InputError(
            f"{take.motion}: an identity of {motion.identity.size} numbers, the head's have "
            f"{head.identity_dim}"
        )


def _judge(
    take: Take,
    motion: Motion,
    head: Head,
    expert: SyncExpert | None,
    options: CorpusOptions,
    outcome: Outcome,
) -> tuple[Bool, float]:
    """Which frames are kept, and seconds of the sound before the first of them begins."""
    kept = np.ones(len(motion), bool)
    flagged = motion.provenance.get("flagged", [])
    kept[[t for t in flagged if isinstance(t, int) and 0 <= t < len(motion)]] = False
    outcome.frames, outcome.flagged = len(motion), int((~kept).sum())
    said = motion.provenance.get("median_mm")
    outcome.median_mm = float(said) if isinstance(said, int | float) else None
    nothing, offset = np.zeros(len(motion), bool), take.offset
    if kept.mean() < options.least_share:
        outcome.left_out = f"{outcome.flagged} of {outcome.frames} frames are not well explained"
        return nothing, offset
    if expert is None or motion.duration < _TELLING_S:
        return kept, offset
    identity = motion.identity if motion.identity.size else head.default_identity
    shown = dataclasses.replace(motion, identity=identity)
    sound = _sound(take, offset, motion.duration)
    told = expert.score((sound, SAMPLE_RATE), landmarks(head, shown, None), motion.fps)
    if told["confidence"] < options.confidence:
        return kept, offset
    late = told["offset_frames"] / motion.fps
    outcome.lips_late_s = round(late, 3)
    if abs(late) <= options.late_s:
        return kept, offset
    if options.sync == "shift":
        return kept, offset - late
    outcome.left_out = (
        f"the lips come {abs(late):.2f} s {'after' if late > 0 else 'before'} the sound; its offset is "
        f"{offset - late:.2f}, if the rest is right"
    )
    return nothing, offset


def _sound(take: Take, begin: float, seconds: float) -> Float32:
    """(N,) samples from a place in the take's sound, silence where it has none."""
    samples = load_audio(take.audio)
    first, count = round(begin * SAMPLE_RATE), round(seconds * SAMPLE_RATE)
    out = np.zeros(count, np.float32)
    low, high = max(0, first), min(len(samples), first + count)
    if low < high:
        out[low - first : high - first] = samples[low:high]
    return out


def _runs(kept: Bool, fps: float, least_s: float) -> list[tuple[int, int]]:
    """Stretches of frames that are kept, long enough, and none too long."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], kept, [False]]).astype(np.int8)))
    found = []
    for a, b in edges.reshape(-1, 2):
        if (b - a) / fps >= least_s - 1e-9:
            pieces = max(1, round((b - a) / fps / _LONGEST_S))
            cuts = np.linspace(a, b, pieces + 1).astype(int).tolist()
            found += list(itertools.pairwise(cuts))
    return found


def _write(take: Take, motion: Motion, begin: float, number: int, writer: CorpusWriter) -> Stretch | None:
    """A piece with its sound; None where most of it has none."""
    samples = _sound(take, begin, motion.duration)
    if np.count_nonzero(samples) < len(samples) / 2:
        return None
    motion = dataclasses.replace(motion, provenance={"take": take.id})
    name = f"{take.id}.{number}"
    return writer.piece(name, samples, motion, voice=take.voice, licence=take.licence)


def _split(found: Sequence[tuple[Stretch, str]]) -> list[Stretch]:
    """Pieces with their splits: as their takes say, else the last voice is held out, of one its last ones."""
    if any(split for _, split in found):
        return [dataclasses.replace(piece, split=split or "train") for piece, split in found]
    voices = sorted({piece.voice for piece, _ in found})
    count = max(1, round(_HELD_OUT * len(found)))

    def held(index: int, piece: Stretch) -> bool:
        if len(voices) > 1:
            return piece.voice == voices[-1]
        return len(found) > 1 and index >= len(found) - count

    return [
        dataclasses.replace(piece, split="valid" if held(i, piece) else "train")
        for i, (piece, _) in enumerate(found)
    ]


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Seconds kept, and takes left out with why."""
    return {
        "seconds": sum(outcome.kept_s for outcome in outcomes),
        "left_out": {outcome.id: outcome.left_out for outcome in outcomes if outcome.left_out},
    }
