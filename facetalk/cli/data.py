"""``facetalk data``: the speech corpus that training uses, and ``facetalk data head``: the packed head."""

from __future__ import annotations

import argparse
from pathlib import Path

from facetalk.cli import _options
from facetalk.errors import InputError

_SPEECH_ONLY = {"sources": None, "minutes": None, "packages": None, "gpl": False, "acceptance": False,
                "seed": None, "kokoro": None}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the verb."""
    from facetalk.data.speech.build import DEFAULT_SOURCES, KNOWN_SOURCES

    parser.add_argument("what", nargs="?", choices=("speech", "head"), default="speech",
                        help="speech: corpus with phone times (default); head: pack ICT-FaceKit")  # fmt: skip
    parser.add_argument("-o", "--out", "--output", dest="out", required=True, type=Path, metavar="PLACE",
                        help="corpus folder (continued if there); for head: the .npz to write")  # fmt: skip
    speech = parser.add_argument_group("speech")
    speech.add_argument("--sources", default=None,
                        help=f"comma-separated, of {','.join(KNOWN_SOURCES)}; default "
                        f"{','.join(DEFAULT_SOURCES)}, without those that are not installed")  # fmt: skip
    speech.add_argument(
        "--minutes", type=_options.positive, default=None, help="synthetic speech in all; default 120"
    )
    speech.add_argument("--packages", default=None, metavar="DIR",
                        help="where Debian packages are installed or unpacked; default /")  # fmt: skip
    speech.add_argument("--gpl", action="store_true", help="allow the GPL recordings of tuxpaint")
    speech.add_argument("--kokoro", type=Path, default=None, metavar="DIR",
                        help="folder with Kokoro's model and voices; default: the installed packages, and "
                        "npm for the voices")  # fmt: skip
    speech.add_argument("--acceptance", action="store_true",
                        help="build the reserved test set instead, never to train on")  # fmt: skip
    speech.add_argument(
        "--seed", type=_options.seed, default=None, help="of texts, rates and pitches; default 0"
    )
    head = parser.add_argument_group("head")
    head.add_argument("--ict", type=Path, default=None, metavar="FOLDER",
                      help="clone of https://github.com/ICT-VGL/ICT-FaceKit (or a packed .npz)")  # fmt: skip
    head.add_argument("--rounding", type=_options.non_negative, default=None, metavar="MM",
                      help="round displacements to this, for a smaller file; default 0: do not")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Build a corpus and print what is in it, or pack a head."""
    if args.what == "head":
        _head(args)
        return 0
    if args.ict is not None or args.rounding is not None:
        raise InputError("--ict and --rounding are for `facetalk data head`")
    from facetalk.data.speech.build import build, build_acceptance

    packages = "/" if args.packages is None else args.packages
    if args.acceptance:
        given = [name for name in ("sources", "minutes", "gpl", "kokoro", "seed")
                 if getattr(args, name) != _SPEECH_ONLY[name]]  # fmt: skip
        if given:
            raise InputError(f"--acceptance is one set of recordings: leave out --{', --'.join(given)}")
        utterances = build_acceptance(args.out, packages=packages)
    else:
        sources = None
        if args.sources is not None:
            sources = [name.strip() for name in args.sources.split(",") if name.strip()]
        utterances = build(
            args.out,
            sources=sources,
            minutes=120.0 if args.minutes is None else args.minutes,
            seed=0 if args.seed is None else args.seed,
            packages=packages,
            gpl=args.gpl,
            kokoro=args.kokoro,
        )
    totals: dict[tuple[str, str, str], float] = {}
    for utterance in utterances:
        key = (utterance.split, utterance.id.split("/")[0], utterance.licence)
        totals[key] = totals.get(key, 0.0) + utterance.seconds / 60.0
    for (split, source, licence), total in sorted(totals.items()):
        print(f"{split:6s} {source:32s} {total:7.1f} min  {licence}")
    return 0


def _head(args: argparse.Namespace) -> None:
    for name, unset in _SPEECH_ONLY.items():
        if getattr(args, name) != unset:
            raise InputError(f"--{name} is for a speech corpus, not for `facetalk data head`")
    if args.ict is None:
        raise InputError("--ict is missing: name the folder of a clone of ICT-FaceKit")
    from facetalk.data.heads.ict_pack import pack, write
    from facetalk.files import check_output_folder

    check_output_folder(args.out)
    fields = pack(args.ict, rounding_mm=0.0 if args.rounding is None else args.rounding)
    path = write(fields, args.out)
    identities, vertices = fields["identity_deltas"].shape[:2]
    print(
        f"{path}: {vertices} vertices, {identities} identity shapes, {len(fields['expression_names'])} "
        f"expressions, {path.stat().st_size / 1e6:.1f} MB"
    )
