"""``facetalk evaluate``: lips against phones, beside a still face and the same motion out of order.

The baselines say what a figure is worth. A face at rest has closed lips at every p; a motion whose frames are
shuffled has them closed as often as the model, at the wrong times.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from facetalk.audio.load import load_audio
from facetalk.data.phones import Phone
from facetalk.errors import InputError
from facetalk.files import atomic_path
from facetalk.metrics.landmarks import MOUTH, UPPER_FACE
from facetalk.metrics.lips import LipFigures, measure
from facetalk.metrics.manifest import Spoken, read, with_phones
from facetalk.motion import Motion
from facetalk.units import SAMPLE_RATE

ROWS = ("model", "static", "shuffled")


class Pipeline(Protocol):
    """What of :class:`facetalk.FaceTalk` is needed here."""

    def generate(
        self, audio: Any, *, steps: int | None = None, guidance: float | None = None, seed: int | None = None
    ) -> Motion:
        """Audio -> motion."""

    def landmarks(self, motion: Motion) -> NDArray[np.float32]:
        """Motion -> (T, 68, 3) metres."""


@dataclasses.dataclass
class Report:
    """What ``evaluate`` found.

    Attributes:
        settings: seed, steps, guidance, clips, seconds of speech.
        rows: "model", "static", "shuffled" -> pooled figures (see :meth:`LipFigures.summary`).
        voices: the model's figures per voice.
        diversity: mean standard deviation over seeds of mouth and of lid-and-brow landmarks, mm; None if not
            measured.
    """

    settings: dict[str, Any]
    rows: dict[str, dict[str, Any]]
    voices: dict[str, dict[str, Any]]
    diversity: dict[str, float] | None

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return dataclasses.asdict(self)

    def table(self) -> str:
        """The report as text."""
        head = (
            f"{'':<22}{'p b m':>7}{'closed':>8}{'gap':>6}{'open v.':>9}{'gap':>6}{'f v':>6}{'gap':>6}"
            f"{'silence':>9}{'gap':>6}{'off rest':>10}{'r':>7}"
        )
        lines = [head]
        lines += [_line(name, self.rows[name]) for name in self.rows]
        lines.append("by voice")
        lines += [_line("  " + name, row) for name, row in sorted(self.voices.items())]
        lines.append(
            "closed: smallest gap within the phone +-40 ms under 1.5 mm; gap: medians in mm (smallest "
            "of p b m f v, largest of open vowels, all frames of silences); off rest: mouth landmarks, mm; "
            "r: correlation of the gap over time with a rule-based reading of the phones"
        )
        if self.diversity is not None:
            lines.append(
                f"between seeds: mouth {self.diversity['mouth_mm']:.2f} mm, "
                f"lids and brows {self.diversity['upper_face_mm']:.2f} mm"
            )
        told = ", ".join(f"{key} {value}" for key, value in self.settings.items())
        return "\n".join([*lines, told])


def evaluate(
    pipeline: Pipeline,
    manifest: Path | str | Sequence[Spoken],
    *,
    seed: int = 0,
    limit: int | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    split: str | None = None,
    pad: float = 0.0,
    diversity_clips: int = 3,
    diversity_seeds: int = 4,
) -> Report:
    """Generate a motion for every recording of a manifest and measure its lips.

    Args:
        pipeline: a :class:`facetalk.FaceTalk`, or anything with its ``generate`` and ``landmarks``.
        manifest: path of a manifest.jsonl, or its content.
        seed: noise seed of clip k is ``seed + k``.
        limit: at most this many clips, evenly spread over the manifest.
        steps: denoising steps; None = the model's default.
        guidance: guidance weight; None = the model's default.
        split: only this split of the manifest.
        pad: seconds of near-silence put before and after every clip, so that rest is measured on recordings
            that were cut to the words.
        diversity_clips: on how many clips the spread over seeds is measured; 0 = not at all.
        diversity_seeds: over how many seeds.

    Raises:
        InputError: the manifest cannot be used or nothing of it could be aligned.
    """
    items = read(Path(manifest), split=split) if isinstance(manifest, Path | str) else list(manifest)
    if limit is not None:
        if limit < 1:
            raise InputError(f"limit must be at least 1, got {limit}")
        chosen = np.linspace(0, len(items) - 1, min(limit, len(items))).round().astype(int)
        items = [items[i] for i in chosen]
    if not 0.0 <= pad <= 60.0:
        raise InputError(f"pad must lie in 0..60 seconds, got {pad}")
    pooled = {name: LipFigures() for name in ROWS}
    voices: dict[str, LipFigures] = {}
    spread: list[tuple[float, float]] = []
    seconds, clips = 0.0, 0
    rest: NDArray[np.float32] | None = None
    for index, item in enumerate(tqdm(with_phones(items), total=len(items), disable=not sys.stderr.isatty())):
        audio, phones = _padded(item, pad)
        motion = pipeline.generate(audio, seed=seed + index, steps=steps, guidance=guidance)
        if rest is None:
            still = Motion(
                np.zeros((1, motion.expressions.shape[1]), np.float32), motion.fps, motion.identity
            )
            rest = pipeline.landmarks(still)[0]
        moving = pipeline.landmarks(motion)
        shuffled = moving[np.random.default_rng(seed + index).permutation(len(moving))]
        static = np.broadcast_to(rest, moving.shape)
        for name, landmarks in zip(ROWS, (moving, static, shuffled), strict=True):
            figures = measure(landmarks, rest, phones, fps=motion.fps, alphabet=item.alphabet)
            pooled[name].add(figures)
            if name == "model":
                voices.setdefault(item.voice, LipFigures()).add(figures)
        if len(spread) < diversity_clips:
            others = []
            for k in range(1, diversity_seeds):
                again = pipeline.generate(audio, seed=seed + 1000 * k + index, steps=steps, guidance=guidance)
                others.append(pipeline.landmarks(again))
            spread.append(_spread(np.stack([moving, *others])))
        seconds += len(moving) / motion.fps
        clips += 1
    if not clips:
        raise InputError("nothing to evaluate: no recording could be aligned with its text")
    mean = np.mean(spread, axis=0) if spread else None
    return Report(
        settings={
            "clips": clips,
            "pad": pad,
            "seconds": round(seconds, 1),
            "seed": seed,
            "steps": steps,
            "guidance": guidance,
        },
        rows={name: figures.summary() for name, figures in pooled.items()},
        voices={name: figures.summary() for name, figures in voices.items()},
        diversity=None if mean is None else {"mouth_mm": float(mean[0]), "upper_face_mm": float(mean[1])},
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``facetalk evaluate`` (the model's own are added by the command line)."""
    parser.add_argument(
        "manifest", type=Path, help="manifest.jsonl (audio + phones, or audio + text) or its folder"
    )
    parser.add_argument("--split", default=None, help="only lines of this split")
    parser.add_argument(
        "--limit", type=int, default=None, metavar="N", help="N clips, spread over the manifest"
    )
    parser.add_argument("--pad", type=float, default=0.0, metavar="SECONDS", help="silence around every clip")
    parser.add_argument("--seed", type=int, default=0, help="noise seed")
    parser.add_argument("--steps", type=int, default=None, help="denoising steps (default: the model's)")
    parser.add_argument("--guidance", type=float, default=None, help="guidance weight (default: the model's)")
    parser.add_argument(
        "--json", type=Path, default=None, metavar="FILE", help="write the report as JSON as well"
    )


