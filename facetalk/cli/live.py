"""``facetalk live --from mic --to livelink://``."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from facetalk.arguments import check_whisper_ahead
from facetalk.cli import _options
from facetalk.cli._style import add_style_arguments, read_style
from facetalk.errors import InputError

if TYPE_CHECKING:
    from facetalk.live.address import Address
    from facetalk.live.frame import Sender
    from facetalk.live.sources import Source
    from facetalk.pipeline import FaceTalk

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Addresses to listen at that are none to connect to, and this machine's."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the verb."""
    parser.add_argument("--from", dest="source", required=True, metavar="SOUND",
                        help="mic, mic:NAME or mic:NUMBER; a recording, which is played in real time; or - "
                        "for a WAV stream on standard input")  # fmt: skip
    parser.add_argument("--to", action="append", default=None, metavar="ADDRESS",
                        help="livelink://host:11111/subject, vmc://host:39539, osc://host:9000/prefix, "
                        "ws://host:8765 (listens there) or stdout (a line of JSON a frame); the host is this "
                        "machine where none is given. Give --to again for more")  # fmt: skip
    parser.add_argument("--preview", action="store_true",
                        help="show the head in a page of this machine's browser, at the address of --to "
                        "ws:// (default: ws://127.0.0.1:8765); alone or beside --to")  # fmt: skip
    parser.add_argument("--look-ahead", type=_options.look_ahead, default=0.2, metavar="SECONDS",
                        help="sound that is heard beyond a frame before it is sent")  # fmt: skip
    parser.add_argument("--steps", type=int, default=None, help="denoising steps (default: the model's)")
    parser.add_argument("--guidance", type=_options.non_negative, default=None,
                        help="guidance weight, 1 = none (default: the model's)")  # fmt: skip
    parser.add_argument("--seed", type=_options.seed, default=0, help="noise seed")
    parser.add_argument("--rate", type=_options.positive_int, default=None, metavar="HZ",
                        help="with --from -: bare signed 16-bit little-endian mono samples of this rate "
                        "instead of a WAV stream")  # fmt: skip
    parser.add_argument("--fast", action="store_true",
                        help="with --to stdout alone: as fast as it goes instead of in real time, and every "
                        "frame")  # fmt: skip
    add_style_arguments(parser)
    _options.add_encoder_argument(parser, live=True)
    _options.add_model_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Open both ends, load the model, and send until the sound is over."""
    from facetalk.live.address import parse_address
    from facetalk.live.senders import open_sender
    from facetalk.live.session import Session
    from facetalk.models import find_model

    if not args.to and not args.preview:
        raise InputError("live needs --to ADDRESS (livelink://, vmc://, osc://, ws://, stdout) or --preview")
    addresses = [parse_address(text) for text in args.to or []]
    if args.preview and not any(address.scheme == "ws" for address in addresses):
        addresses.append(parse_address("ws://"))
    _check(args, addresses)
    style = read_style(args)
    fps = find_model(args.model).fps
    with contextlib.ExitStack() as stack:
        source = _open_source(args)
        stack.callback(source.close)
        senders = [open_sender(address, fps, wait=args.fast) for address in addresses]
        for sender in senders:
            stack.callback(sender.close)
        from facetalk.data.arkit import ArkitFace
        from facetalk.pipeline import FaceTalk

        _options.set_threads(args.threads)
        model = FaceTalk.from_pretrained(args.model, args.device, encoder=args.encoder)
        stream = stack.enter_context(
            model.stream(
                look_ahead=args.look_ahead,
                steps=args.steps,
                seed=args.seed,
                guidance=args.guidance,
                rate=source.rate,
                style=style,
            )
        )
        bar = stack.enter_context(
            tqdm(desc="live", unit=" frames", leave=False, disable=not sys.stderr.isatty())
        )
        face = ArkitFace(model.head.expression_names)
        if args.preview:
            number = next(i for i, address in enumerate(addresses) if address.scheme == "ws")
            _show(model, addresses[number], senders[number])
        session = Session(
            stream, face, senders,
            warn=lambda text: tqdm.write(f"warning: {text}", file=sys.stderr), tick=bar.update,
        )  # fmt: skip
        # Told at the end however it comes; Ctrl-C is how a microphone's ends.
        stack.callback(lambda: tqdm.write(session.report(source), file=sys.stderr))
        session.run(source)


def _show(model: FaceTalk, address: Address, sender: Sender) -> None:
    """Put the page of the preview on the server for WebSocket clients, and open it."""
    import webbrowser

    from facetalk.data.arkit import ArkitFace
    from facetalk.live.preview import PATH, pages
    from facetalk.live.websocket import WebSocketSender
    from facetalk.motion import Motion

    assert isinstance(sender, WebSocketSender)
    still = Motion(np.zeros((1, model.head.expression_dim), np.float32), model.config.fps)
    rig: Any = model.decode(still)
    sender.pages.update(pages(rig, ArkitFace(rig.names)))
    here = dataclasses.replace(address, host=_EVERYWHERE.get(address.host, address.host))
    url = f"http://{here.place}{PATH}"
    tqdm.write(f"{url} shows the head", file=sys.stderr)
    if not webbrowser.open(url):
        tqdm.write("warning: no browser was found; open the address in one", file=sys.stderr)


def _check(args: argparse.Namespace, addresses: list[Address]) -> None:
    """Refuse what would do nothing, before anything is loaded."""
    if args.encoder == "whisper":
        check_whisper_ahead(args.look_ahead)
    if args.rate is not None and args.source != "-":
        raise InputError("--rate is for bare samples, --from -; a recording and a microphone have their own")
    places = [(address.scheme, address.host, address.port) for address in addresses]
    for address, place in zip(addresses, places, strict=True):
        if places.count(place) > 1:
            raise InputError(f"--to {address.text} is given twice; once is enough")
    if args.fast and (_microphone(args.source) or any(a.scheme != "stdout" for a in addresses)):
        raise InputError("--fast is for a recording or a pipe with --to stdout; others go by the clock")


def _microphone(source: str) -> bool:
    return source == "mic" or source.startswith("mic:")


def _open_source(args: argparse.Namespace) -> Source:
    from facetalk.live.sources import FileSource, MicrophoneSource, PipeSource

    if _microphone(args.source):
        return MicrophoneSource(args.source.partition(":")[2] or None)
    if args.source == "-":
        return PipeSource(rate=args.rate, fast=args.fast)
    return FileSource(args.source, fast=args.fast)
