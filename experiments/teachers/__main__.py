"""Linear probes of the audio encoder and two teachers: ``python -m experiments.teachers --corpus DIR ...``.

Which of them tells, frame by frame, what lips do? Ridge regressions from each one's features around a frame
(three to each side) and from several together are fitted on voices of the training split and read on voices
that were never trained on. If ours with a teacher's are no better than ours alone, it has nothing to teach.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from experiments.common.plainly import plainly
from experiments.teachers.recognizer import Hama
from facetalk.arrays import Float32
from facetalk.audio.encoder import AudioEncoder
from facetalk.audio.whisper import LAYERS, Whisper
from facetalk.data.phones import is_bilabial
from facetalk.data.speech.corpus import Utterance, read_manifest
from facetalk.errors import InputError
from facetalk.files import atomic_path
from facetalk.metrics.landmarks import pearson
from facetalk.models import find_model
from facetalk.training.audio.targets import BILABIAL, CURVES, LABIODENTAL, make_targets
from facetalk.units import DEFAULT_FPS

_AROUND = 3
_RIDGE = (1e2, 1e3, 1e4, 1e5)
_CHOOSING = 6  # every sixth training recording chooses the ridge
_LEAST_S = 1.2
_NEAR_S, _SHUT_MM = 0.04, 1.5
Features = dict[str, list[Float32]]


def chosen(corpora: Sequence[Path], split: str, count: int) -> list[Utterance]:
    """About ``count`` recordings, as many of each maker of voices, spread over the corpora."""
    kinds: dict[str, list[Utterance]] = {}
    for corpus in corpora:
        for utterance in read_manifest(corpus, split=split):
            if 25.0 > utterance.seconds >= _LEAST_S:
                kinds.setdefault(kind_of(utterance), []).append(utterance)
    share = -(-count // max(1, len(kinds)))
    return [u for found in kinds.values() for u in found[:: max(1, -(-len(found) // share))]]


def kind_of(utterance: Utterance) -> str:
    """The maker of a voice; each speaker of Asterisk is one."""
    name = utterance.voice.split("-")[0]
    return utterance.voice if name == "asterisk" else name


def heard(utterances: Sequence[Utterance], encoder: AudioEncoder, whisper: Whisper, hama: Hama) -> Features:
    """Features of each recording at the motion frame rate, by name."""
    out: Features = {}
    for utterance in tqdm(utterances, desc="hearing", unit="file", disable=not sys.stderr.isatty()):
        samples = utterance.samples()
        ours = encoder.features(samples, fps=DEFAULT_FPS).numpy()
        layers = paired(torch.stack(whisper([samples])[0], 1).numpy(), len(ours))
        told = paired(np.exp(hama(samples)), len(ours))
        parts = {"ours": ours, "hama": told, **{f"whisper {k}": layers[:, k] for k in range(LAYERS)}}
        for name, value in parts.items():
            out.setdefault(name, []).append(value.astype(np.float32))
    return out


def paired(values: Float32, frames: int) -> Float32:
    """From 50 a second to 25: the mean of the two within a frame."""
    need = 2 * frames - len(values)
    values = np.pad(values, ((0, max(0, need)),) + ((0, 0),) * (values.ndim - 1), mode="edge")[: 2 * frames]
    return np.asarray(values.reshape(frames, 2, *values.shape[1:]).mean(1))


def around(parts: Sequence[Float32]) -> Float32:
    """Each frame beside its neighbours, (T, A) -> (T, 7 A), of all recordings one after the other."""
    out = []
    for part in parts:
        padded = np.pad(part, ((_AROUND, _AROUND), (0, 0)), mode="edge")
        out.append(np.concatenate([padded[k : k + len(part)] for k in range(2 * _AROUND + 1)], 1))
    return np.concatenate(out)


class Probe:
    """A ridge regression whose strength was chosen on recordings that it was not fitted on."""

    def __init__(self, inputs: Float32, wanted: Float32, chooses: NDArray[np.bool_]) -> None:
        self.mean, self.scale = inputs.mean(0), inputs.std(0) + 1e-4
        x = (inputs - self.mean) / self.scale
        self.offset = wanted.mean(0)
        y = wanted - self.offset
        squares, products = x[~chooses].T @ x[~chooses], x[~chooses].T @ y[~chooses]
        best = np.inf
        for ridge in _RIDGE:
            weights = np.linalg.solve(squares + ridge * np.eye(len(squares), dtype=np.float32), products)
            error = float(((x[chooses] @ weights - y[chooses]) ** 2).sum())
            if error < best:
                best, self.weights = error, weights

    def __call__(self, inputs: Float32) -> Float32:
        """(T, columns)."""
        return np.asarray((inputs - self.mean) / self.scale @ self.weights + self.offset)


def wanted(utterance: Utterance, frames: int) -> Float32:
    """(T, 25 + 9): shares of classes, then curves, the gap first."""
    target = make_targets(utterance.phones, frames / DEFAULT_FPS, utterance.alphabet)
    share, curve = target.at((np.arange(frames) + 0.5) / DEFAULT_FPS, 1 / DEFAULT_FPS)
    return np.concatenate([share, curve], 1)


def figures(
    read: Float32, truth: Float32, utterances: Sequence[Utterance], lengths: Sequence[int]
) -> dict[str, float]:
    """What is told right."""
    count = truth.shape[1] - len(CURVES)
    label, guess = truth[:, :count].argmax(1), read[:, :count].argmax(1)
    known = truth[:, :count].max(1) >= 0.5
    out = {"frames": float(known.sum()), "classes": float((label == guess)[known].mean())}
    for name, group in (("p b m", BILABIAL), ("f v", LABIODENTAL)):
        flag, told = truth[:, list(group)].sum(1), read[:, list(group)].sum(1)
        out[f"r {name}"] = float(pearson(told, flag))
        mine = known & np.isin(label, group)
        out[f"recall {name}"] = float(np.isin(guess[mine], group).mean())
    out["r lip gap"] = float(pearson(read[:, count], truth[:, count]))
    out["r roll"] = float(pearson(read[:, -1], truth[:, -1]))
    shut = total = at = 0
    for utterance, length in zip(utterances, lengths, strict=True):
        gap = read[at : at + length, count] * CURVES[0][2]
        times = (np.arange(length) + 0.5) / DEFAULT_FPS
        for symbol, start, end in utterance.phones:
            if is_bilabial(symbol, utterance.alphabet):
                near = (times >= start - _NEAR_S) & (times <= end + _NEAR_S)
                if near.any():
                    total += 1
                    shut += int(gap[near].min() < _SHUT_MM)
        at += length
    out["closed"] = shut / max(1, total)
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit, read and write."""
    parser = argparse.ArgumentParser(prog="python -m experiments.teachers", description=__doc__)
    parser.add_argument(
        "--corpus", type=Path, nargs="+", required=True, metavar="DIR", help="corpora (facetalk data)"
    )
    parser.add_argument(
        "--also", type=Path, nargs="*", default=[], metavar="DIR", help="corpora to read on alone"
    )
    parser.add_argument("--model", default="default", help="model whose audio encoder is asked")
    parser.add_argument("--clips", type=int, default=240, metavar="N", help="recordings to fit on (240)")
    parser.add_argument("--held-out", type=int, default=80, metavar="N", help="recordings to read on (80)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON")
    options = parser.parse_args(arguments)
    return plainly(_run, options)


