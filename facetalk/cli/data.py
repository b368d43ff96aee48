"""``facetalk data``: make the speech corpus that training uses."""

from __future__ import annotations

import argparse

from facetalk.data.speech.build import DEFAULT_SOURCES, build, build_acceptance


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the verb."""
    parser.add_argument("--out", required=True, metavar="DIR", help="corpus folder (continued if it exists)")
    parser.add_argument(
        "--sources", default=",".join(DEFAULT_SOURCES), help="comma-separated; default %(default)s"
    )
    parser.add_argument(
        "--minutes", type=float, default=120.0, help="synthetic speech in all; default %(default)g"
    )
    parser.add_argument(
        "--packages", default="/", metavar="DIR", help="where Debian packages are installed or unpacked"
    )
    parser.add_argument("--gpl", action="store_true", help="allow the GPL recordings of tuxpaint")
    parser.add_argument(
        "--acceptance", action="store_true", help="build the reserved test set instead, never to train on"
    )
    parser.add_argument("--seed", type=int, default=0)


def run(args: argparse.Namespace) -> int:
    """Build a corpus and print what is in it."""
    if args.acceptance:
        utterances = build_acceptance(args.out, packages=args.packages)
    else:
        sources = [name.strip() for name in args.sources.split(",") if name.strip()]
        utterances = build(
            args.out,
            sources=sources,
            minutes=args.minutes,
            seed=args.seed,
            packages=args.packages,
            gpl=args.gpl,
        )
    totals: dict[tuple[str, str, str], float] = {}
    for utterance in utterances:
        key = (utterance.split, utterance.id.split("/")[0], utterance.licence)
        totals[key] = totals.get(key, 0.0) + utterance.seconds / 60.0
    for (split, source, licence), total in sorted(totals.items()):
        print(f"{split:6s} {source:32s} {total:7.1f} min  {licence}")
    return 0
