"""Frames for browsers and whoever else connects to a WebSocket here.

The server listens on the loopback unless the address says otherwise, and web pages may connect only from this
machine or an origin that was named: any page that a person has open could listen to their face otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import re
import socket
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

from facetalk.data.arkit import ANGLE_NAMES, ARKIT_NAMES
from facetalk.errors import InputError, NotInstalledError
from facetalk.live.address import Address
from facetalk.live.frame import Frame, Sender
from facetalk.loops import let_go

try:
    from websockets.asyncio.server import serve
    from websockets.datastructures import Headers
    from websockets.exceptions import ConnectionClosed
    from websockets.http11 import Response
except ImportError:
    _INSTALLED = False
else:
    _INSTALLED = True

CLIENTS = 16
"""Connections at a time; more are turned away."""
WAITING = 8
"""Frames that wait for a client; when it takes none, the oldest goes."""

_FORMATS = {"/": "json", "/json": "json", "/binary": "binary"}
_SEND_BUFFER = 16384  # bytes in the kernel, which would otherwise hold a minute of old frames
_LOCAL_PAGES = re.compile(r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")
_CLOSING_S = 1.0
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self' ws:"


@dataclasses.dataclass(frozen=True)
class Page:
    """What a browser gets that asks for a path without wanting a WebSocket.

    Attributes:
        kind: media type.
        data: the content.
    """

    kind: str
    data: bytes


class _Client:
    """What waits for one connection."""

    def __init__(self, connection: Any, binary: bool) -> None:
        self.connection, self.binary = connection, binary
        self.frames: deque[Frame] = deque()
        self.ready = asyncio.Event()


class WebSocketSender(Sender):
    """A server that gives every client the frames: JSON at ``/``, packed at ``/binary``.

    The first message of both is JSON: ``{"type": "hello", "format", "fps", "names", "angles"}``. Then a
    message a frame: the text of :meth:`Frame.to_json` or the bytes of :meth:`Frame.to_bytes`. What clients
    send is ignored. It runs in a thread of its own, so that no client can hold up the sound.

    Args:
        address: ``ws://host:port``, with ``?origin=https://...`` for each web page from elsewhere that may
            connect.
        fps: motion frame rate.

    Attributes:
        pages: what is answered at other paths; may grow while it runs.

    Raises:
        InputError: it cannot listen there.
        NotInstalledError: websockets is missing.
    """

    def __init__(self, address: Address, fps: float) -> None:
        if not _INSTALLED:
            raise NotInstalledError(f"--to {address.text} needs websockets: pip install 'facetalk[live]'")
        self.where, self._fps = address.text, fps
        self.pages: dict[str, Page] = {}
        self._clients: set[_Client] = set()
        self._open = True
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="websocket", daemon=True)
        self._thread.start()
        try:
            self._server = self._run(self._listen(address), 10.0)
        except (OSError, UnicodeError) as error:
            self._stop()
            # asyncio puts its own sentence around what the system says.
            reason = str(getattr(error, "strerror", None) or error).rpartition(": ")[2].strip("[]")
            raise InputError(
                f"--to {address.text}: cannot listen on {address.place} ({reason}); choose another "
                f"port, --to ws://HOST:PORT"
            ) from None

    def send(self, frame: Frame) -> None:
        """See :class:`Sender`; without a client a frame goes nowhere, which is no loss."""
        if self._open:
            self._loop.call_soon_threadsafe(self._spread, frame)

    def close(self) -> None:
        """Let clients have what waits for them, for a second at most, and go."""
        if not self._open:
            return
        self._open = False
        try:
            with contextlib.suppress(TimeoutError):
                self._run(self._hang_up(), 3.0 * _CLOSING_S)
        finally:
            self._stop()

    def _run(self, work: Any, seconds: float) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(seconds)

    def _stop(self) -> None:
        asyncio.run_coroutine_threadsafe(let_go(), self._loop)
        self._thread.join(_CLOSING_S)
        if not self._thread.is_alive():
            self._loop.close()

    async def _listen(self, address: Address) -> Any:
        origins: Sequence[Any] = [None, _LOCAL_PAGES, *address.option("origin")]
        silent = logging.getLogger("facetalk.live.websocket")  # a bad client is no news
        silent.addHandler(logging.NullHandler())
        silent.propagate = False
        return await serve(
            self._attend, address.host, address.port, origins=origins, process_request=self._admit,
            compression=None, max_size=4096, max_queue=4, open_timeout=5, close_timeout=_CLOSING_S,
            server_header=None, logger=silent,
        )  # fmt: skip

    def _admit(self, connection: Any, request: Any) -> Any:
        page = self.pages.get(request.path.partition("?")[0])
        if page is not None:
            headers = {
                "Content-Type": page.kind, "Content-Length": str(len(page.data)), "Connection": "close",
                "Content-Security-Policy": _POLICY, "Cache-Control": "no-store",
            }  # fmt: skip
            return Response(200, "OK", Headers(headers), page.data)
        if request.path.partition("?")[0] not in _FORMATS:
            return connection.respond(404, f"one of {', '.join(_FORMATS)}\n")
        if len(self._clients) >= CLIENTS:
            return connection.respond(503, f"{CLIENTS} clients are connected already\n")
        return None

    async def _attend(self, connection: Any) -> None:
        form = _FORMATS[connection.request.path.partition("?")[0]]
        _shrink(connection)
        hello = {"type": "hello", "format": form, "fps": self._fps,
                 "names": ARKIT_NAMES, "angles": ANGLE_NAMES}  # fmt: skip
        client = _Client(connection, form == "binary")
        self._clients.add(client)
        # Listening is what notices that a client has gone while there is nothing to tell it.
        tasks = [asyncio.ensure_future(work) for work in (_ignore(connection), _tell(client, hello))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._clients.discard(client)
            for task in tasks:
                task.cancel()
            connection.transport.abort()

    def _spread(self, frame: Frame) -> None:
        for client in self._clients:
            if len(client.frames) >= WAITING:
                client.frames.popleft()
                self.dropped += 1
                self.trouble = "a client is slower than the frames come"
            client.frames.append(frame)
            client.ready.set()

    async def _hang_up(self) -> None:
        end = self._loop.time() + _CLOSING_S
        while any(client.frames for client in self._clients) and self._loop.time() < end:
            await asyncio.sleep(0.01)
        self._server.close()
        await asyncio.wait([asyncio.ensure_future(self._server.wait_closed())], timeout=_CLOSING_S)
        for client in self._clients:  # those that do not answer
            client.connection.transport.abort()


async def _tell(client: _Client, hello: dict[str, Any]) -> None:
    connection = client.connection
    with contextlib.suppress(ConnectionClosed):
        await connection.send(json.dumps(hello))
        while True:
            await client.ready.wait()
            # Taken out when it was sent: until then it waits, and closing waits for it.
            while client.frames:
                frame = client.frames[0]
                await connection.send(frame.to_bytes() if client.binary else frame.to_json())
                if client.frames and client.frames[0] is frame:
                    client.frames.popleft()
            client.ready.clear()


async def _ignore(connection: Any) -> None:
    with contextlib.suppress(ConnectionClosed):
        async for _ in connection:
            pass


def _shrink(connection: Any) -> None:
    there = connection.transport.get_extra_info("socket")
    if there is not None:
        there.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
