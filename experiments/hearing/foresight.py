"""How well live lips could be: ``python -m experiments.hearing.foresight --corpus DIR ... --out FILE``.

A listener that tells every phone as it begins (or 40 ms later), perfectly, does not know what is said next,
and lips make ready. Here it knows the phones that began within a look-ahead after a frame, and takes for
the rest the median of what follows such a phone elsewhere in the corpus. How far the lip gap at that frame is
then from the one by all phones is what a look-ahead costs before any network errs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.common.plainly import plainly
from experiments.hearing import LOOK_AHEADS_MS
from facetalk.data.phones import Phone
from facetalk.data.speech.corpus import Utterance, read_manifest
from facetalk.data.visemes import curves, lip_gap
from facetalk.errors import InputError
from facetalk.files import atomic_path
from facetalk.units import DEFAULT_FPS

FIRST_LAYERS_S = 0.052
"""Of a look-ahead, what the encoder's convolutions have to wait for."""
NEEDED_S = 0.04
"""Of a phone, what has to be heard until it is told, in the second row: a stop's burst, some of a vowel."""
_AROUND_S, _RATE = 0.9, 100.0
Place = tuple[Sequence[Phone], int]


def gap_at(phones: Sequence[Phone], moment: float, alphabet: str) -> float:
    """The lip gap that phones ask for at a moment, mm."""
    begin = moment - _AROUND_S
    near = [
        (name, max(a, begin) - begin, min(b, moment + _AROUND_S) - begin)
        for name, a, b in phones
        if b > begin and a < moment + _AROUND_S
    ]
    weights = curves(near, 2 * _AROUND_S, _RATE, alphabet=alphabet)
    return float(lip_gap(weights)[round(_AROUND_S * _RATE)])


def continued(phones: Sequence[Phone], known_s: float, place: Place) -> list[Phone]:
    """What is known of phones until a moment, with what follows its last phone at another place after it."""
    known = [phone for phone in phones if phone[1] < known_s]
    name, start, _ = known[-1]
    others, index = place
    lasts = max(others[index][2] - others[index][1], known_s - start)
    shift = start + lasts - others[index][2]
    after = [(n, a + shift, b + shift) for n, a, b in others[index + 1 :]]
    return [*known[:-1], (name, start, start + lasts), *after]


def places(utterances: Sequence[Utterance]) -> dict[str, list[Place]]:
    """Where each phone is said."""
    out: dict[str, list[Place]] = {}
    for utterance in utterances:
        for index, phone in enumerate(utterance.phones):
            out.setdefault(f"{utterance.alphabet} {phone[0]}", []).append((utterance.phones, index))
    return out


def costs(
    utterances: Sequence[Utterance],
    heard: dict[str, list[Place]],
    frames: int,
    guesses: int,
    needed_s: float = 0.0,
    seed: int = 0,
) -> dict[str, float]:
    """Mean distance by look-ahead, mm, over frames of each recording, of who hears ``needed_s`` of a phone
    before it is told."""
    rng = np.random.default_rng(seed)
    far: dict[int, list[float]] = {ahead: [] for ahead in LOOK_AHEADS_MS}
    for utterance in utterances:
        phones = utterance.phones
        for moment in rng.uniform(phones[0][1] + 0.1, phones[-1][2], frames):
            moment = (np.floor(moment * DEFAULT_FPS) + 0.5) / DEFAULT_FPS
            truth = gap_at(phones, moment, utterance.alphabet)
            for ahead in LOOK_AHEADS_MS:
                known_s = moment + ahead / 1000 - FIRST_LAYERS_S - needed_s
                last = [phone for phone in phones if phone[1] < known_s][-1]
                choice = heard.get(f"{utterance.alphabet} {last[0]}", [])
                if not choice or last is phones[-1]:
                    far[ahead].append(0.0)
                    continue
                drawn = (choice[int(k)] for k in rng.integers(len(choice), size=guesses))
                guessed = [gap_at(continued(phones, known_s, p), moment, utterance.alphabet) for p in drawn]
                far[ahead].append(abs(float(np.median(guessed)) - truth))
    return {str(ahead): round(float(np.mean(values)), 3) for ahead, values in far.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="python -m experiments.hearing.foresight", description=__doc__)
    parser.add_argument("--corpus", type=Path, nargs="+", required=True, metavar="DIR")
    parser.add_argument("--clips", type=int, default=60, metavar="N", help="held-out recordings (60)")
    parser.add_argument("--frames", type=int, default=8, metavar="N", help="moments of each (8)")
    parser.add_argument(
        "--guesses", type=int, default=9, metavar="N", help="continuations of each moment (9)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON")
    options = parser.parse_args(arguments)
    return plainly(_run, options)


def _run(options: argparse.Namespace) -> None:
    said = [u for folder in options.corpus for u in read_manifest(folder, split="train")]
    test = [u for folder in options.corpus for u in read_manifest(folder, split="valid") if u.phones]
    if not said or not test:
        raise InputError("the corpora need recordings of both splits")
    test = test[:: max(1, len(test) // options.clips)]
    heard = places(said)
    told = {
        name: costs(test, heard, options.frames, options.guesses, needed)
        for name, needed in (("at_once", 0.0), ("later", NEEDED_S))
    }
    print(json.dumps(told))
    with atomic_path(options.out) as temporary:
        content = {"recordings": len(test), "frames": options.frames, "guesses": options.guesses, "mm": told}
        temporary.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
