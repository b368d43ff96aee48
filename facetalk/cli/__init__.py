"""The ``facetalk`` command: thin verbs over the package.

Each verb is a module with ``add_arguments(parser)`` and ``run(args)``. Only the module of the verb that was
asked for is imported, so ``facetalk --help`` is quick.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import io
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from facetalk import version
from facetalk.cli._help import HelpFormatter
from facetalk.cli._streams import flush_output, give_up_output, open_closed
from facetalk.errors import ExtensionError, HearingWarning, InputError
from facetalk.interrupts import Terminable, Terminated
from facetalk.optional import needed_for

# Verbs that need more than the package with the smallest extra.
_EXTRAS = {"train": "train", "distill": "train", "data": "train", "render": "render", "fit": "fit"}

VERBS: dict[str, tuple[str, str]] = {
    "generate": ("facetalk.cli.generate", "speech -> animated head (.glb, .ply) or motion (.safetensors)"),
    "batch": ("facetalk.cli.batch", "many recordings -> motions, heads or features; also on a Ray cluster"),
    "live": ("facetalk.cli.live", "speech as it is spoken -> game engines, avatars, browsers"),
    "export": ("facetalk.cli.export", "a stored motion -> animated head"),
    "view": (
        "facetalk.cli.view",
        "a web page of this machine: show a .glb, speak a recording or a microphone",
    ),
    "render": ("facetalk.cli.render", "draw an animated .glb as video (.mp4) or contact sheet (.png)"),
    "fit": ("facetalk.cli.fit", "scans of a moving face -> its motion, by any NPHM's codes"),
    "evaluate": ("facetalk.cli.evaluate", "measure lips, life and diversity against speech and its phones"),
    "train": ("facetalk.cli.train", "train the head, the audio encoder or the motion model"),
    "distill": (
        "facetalk.cli.distill",
        "train a student that samples in 1, 2, 4 or 8 steps, from recordings",
    ),
    "data": ("facetalk.cli.data", "make the speech corpus that training uses; pack a morphable head"),
    "assemble": ("facetalk.cli.assemble", "audio encoder + motion model + head -> model folder"),
    "convert": ("facetalk.cli.convert", "official NPHM / MonoNPHM checkpoint -> safetensors folder"),
    "bench": ("facetalk.cli.bench", "what each stage costs on this machine, beside the least it could cost"),
    "info": ("facetalk.cli.info", "version, backends and why one is missing, CPU, built-in model"),
}


# What a person can cause and mend; anything else of the operating system is a defect and shows itself.
_USER_ERRORS = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT,
    errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY, errno.ENAMETOOLONG, errno.ELOOP,
    errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.EBUSY, errno.ENXIO, errno.ENODEV,
    errno.ETXTBSY,
)  # fmt: skip


def _usage() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {name:<{width}}  {text}" for name, (_, text) in VERBS.items())
    return (
        "usage: facetalk VERB [options]\n\nSpeech in, an animated neural 3D head out.\n\n"
        f"verbs:\n{verbs}\n\n`facetalk VERB --help` explains a verb; `facetalk --version` prints the "
        "version;\n"
        "`facetalk --cflags --libs` prints what a C compiler needs to use the library."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0 fine, 1 recordings of a batch failed, 2 bad input,
    128 and the signal's number when a signal ended it (130: Ctrl-C, 143: SIGTERM)."""
    open_closed()
    try:
        return _main(arguments)
    finally:
        give_up_output()


def _main(arguments: Sequence[str] | None) -> int:
    try:
        with Terminable() as signals, warnings.catch_warnings():
            _tell_of_hearing()
            try:
                try:
                    return _run(arguments)
                finally:
                    flush_output()
            except Exception as error:
                if signals.came is not None and not _follows(error, signals.came):
                    raise signals.came from error  # a library lost it, or took it for a damaged file
                raise
    except (InputError, ExtensionError) as error:
        return _fail(str(error))
    except BrokenPipeError:
        return 0
    except OSError as error:
        if error.errno in _USER_ERRORS:
            return _fail(f"{error.filename or 'file'}: {error.strerror}")
        raise
    except MemoryError:
        return _fail("not enough memory for this request; use a lower --resolution or a shorter clip")
    except Terminated as signal:
        print(f"ended by {signal}", file=sys.stderr)
        return 128 + signal.signum
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _follows(error: BaseException | None, earlier: BaseException) -> bool:
    """Whether an error was raised while ``earlier`` was dealt with."""
    while error is not None and error is not earlier:
        error = error.__cause__ or error.__context__
    return error is not None


def _run(arguments: Sequence[str] | None) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name of a file need not have characters that the terminal knows, or any.
        sys.stdout.reconfigure(errors="backslashreplace")
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["help"] and len(words) > 1:
        words = [*words[1:], "--help"]
    if not words or words[0] in ("-h", "--help", "help"):
        print(_usage(), file=sys.stdout if words else sys.stderr)
        return 0 if words else 2
    if words[0] == "--version":
        print(f"facetalk {version.__version__}")
        return 0
    if words[0] in ("--cflags", "--libs", "--include", "--library", "--cmakedir"):
        return int(importlib.import_module("facetalk.cli._flags").run(words))
    if words[0] not in VERBS:
        print(f"error: no verb {words[0]!r}; one of: {', '.join(VERBS)}", file=sys.stderr)
        return 2
    with needed_for(f"facetalk {words[0]}", _EXTRAS.get(words[0])):
        return _run_verb(words)


def _run_verb(words: list[str]) -> int:
    module, text = VERBS[words[0]]
    verb = importlib.import_module(module)
    parser = argparse.ArgumentParser(
        prog=f"facetalk {words[0]}",
        description=text,
        formatter_class=HelpFormatter,
    )
    verb.add_arguments(parser)
    return int(verb.run(parser.parse_args(words[1:])) or 0)


def _tell_of_hearing() -> None:
    """Print what is not well with a recording as one line, once; leave other warnings as they are."""
    show, told = warnings.showwarning, set()

    def tell(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if not issubclass(category, HearingWarning):
            show(message, category, *place, **more)
        elif str(message) not in told:
            told.add(str(message))
            print("warning: " + " ".join(str(message).split()), file=sys.stderr)

    warnings.simplefilter("always", HearingWarning)
    warnings.showwarning = tell


def _fail(message: str) -> int:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    return 2
