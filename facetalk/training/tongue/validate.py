"""How well a tongue's network hears what the tip does: ``facetalk train tongue --validate``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from facetalk.arrays import AnyFloat, Bool, Float32
from facetalk.data.phones import CLASSES, is_silence, units_with_classes
from facetalk.data.speech.corpus import Utterance, read_manifest
from facetalk.data.tongue import CONTACTS, contacts
from facetalk.errors import InputError
from facetalk.tongue import TongueNetwork
from facetalk.training.tongue.train import Hear
from facetalk.units import SAMPLE_RATE

_NEAR_S = 0.04
"""How far from a phone's span a contact still counts as made for it."""
_MADE, _UNMEANT = 0.5, 0.01
_VOWELS = ("i", "e", "a", "ah", "o", "u", "y")
_GROUPS: dict[str, tuple[int, tuple[str, ...]]] = {
    # Which contact, and of which classes of phones.
    "t d": (0, ("t",)), "n": (0, ("n",)), "l": (0, ("l",)), "s z": (0, ("s",)), "th dh": (1, ("th",)),
}  # fmt: skip


def validate(
    network: TongueNetwork, hear: Hear, fps: float, manifest: Path, *, split: str | None, seed: int = 0
) -> dict[str, Any]:
    """Figures of a network, beside controls, on recordings with phone times.

    Args:
        network: what is measured.
        hear: the encoder.
        fps: frames a second of its features.
        manifest: a corpus.
        split: only utterances of this split.
        seed: of the controls.

    Returns:
        ``rows``: for each of "network", "shuffled" (the curves of another recording, repeated to length) and
        "constant" (the mean): correlation with the curves of the phones for each contact; "made": share of
        the phones of a group during which, give or take 40 ms, the contact is above 0.5; "false": share of
        frames of vowels, of silence and of all else where no contact is meant in which one is above 0.5;
        "unmeant": share of the frames in which a contact is above 0.5 that are meant to have none of it.

    Raises:
        InputError: no utterance there.
    """
    utterances = read_manifest(manifest, split=split)
    if not utterances:
        raise InputError(f"{manifest}: no utterance of split {split!r} there")
    truth, found = [], []
    for utterance in tqdm(utterances, "hear", unit="file", disable=not sys.stderr.isatty()):
        wave = utterance.samples()
        meant = contacts(utterance.phones, len(wave) / SAMPLE_RATE, fps, alphabet=utterance.alphabet)
        heard = network(hear(wave))
        count = min(len(meant), len(heard))
        truth.append(meant[:count])
        found.append(heard[:count])
    order = np.roll(np.random.default_rng(seed).permutation(len(found)), 1)
    mean = np.concatenate(found).mean(axis=0)
    shuffled = [np.resize(found[other], part.shape) for other, part in zip(order, found, strict=True)]
    rows: Mapping[str, Sequence[Float32]] = {
        "network": found,
        "shuffled": shuffled,
        "constant": [np.tile(mean, (len(part), 1)) for part in found],
    }
    return {
        "manifest": manifest.name,
        "split": split,
        "recordings": len(utterances),
        "voices": len({utterance.voice for utterance in utterances}),
        "minutes": round(sum(map(len, found)) / fps / 60.0, 1),
        "rows": {name: _figures(utterances, truth, curves, fps) for name, curves in rows.items()},
    }


def _figures(
    utterances: Sequence[Utterance], truth: Sequence[Float32], curves: Sequence[Float32], fps: float
) -> dict[str, Any]:
    made: dict[str, list[bool]] = {name: [] for name in _GROUPS}
    wrong: dict[str, list[Bool]] = {"vowels": [], "silence": [], "elsewhere": []}
    for utterance, meant, curve in zip(utterances, truth, curves, strict=True):
        times = (np.arange(len(curve)) + 0.5) / fps
        free = np.asarray((meant < _UNMEANT).all(axis=1))
        touching = np.asarray((curve > _MADE).any(axis=1))
        kinds = np.full(len(curve), "elsewhere", object)
        for symbol, start, end in utterance.phones:
            inside = (times >= start) & (times < end)
            names = {CLASSES[index] for index, _, _ in units_with_classes(symbol, utterance.alphabet)}
            if is_silence(symbol, utterance.alphabet):
                kinds[inside] = "silence"
            elif names and names <= set(_VOWELS):
                kinds[inside] = "vowels"
            for group, (contact, members) in _GROUPS.items():
                # Of affricates, and of ng, which is among n, nothing is asked.
                wanted = contacts([(symbol, 0.0, 1.0)], 1.0, fps, alphabet=utterance.alphabet)
                if names and names <= set(members) and wanted[:, contact].max() > _MADE:
                    near = (times >= start - _NEAR_S) & (times <= end + _NEAR_S)
                    made[group].append(bool((curve[near, contact] > _MADE).any()))
        for kind, shares in wrong.items():
            shares.append(touching[free & (kinds == kind)])
    together, meant_all = np.concatenate(list(curves)), np.concatenate(list(truth))
    return {
        "correlation": {
            name: _correlation(together[:, column], meant_all[:, column])
            for column, name in enumerate(CONTACTS)
        },
        "made": {name: _share(np.array(hits, bool)) for name, hits in made.items()},
        "phones": {name: len(hits) for name, hits in made.items()},
        "false": {name: _share(np.concatenate(parts)) for name, parts in wrong.items()},
        "unmeant": {
            name: _share(meant_all[together[:, column] > _MADE, column] < _UNMEANT)
            for column, name in enumerate(CONTACTS)
        },
    }


def _share(hits: Bool) -> float:
    return round(float(hits.mean()), 4) if len(hits) else 0.0


def _correlation(one: AnyFloat, other: AnyFloat) -> float:
    if np.ptp(one) < 1e-9 or np.ptp(other) < 1e-9:
        return 0.0
    return round(float(np.corrcoef(one, other)[0, 1]), 4)
