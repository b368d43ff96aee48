"""The head's motion beside people's: ``python -m experiments.pose [AUDIO ...] --json FILE --page PAGE``.

Every recording is heard with a pause of 4 s behind it and moves the head by several seeds. Controls: a head
that keeps still; the motion that goes with the recording's halves the other way round; half and twice the
motion; the motion of a stream that looks ahead by 0.2 s and by nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from experiments.common.plainly import plainly
from facetalk.arrays import Float32
from facetalk.audio import load_audio
from facetalk.errors import InputError
from facetalk.files import atomic_path
from facetalk.pose.generator import head_motion
from facetalk.pose.human import FIGURES
from facetalk.pose.measure import pose_figures
from facetalk.units import DEFAULT_FPS, SAMPLE_RATE

ROOT = Path(__file__).parents[2]
SPEECH = ROOT / "examples" / "demo.flac"
PAUSE_S = 4.0
SHORTEST_S = 5.0
BEGIN, END = "<!-- made by: python -m experiments.pose -->\n", "<!-- end of what was made -->"

ROWS: dict[str, tuple[str, dict[str, float]]] = {
    "model": ("the head", {}),
    "other": ("moved by the halves the other way round", {}),
    "still": ("still", {}),
    "half": ("`--head-motion 0.5`", {"amount": 0.5}),
    "double": ("`--head-motion 2`", {"amount": 2.0}),
    "stream": ("streamed, 0.2 s of look-ahead", {"look_ahead": 0.2}),
    "blind": ("streamed, no look-ahead", {"look_ahead": 0.0}),
}
COLUMNS: dict[str, tuple[str, str]] = {
    "pitch_sd": ("pitch SD °", ".2f"),
    "yaw_sd": ("yaw SD °", ".2f"),
    "roll_sd": ("roll SD °", ".2f"),
    "pitch_range": ("pitch range °", ".1f"),
    "yaw_range": ("yaw range °", ".1f"),
    "roll_range": ("roll range °", ".1f"),
    "speed_in_speech": ("speed in speech °/s", ".1f"),
    "speed_in_pauses": ("in pauses °/s", ".1f"),
    "moving_in_speech": ("moves in speech", ".0%"),
    "moving_in_pauses": ("in pauses", ".0%"),
    "pitch_f0_r": ("r of pitch and F0", ".2f"),
    "f0_explained": ("F0 explained", ".0%"),
    "level_explained": ("level explained", ".0%"),
}


def pose_of(row: str, speech: Float32, pause: Float32, frames: int, seed: int) -> Float32:
    """The pose (frames, 6) of a row of the table."""
    if row == "still":
        return np.zeros((frames, 6), np.float32)
    heard = np.roll(speech, len(speech) // 2) if row == "other" else speech
    return head_motion([heard, pause], DEFAULT_FPS, frames, seed=seed, **ROWS[row][1])


def measured(sounds: dict[str, Float32], seeds: int) -> dict[str, dict[str, float]]:
    """Figures of every row, means over recordings and seeds."""
    found: dict[str, list[dict[str, float]]] = {row: [] for row in ROWS}
    hush = np.random.default_rng(0).normal(0.0, 2e-4, round(PAUSE_S * SAMPLE_RATE)).astype(np.float32)
    for speech in tqdm(sounds.values(), "recordings", disable=None):
        sound = np.concatenate([speech, hush])
        frames = round(len(sound) / SAMPLE_RATE * DEFAULT_FPS)
        for row in ROWS:
            for seed in range(1 if row == "still" else seeds):
                pose = pose_of(row, speech, hush, frames, seed)
                found[row].append(pose_figures(pose, DEFAULT_FPS, sound))
    # Of some recordings a figure cannot be told, such as the correlation of what does not move.
    return {
        row: {
            name: float(np.mean(kept)) if (kept := [f[name] for f in many if np.isfinite(f[name])]) else 0.0
            for name in many[0]
        }
        for row, many in found.items()
    }


def table(report: dict[str, Any]) -> str:
    """The rows as Markdown, people's first."""
    lines = [
        "| | " + " | ".join(title for title, _ in COLUMNS.values()) + " |",
        "|---|" + "--:|" * len(COLUMNS),
    ]
    people = {name: figure["value"] for name, figure in report["people"].items()}
    for title, values in [("people, as published", people)] + [
        (ROWS[row][0], figures) for row, figures in report["rows"].items()
    ]:
        # Adding 0 makes a 0 of -0.
        cells = [
            format(round(values[name], 4) + 0.0, form) if name in values else ""
            for name, (_, form) in COLUMNS.items()
        ]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    told = f"{len(report['recordings'])} recordings, {report['seconds']:.0f} s, {report['seeds']} seeds"
    lines += ["", f"{told}. `{report['command']}`"]
    return "\n".join(lines)


def fill(page: str, report: dict[str, Any]) -> str:
    """The page with the table between its markers.

    Raises:
        InputError: it has no markers.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise InputError(f"the page has no {BEGIN.strip()} ... {END}")
    return f"{before}{begin}{table(report)}\n{end}{after}"


def main() -> int:
    """Run the experiment."""
    parser = argparse.ArgumentParser(prog="python -m experiments.pose", description=__doc__.split("\n")[0])
    parser.add_argument("audio", type=Path, nargs="*", default=[SPEECH], help="recordings (the demo's)")
    parser.add_argument("--seeds", type=int, default=4, help="performances of each (4)")
    parser.add_argument("--limit", type=int, default=None, help="of the recordings, evenly chosen")
    parser.add_argument("--json", type=Path, default=None, help="write the figures here")
    parser.add_argument("--page", type=Path, default=None, help="write the table into this page")
    return plainly(_run, parser.parse_args())


def _run(args: argparse.Namespace) -> None:
    sounds = {path.name: load_audio(path) for path in sorted(args.audio)}
    sounds = {name: sound for name, sound in sounds.items() if len(sound) >= SHORTEST_S * SAMPLE_RATE}
    if not sounds:
        raise InputError(f"none of the recordings is longer than {SHORTEST_S:g} s")
    if args.limit is not None and args.limit < len(sounds):
        chosen = np.linspace(0, len(sounds) - 1, args.limit).round().astype(int)
        sounds = {name: sounds[name] for name in np.array(list(sounds))[chosen]}
    # A corpus has hundreds, of a few sources.
    names = " ".join(sorted({re.sub("__.*", "*", str(path)) for path in args.audio}))
    limit = "" if args.limit is None else f" --limit {args.limit}"
    report = {
        "command": f"python -m experiments.pose {names} --seeds {args.seeds}{limit}",
        "seeds": args.seeds,
        "seconds": sum(map(len, sounds.values())) / SAMPLE_RATE,
        "recordings": list(sounds),
        "people": {name: dataclasses.asdict(figure) for name, figure in FIGURES.items()},
        "rows": measured(sounds, args.seeds),
    }  # fmt: skip
    if args.json is not None:
        with atomic_path(args.json) as scratch:
            scratch.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if args.page is not None:
        page = fill(args.page.read_text(encoding="utf-8"), report)
        with atomic_path(args.page) as scratch:
            scratch.write_text(page, encoding="utf-8")
    print(table(report))


if __name__ == "__main__":
    raise SystemExit(main())
