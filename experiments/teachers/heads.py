"""Encoders by their linear heads: ``python -m experiments.teachers.heads --runs NAME=DIR ... --corpus DIR``.

A run is what ``facetalk train audio`` leaves: ``encoder/`` and ``heads.pt``. No motion model has a say.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from experiments.common.plainly import plainly
from experiments.teachers.__main__ import chosen, kind_of
from facetalk.audio.encoder import AudioEncoder
from facetalk.errors import InputError
from facetalk.files import atomic_path
from facetalk.training.audio.train import _HEADS, evaluate, load_heads


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="python -m experiments.teachers.heads", description=__doc__)
    parser.add_argument("--runs", nargs="+", required=True, metavar="NAME=DIR", help="trainings of encoders")
    parser.add_argument("--corpus", type=Path, nargs="+", required=True, metavar="DIR")
    parser.add_argument("--clips", type=int, default=160, metavar="N", help="held-out recordings (160)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON")
    options = parser.parse_args(arguments)
    return plainly(_run, options)


def _run(options: argparse.Namespace) -> None:
    test = chosen(options.corpus, "valid", options.clips)
    if not test:
        raise InputError("the corpora have no recordings of split 'valid'")
    kinds = sorted({kind_of(u) for u in test})
    told: dict[str, dict[str, dict[str, float]]] = {}
    for run in options.runs:
        name, _, folder = run.partition("=")
        if not folder:
            raise InputError(f"--runs {run}: give NAME=DIR")
        encoder = AudioEncoder.from_pretrained(Path(folder) / "encoder")
        heads = load_heads(Path(folder) / _HEADS, encoder.feature_dim)
        told[name] = {}
        for kind in kinds:
            figures = evaluate(encoder, heads, [u for u in test if kind_of(u) == kind])
            told[name][kind] = {key: round(value, 4) for key, value in figures.items()}
            print(name, kind, told[name][kind], flush=True)
    with atomic_path(options.out) as temporary:
        temporary.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
