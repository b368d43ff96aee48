"""``facetalk view``: a page that shows heads, and speaks what it is given or told."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import threading
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facetalk.cli import _options
from facetalk.errors import InputError

if TYPE_CHECKING:
    from facetalk.view.files import File

_PORT = 8766
_MOST_GIVEN = 2**30  # bytes that a browser still opens


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the verb."""
    parser.add_argument("file", type=Path, nargs="?", default=None,
                        help="shown first: talk.glb with the sound beside it, or a recording")  # fmt: skip
    parser.add_argument("--host", default="127.0.0.1",
                        help="where to listen; an address of a network (0.0.0.0 for all) lets everybody "
                        "there in, and their browsers keep the microphone to themselves")  # fmt: skip
    parser.add_argument("--port", type=int, default=_PORT, help="TCP port; 0 takes a free one")
    parser.add_argument("--no-browser", action="store_true", help="only print where the page is")
    _options.add_texture_size(parser)
    _options.add_encoder_argument(parser)
    _options.add_model_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Serve the page until Ctrl-C."""
    from facetalk.view.files import page_files

    if not 0 <= args.port <= 65535:
        raise InputError(f"--port must lie in 0..65535, got {args.port}")
    files = page_files()
    given = {} if args.file is None else _given(args.file, files)
    from facetalk.view.server import ViewServer

    with contextlib.ExitStack() as stack:
        # Before the model is loaded: a port that is taken should not cost the time.
        server = ViewServer(args.host, args.port)
        stack.callback(server.close)
        from facetalk.pipeline import FaceTalk
        from facetalk.view.files import File
        from facetalk.view.speaker import Speaker

        _options.set_threads(args.threads)
        model = FaceTalk.from_pretrained(args.model, args.device, encoder=args.encoder)
        folder = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="facetalk-view-", ignore_cleanup_errors=True)
        )
        speaker = Speaker(model, Path(folder), args.texture_size)
        about = {**speaker.describe(), "names": speaker.names, "given": given}
        files["/model.json"] = File(json.dumps(about).encode(), "application/json")
        files["/head.glb"] = File(speaker.head, "model/gltf-binary")
        server.start(files, speaker)
        print(f"{server.url} shows it; Ctrl-C ends it", flush=True)
        if not args.no_browser and not webbrowser.open(server.url):
            print("no browser was found: open the address in one", file=sys.stderr)
        threading.Event().wait()


def _given(path: Path, files: dict[str, File]) -> dict[str, Any]:
    """Put a file among those that are answered; return what the page is told of it.

    Raises:
        InputError: there is none, or it is neither a .glb nor sound.
    """
    from facetalk.audio.load import AudioReader
    from facetalk.render.scene import AnimatedScene
    from facetalk.view.files import File
    from facetalk.view.speaker import MOST_BYTES

    glb = path.suffix.lower() == ".glb"
    sound: Path | None = path
    if glb:
        if not path.is_file():
            raise InputError(f"no such file: {path}")
        if path.stat().st_size > _MOST_GIVEN:
            raise InputError(f"{path} is larger than a browser opens; draw it with facetalk render")
        sound = AnimatedScene(path).audio
        files["/given.glb"] = File(path.read_bytes(), "model/gltf-binary")
    if sound is not None:
        AudioReader(sound)
        if sound.stat().st_size > MOST_BYTES:
            raise InputError(f"{sound} has more than {MOST_BYTES // 2**20} MiB; use facetalk generate")
        files["/given.sound"] = File(sound.read_bytes(), "application/octet-stream")
    return {"name": path.name, "glb": glb, "sound": sound is not None}
