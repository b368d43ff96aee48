"""Faces for voices: ``python -m experiments.casting train`` (or ``measure``, ``table``, ``sheet``).

``train`` fits the timbre's projection to voices of corpora; ``measure`` draws faces for voices that nothing
was fitted to and writes how well they are kept apart, beside controls; ``table`` puts
the figures into the card; ``sheet`` draws faces to be looked at.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from experiments.casting.recordings import HELD_OUT, Recording, microphone, recordings
from experiments.casting.report import fill
from experiments.casting.scores import Draw, diversity, separation
from experiments.common.plainly import plainly
from facetalk.arrays import Float32
from facetalk.casting import draw as drawing
from facetalk.casting.dimorphism import DISTANCES, direction, lean
from facetalk.casting.timbre import BUILT_IN, fit
from facetalk.casting.voice import Voice, hear
from facetalk.errors import InputError
from facetalk.files import atomic_path
from facetalk.pipeline import FaceTalk
from facetalk.tensors import tensor_bytes
from facetalk.units import HEAD_UNIT_MM

RESULTS = Path(__file__).with_name("results") / "casting.json"
CARD = BUILT_IN.with_name("README.md")
AXES = 16


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m experiments.casting", description=__doc__.split("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name, text in (
        ("train", "fit the timbre's projection"),
        ("measure", "figures of held-out voices, as JSON"),
        ("sheet", "faces of held-out voices, to be looked at"),
    ):
        verb = verbs.add_parser(name, help=text)
        verb.add_argument("corpora", type=Path, nargs="+",
                          help="folders of `facetalk data`, or of one voice with .flac files")  # fmt: skip
        verb.add_argument("-o", "--out", type=Path, required=name == "sheet",
                          default={"train": BUILT_IN, "measure": RESULTS}.get(name))  # fmt: skip
        verb.add_argument("--most", type=int, default=12, help="recordings of a voice (%(default)s)")
        verb.add_argument("--seeds", type=int, default=8, help="draws of each (%(default)s)")
    verbs.add_parser("table", help="the figures into the model card")
    return plainly(_run, parser.parse_args())


def _run(options: argparse.Namespace) -> None:
    if options.verb == "table":
        fill(CARD, json.loads(RESULTS.read_text(encoding="utf-8")))
        return
    if options.most < 2 or options.seeds < 2:
        raise InputError("--most and --seeds must be at least 2")
    {"train": _train, "measure": _measure, "sheet": _sheet}[options.verb](options)


def _train(options: argparse.Namespace) -> None:
    rng = np.random.default_rng(0)
    found = list(recordings(options.corpora, held_out=False, most=options.most))
    names, features, tracts = [], [], []
    for one in tqdm(found, "hearing", disable=None):
        for sound in (one.sound, microphone(one.sound, rng), microphone(one.sound, rng)):
            voice = _heard(Recording(one.voice, sound))
            if voice is not None:
                names.append(one.voice)
                features.append(voice.features)
        voice = _heard(one)
        tracts.append((one.voice, np.nan if voice is None else voice.tract_mm))
    for sign, word in (("m", "men"), ("f", "women")):
        own = [mm for name, mm in tracts if name.startswith("kokoro-") and name[8] == sign and mm == mm]
        print(f"vocal tracts of Kokoro's {word}: {np.exp(np.mean(np.log(own))):.0f} mm, standard deviation "
              f"of the logarithm {np.std(np.log(own)):.3f}")  # fmt: skip
    timbre = fit(np.array(features), names, AXES)
    with atomic_path(options.out) as scratch:
        scratch.write_bytes(tensor_bytes({"mean": timbre.mean, "axes": timbre.axes}, {}))
    print(f"{options.out}: {AXES} axes from {len(names)} recordings of {len(set(names))} voices")


def _measure(options: argparse.Namespace) -> None:
    head = FaceTalk.from_pretrained("default", device="cpu").head
    linear = head.tables.linear
    step = direction(linear["landmarks_mean"], linear["landmarks_basis"])
    found = list(recordings(options.corpora, held_out=True, most=options.most))
    if len({one.voice for one in found}) < 3:
        raise InputError(f"figures take at least three of the held-out voices: {', '.join(HELD_OUT)}")
    rng = np.random.default_rng(1)
    report: dict[str, Any] = {
        "command": f"python -m experiments.casting measure --most {options.most} --seeds {options.seeds}",
        "voices": dict(sorted(Counter(one.voice for one in found).items())),
        "seeds": options.seeds,
        "rows": {},
    }

    def shape(coefficients: Float32) -> Float32:
        moved = np.tensordot(coefficients, linear["landmarks_basis"], 1)
        return np.asarray(linear["landmarks_mean"] + moved, np.float32)

    def plain(voice: Voice, seed: int) -> Float32:
        return drawing.coefficients(voice, step, seed)

    names, heard = _all(found)
    order = rng.permutation(len(heard))
    still = [_numbered(voice, i) for i, voice in enumerate(heard)]
    place = {id(voice): i for i, voice in enumerate(still)}
    rows: dict[str, tuple[list[str], list[Voice], Draw]] = {
        "drawn": (names, heard, plain),
        "statistics alone": (names, heard, _share(0.0, plain)),
        "timbre alone": (names, heard, lambda voice, seed: drawing.coefficients(voice, 0.0 * step, seed)),
        "control: another's voice": (names, [heard[i] for i in order], plain),
        "control: each its own seed": (
            names, still, lambda voice, seed: plain(voice, 1000 * (place[id(voice)] + 1) + seed)
        ),
    }  # fmt: skip
    for label, hard in (("other microphones", False), ("telephone, noise at 15 dB", True)):
        changed = [Recording(one.voice, microphone(one.sound, rng, hard=hard)) for one in found]
        rows[label] = (*_all(changed), plain)
    for name, (who, what, draw) in tqdm(rows.items(), "rows", disable=None):
        report["rows"][name] = separation(who, what, draw, shape, options.seeds)
        report["rows"][name]["recordings"] = len(what)
    few = heard[:: max(1, len(heard) // 20)]
    people = np.stack([shape(0.8 * np.clip(np.random.default_rng(i).standard_normal(len(step)), -2, 2))
                       for i in range(40)])  # fmt: skip
    apart = np.linalg.norm(people[:, None] - people[None], axis=3).mean(axis=2)[~np.eye(40, dtype=bool)]
    report["diversity_mm"] = {
        "seeds of a voice": diversity(few, plain, shape, options.seeds),
        "random identities": float(apart.mean() * HEAD_UNIT_MM),
    }
    report["lean"] = {
        name: round(float(np.mean([lean(v) for n, v in zip(names, heard, strict=True) if n == name])), 3)
        for name in sorted(set(names))
    }
    report["distances_mm"] = _distances(linear, step)
    with atomic_path(options.out) as scratch:
        scratch.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


def _sheet(options: argparse.Namespace) -> None:
    from experiments.casting.sheet import write_sheet

    face = FaceTalk.from_pretrained("default", device="cpu")
    found: dict[str, list[Voice]] = {}
    for one in recordings(options.corpora, held_out=True, most=2):
        voice = _heard(one)
        if voice is not None:
            found.setdefault(one.voice, []).append(voice)
    write_sheet(face, found, options.out)
    print(options.out)


def _distances(linear: dict[str, Float32], step: np.ndarray) -> dict[str, dict[str, float]]:
    """What the direction makes of the published distances: in its fit, and as published."""
    out = {}
    for name, (first, second, effect) in DISTANCES.items():
        along = linear["landmarks_mean"][first] - linear["landmarks_mean"][second]
        basis = linear["landmarks_basis"]
        row = (basis[:, first] - basis[:, second]) @ (along / np.linalg.norm(along)) * HEAD_UNIT_MM
        within = float(np.sqrt(row @ row - (row @ step) ** 2))
        out[name] = {"men less women": float(2.0 * row @ step), "d": float(2.0 * row @ step) / within,
                     "d published": effect}  # fmt: skip
    return out


def _share(share: float, draw: Draw) -> Draw:
    def other(voice: Voice, seed: int) -> Float32:
        kept, drawing.TIMBRE_SHARE = drawing.TIMBRE_SHARE, share
        try:
            return draw(voice, seed)
        finally:
            drawing.TIMBRE_SHARE = kept

    return other


def _numbered(voice: Voice, _: int) -> Voice:
    return Voice(voice.f0, voice.f0_spread, voice.formant_spacing, voice.seconds, voice.features)


def _all(found: list[Recording]) -> tuple[list[str], list[Voice]]:
    names, heard = [], []
    for one in tqdm(found, "hearing", disable=None):
        voice = _heard(one)
        if voice is not None:
            names.append(one.voice)
            heard.append(voice)
    return names, heard


def _heard(one: Recording) -> Voice | None:
    try:
        return hear([one.sound], one.voice)
    except InputError:
        return None  # not enough of it is voiced


if __name__ == "__main__":
    sys.exit(main())