def run(args: argparse.Namespace, pipeline: Pipeline) -> None:
    """Evaluate and print the table."""
    report = evaluate(
        pipeline,
        args.manifest,
        seed=args.seed,
        limit=args.limit,
        steps=args.steps,
        guidance=args.guidance,
        split=args.split,
        pad=args.pad,
    )
    print(report.table())
    if args.json is not None:
        with atomic_path(args.json) as temporary:
            temporary.write_text(json.dumps(report.as_dict(), indent=1) + "\n", encoding="utf-8")


def _padded(item: Spoken, pad: float) -> tuple[Path | tuple[NDArray[np.float32], int], list[Phone]]:
    """The clip's sound and phones, with ``pad`` seconds of faint noise (-78 dB) on both sides."""
    phones = item.phones or []
    if not pad:
        return item.audio, phones
    noise = np.random.default_rng(0).normal(0.0, 1.2e-4, (2, round(pad * SAMPLE_RATE))).astype(np.float32)
    sound = np.concatenate([noise[0], load_audio(item.audio), noise[1]])
    return (sound, SAMPLE_RATE), [(symbol, start + pad, end + pad) for symbol, start, end in phones]


def _spread(landmarks: NDArray[np.floating]) -> tuple[float, float]:
    """(S, T, 68, 3) of S seeds -> mean distance from their mean in mm, of the mouth and of lids and brows."""
    away = np.linalg.norm(landmarks - landmarks.mean(0), axis=-1) * 1000.0
    return float(away[..., list(MOUTH)].mean()), float(away[..., list(UPPER_FACE)].mean())


def _line(name: str, row: dict[str, Any]) -> str:
    def number(key: str, form: str) -> str:
        return "-" if row[key] is None else format(row[key], form)

    cells = [
        f"{name:<22.22}{row['bilabials']:>7}{number('closed', '.1%'):>8}",
        f"{number('bilabial_gap_mm', '.2f'):>6}",
        f"{row['open_vowels']:>9}{number('open_gap_mm', '.1f'):>6}",
        f"{row['labiodentals']:>6}{number('labiodental_gap_mm', '.1f'):>6}",
        f"{row['silent_frames']:>9}{number('silent_gap_mm', '.2f'):>6}",
        f"{number('silent_deviation_mm', '.2f'):>10}{number('agreement', '.2f'):>7}",
    ]
    return "".join(cells)