def _run(options: argparse.Namespace) -> None:
    fit, test = (
        chosen(options.corpus, "train", options.clips),
        chosen(options.corpus, "valid", options.held_out),
    )
    other = [u for d in options.also for s in ("train", "valid") for u in chosen([d], s, options.held_out)]
    if not fit or not test:
        raise InputError("the corpora have no recordings to fit on, or none of split 'valid'")
    encoder = AudioEncoder.from_pretrained(find_model(options.model).folder / "audio")
    whisper, hama = Whisper(), Hama()
    groups = {"fit": fit, "test": test, "other": other}
    with torch.inference_mode():
        sound = {name: heard(us, encoder, whisper, hama) for name, us in groups.items() if us}
    report = {name: len(us) for name, us in groups.items()}
    print(json.dumps(report))
    rows = probe(groups, sound, lambda row: print(json.dumps(row), flush=True))
    with atomic_path(options.out) as temporary:
        temporary.write_text(json.dumps({"recordings": report, "read": by_name(rows)}, indent=1) + "\n")


def by_name(rows: Sequence[dict[str, object]]) -> dict[str, dict[str, object]]:
    """By features, then by voices."""
    out: dict[str, dict[str, object]] = {}
    for row in rows:
        figures_of = {name: value for name, value in row.items() if name not in ("features", "voices")}
        out.setdefault(str(row["features"]), {})[str(row["voices"])] = figures_of
    return out


def probe(
    groups: dict[str, list[Utterance]], sound: dict[str, Features], tell: Callable[[dict[str, object]], None]
) -> list[dict[str, object]]:
    """A row for each set of features and each kind of held-out voice."""
    lengths = {name: [len(v) for v in features["ours"]] for name, features in sound.items()}
    truth = {name: [wanted(u, n) for u, n in zip(groups[name], lengths[name], strict=True)] for name in sound}
    chooses = np.repeat(np.arange(len(groups["fit"])) % _CHOOSING == 0, lengths["fit"])
    layers = [f"whisper {k}" for k in range(LAYERS)]
    sets = [
        ["ours"],
        *([n] for n in layers),
        ["hama"],
        ["ours", "hama"],
        ["ours", "whisper 3"],
        ["ours", "whisper 4"],
    ]
    sets.append(["ours", "whisper 4", "hama"])
    rows: list[dict[str, object]] = []
    for names in sets:
        inputs = {g: np.concatenate([around(f[n]) for n in names], 1) for g, f in sound.items()}
        fitted = Probe(inputs["fit"], np.concatenate(truth["fit"]), chooses)
        for group in sound:
            if group == "fit":
                continue
            read = fitted(inputs[group])
            kinds = np.array([kind_of(u) for u in groups[group]])
            for kind in sorted(set(kinds)):
                mine = [i for i, k in enumerate(kinds) if k == kind]
                frames = np.repeat(kinds == kind, lengths[group])
                row: dict[str, object] = {"features": " + ".join(names), "voices": str(kind)}
                told = figures(
                    read[frames], np.concatenate([truth[group][i] for i in mine]),
                    [groups[group][i] for i in mine], [lengths[group][i] for i in mine],
                )  # fmt: skip
                row.update({k: round(v, 4) for k, v in told.items()})
                rows.append(row)
                tell(row)
    return rows


if __name__ == "__main__":
    raise SystemExit(main())
