"""Encoders against each other: ``python -m experiments.hearing --models NAME=FOLDER ... --corpus DIR``.

For each model, with its own student: the lips on clean recordings of held-out voices, and on the same ones
after what recordings suffer, with the correlation of their lip gap with that of the clean clip; the gap over
sound that is no speech; and how far the gap of sound heard with a look-ahead is from that of the whole
recording. Beside them a face at rest and the model's own frames in another order.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from experiments.common.plainly import plainly
from experiments.hearing import LOOK_AHEADS_MS
from experiments.hearing.sounds import CHANGES, UNSPOKEN, Sound, changed, unspoken
from experiments.steps.rows import Clip, find_clips
from facetalk.audio import load_audio
from facetalk.data.speech.corpus import read_manifest
from facetalk.errors import InputError
from facetalk.files import atomic_path
from facetalk.metrics.landmarks import pearson
from facetalk.metrics.lips import LipFigures, lip_gap, measure
from facetalk.metrics.reference import reading
from facetalk.motion import Motion
from facetalk.pipeline import FaceTalk
from facetalk.reading import MANIFEST, read_json
from facetalk.units import SAMPLE_RATE

_FIGURES = (
    "closed",
    "bilabial_gap_mm",
    "open_gap_mm",
    "touching",
    "silent_gap_mm",
    "shut_elsewhere",
    "agreement",
)
_LIVE = ("closed", "touching", "agreement")
"""Of these, those that are told for each look-ahead."""
_COUNTS = ("bilabials", "labiodentals", "open_vowels", "silent_frames")
_READING = 10**6
_UNSPOKEN_S = 8.0
Points = NDArray[np.float32]


class Listener:
    """A model, and what its lips do over sounds."""

    def __init__(self, model: FaceTalk, seeds: int) -> None:
        self.model, self.seeds = model, seeds
        self.fps = model.config.fps
        still = np.zeros((1, model.head.expression_dim), np.float32)
        self.rest = model.landmarks(Motion(still, self.fps))[0]

    def points(self, sound: Sound, look_ahead: float | None = None) -> list[Points]:
        """Landmarks (T, 68, 3) for each seed, in 4 steps."""
        return [
            self.model.landmarks(
                self.model.generate((sound, SAMPLE_RATE), seed=seed, steps=4, look_ahead=look_ahead)
            )
            for seed in range(self.seeds)
        ]

    def lips(self, clip: Clip, points: Sequence[Points], index: int) -> LipFigures:
        """Figures of a clip with phones, its seeds pooled."""
        out = LipFigures()
        weights = reading(clip.phones, len(points[0]), self.fps, clip.alphabet, _READING + index)
        truth = self.model.landmarks(Motion(weights, self.fps))
        for seen in points:
            out.add(
                measure(seen, self.rest, clip.phones, fps=self.fps, alphabet=clip.alphabet, reading=truth)
            )
        return out


def figures(lips: LipFigures) -> dict[str, Any]:
    """Of pooled clips, what is told here."""
    found = lips.summary()
    return {name: found[name] for name in (*_FIGURES, *_COUNTS)}


def _pairs(clips: Sequence[Clip]) -> list[tuple[Sound, Sound]]:
    """Each recording with another one, of another voice where there is one: the clips come by turns."""
    sounds = [load_audio(clip.audio) for clip in clips]
    return [(sound, sounds[(i + len(sounds) // 2) % len(sounds)]) for i, sound in enumerate(sounds)]


def by_turns(
    sources: Sequence[Path], most: int, shortest_s: float = 2.0
) -> tuple[list[Clip], dict[Path, str]]:
    """Held-out recordings, a voice after the other, and who speaks in them.

    Args:
        sources: corpora, whose split "valid" is taken, and folders of recordings, each of one voice.
        most: clips.
        shortest_s: shorter recordings of corpora are left out.

    Raises:
        InputError: a source has none.
    """
    found = find_clips(sources, sys.maxsize, shortest_s)
    spoken = {
        utterance.audio: utterance.voice
        for source in sources
        if (source / MANIFEST).is_file()
        for utterance in read_manifest(source, split="valid")
    }
    speakers = {clip.audio: spoken.get(clip.audio, clip.audio.parent.name) for clip in found}
    groups: dict[str, list[Clip]] = {}
    for clip in found:
        groups.setdefault(speakers[clip.audio], []).append(clip)
    order = [groups[voice] for voice in sorted(groups)]
    turns = [c for turn in range(max(map(len, order))) for group in order for c in group[turn : turn + 1]]
    return turns[:most], speakers


def hear(
    listener: Listener, clips: Sequence[Clip], speakers: Mapping[Path, str], most_live: int, name: str
) -> dict[str, Any]:
    """All figures of a model.

    Args:
        listener: the model.
        clips: held-out recordings.
        speakers: who speaks in them.
        most_live: clips of the curve over look-aheads, which takes long.
        name: shown in the progress bar.
    """
    rows: dict[str, LipFigures] = {row: LipFigures() for row in ("clean", "rest", "shuffled", *CHANGES)}
    alike: dict[str, list[float]] = {row: [] for row in ("shuffled", *CHANGES)}
    live: dict[int, list[float]] = {ms: [] for ms in LOOK_AHEADS_MS}
    heard_live = {ms: LipFigures() for ms in LOOK_AHEADS_MS}
    voices: dict[str, LipFigures] = {}
    rng = np.random.default_rng(0)
    for index, (sound, other) in enumerate(tqdm(_pairs(clips), desc=name, unit="clip")):
        clip = clips[index]
        clean = listener.points(sound)
        gaps = [lip_gap(seen) for seen in clean]
        variants = {row: listener.points(changed(row, sound, other, index)) for row in CHANGES}
        variants["shuffled"] = [seen[rng.permutation(len(seen))] for seen in clean]
        for row, points in variants.items():
            alike[row] += [pearson(lip_gap(seen), gap) for seen, gap in zip(points, gaps, strict=True)]
        variants |= {"clean": clean, "rest": [np.repeat(listener.rest[None], len(clean[0]), 0)]}
        if clip.phones:
            for row, points in variants.items():
                rows[row].add(listener.lips(clip, points, index))
            voice = speakers[clip.audio]
            voices.setdefault(voice, LipFigures()).add(listener.lips(clip, clean, index))
        if index < most_live:
            for ms in LOOK_AHEADS_MS:
                points = listener.points(sound, ms / 1000.0)
                live[ms] += [float(np.abs(lip_gap(p) - g).mean()) for p, g in zip(points, gaps, strict=True)]
                if clip.phones:
                    heard_live[ms].add(listener.lips(clip, points, index))
    still = {
        kind: float(
            np.median(
                [
                    lip_gap(points)
                    for seed in range(4)
                    for points in listener.points(unspoken(kind, _UNSPOKEN_S, seed))
                ]
            )
        )
        for kind in tqdm(UNSPOKEN, desc=f"{name}, no speech", unit="sound")
    }
    return {
        "lips": {row: figures(found) for row, found in rows.items()},
        "correlation_with_clean": {row: float(np.mean(values)) for row, values in alike.items()},
        "median_gap_without_speech_mm": still,
        "look_ahead": {
            str(ms): {
                "gap_error_mm": float(np.mean(values)),
                **({n: heard_live[ms].summary()[n] for n in _LIVE} if heard_live[ms].bilabial else {}),
            }
            for ms, values in live.items() if values
        },
        "voices": {voice: figures(found) for voice, found in sorted(voices.items())},
    }  # fmt: skip


def _kept(file: Path, results: dict[str, Any]) -> dict[str, Any]:
    """Models that an earlier run measured on the same recordings; they are not measured again."""
    if not file.is_file():
        return {}
    content = read_json(file)
    if any(content.get(name) != results[name] for name in results if name != "models"):
        raise InputError(f"{file}: holds figures of other recordings or settings; name another file")
    models: dict[str, Any] = content["models"]
    return models


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the experiment."""
    parser = argparse.ArgumentParser(prog="python -m experiments.hearing", description=__doc__.split("\n")[0])
    parser.add_argument("--models", nargs="+", required=True, metavar="NAME=FOLDER[@ENCODER]",
                        help="models to compare, such as before=default after=mymodel, or own=default "
                        "people=default@whisper")  # fmt: skip
    parser.add_argument("--corpus", type=Path, nargs="+", required=True,
                        help="corpora (their split \"valid\") and folders of recordings")  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="the JSON to write; models it has are kept")
    parser.add_argument("--clips", type=int, default=65)
    parser.add_argument("--live", type=int, default=26, help="clips of the look-ahead curve (%(default)s)")
    parser.add_argument("--seeds", type=int, default=2)
    return plainly(_run, parser.parse_args(arguments))


def _run(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    clips, speakers = by_turns(args.corpus, args.clips)
    results: dict[str, Any] = {
        "command": "python -m experiments.hearing",
        "clips": len(clips), "live_clips": min(args.live, len(clips)), "seeds": args.seeds, "steps": 4,
        "seconds": round(sum(len(load_audio(clip.audio)) for clip in clips) / SAMPLE_RATE, 1),
        "models": {},
    }  # fmt: skip
    results["models"] = _kept(args.out, results)
    for told in args.models:
        name, _, folder = told.partition("=")
        if name in results["models"]:
            continue
        folder, _, encoder = folder.partition("@")
        model = FaceTalk.from_pretrained(folder or name, "cpu", encoder=encoder or "model")
        results["models"][name] = hear(Listener(model, args.seeds), clips, speakers, args.live, name)
        with atomic_path(args.out) as temporary:
            temporary.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
