"""The server behind the page: files from memory, a recording that becomes a head, sound that becomes curves.

``GET`` answers the files it was given. Two WebSockets do the rest; both begin with a text message of the
client, a JSON object that may have ``steps``, ``guidance``, ``seed`` and ``style`` (sliders by name), and
whatever goes wrong is told as
``{"type": "error", "text"}``:

``/talk``
    The first message has ``name`` and ``size`` too; the recording follows in binary messages of at most
    :data:`MOST_MESSAGE` bytes. The answer is ``{"type": "done", "frames", "steps", "guidance", "notes"}``,
    then two binary messages: the sound (WAV) and the head (.glb).

``/listen``
    The first message has ``rate`` (Hz) and may have ``look_ahead`` (s). The answer is ``{"type": "ready",
    "latency"}``. Binary messages of the client are 16-bit little-endian mono samples; the server's are the
    frames that they complete: u32 number of the first, u32 how many, then their weights as f32, frame by
    frame, little endian. Before them comes where the head is, ``{"type": "pose", "first", "rows"}``: a
    quaternion x, y, z, w and a translation in metres for each frame. A text message ends the sound; the
    other frames come, and ``{"type": "done"}``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from websockets.asyncio.server import serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Response

from facetalk.arguments import real_number
from facetalk.errors import InputError
from facetalk.loops import let_go
from facetalk.mesh.pose import quaternions, translations
from facetalk.motion import Motion
from facetalk.reading import parse_json
from facetalk.view.files import File, inline_scripts
from facetalk.view.guard import Guard
from facetalk.view.speaker import MOST_BYTES, MOST_LIVE_SECONDS, Settings, Speaker

MOST_MESSAGE = 2**20
SESSIONS = 8
"""WebSockets at a time; more are turned away."""

_UPLOAD_S, _SILENT_S, _CLOSING_S = 120.0, 30.0, 1.0
_log = logging.getLogger(__name__)

T = TypeVar("T")


class ViewServer:
    """Listens from the beginning, so that a port that is taken is known at once; answers after :meth:`start`.

    Args:
        host: where to listen.
        port: 0 takes one that is free.

    Attributes:
        url: of the page.

    Raises:
        InputError: it cannot listen there.
    """

    def __init__(self, host: str, port: int) -> None:
        self._guard = Guard(host)
        try:
            # Of a name with addresses of both kinds, the old one: browsers find it by either name.
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            family, _, _, _, place = min(found, key=lambda entry: entry[0] != socket.AF_INET)
            self._socket = socket.create_server(place[:2], family=family)  # type: ignore[arg-type]
        except OSError as error:
            reason = (error.strerror or str(error)).partition(" (")[0]
            raise InputError(
                f"cannot listen on {host}:{port} ({reason}); choose another --port or --host"
            ) from None
        name = f"[{host}]" if ":" in host else host
        self.url = f"http://{name}:{self._socket.getsockname()[1]}/"
        self._loop = asyncio.new_event_loop()
        self._thread: threading.Thread | None = None
        self._sessions = 0

    def start(self, files: Mapping[str, File], speaker: Speaker) -> None:
        """Answer from now on, in a thread of its own.

        Args:
            files: what is answered, by paths of URLs; ``/`` is the page.
            speaker: does the work.
        """
        self._files, self._speaker = files, speaker
        self._scripts = " ".join(inline_scripts(files["/"].content))
        self._thread = threading.Thread(target=self._loop.run_forever, name="view", daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()

    def close(self) -> None:
        """Hang up, within about two seconds whatever is being done."""
        if self._thread is not None:
            with contextlib.suppress(TimeoutError):
                asyncio.run_coroutine_threadsafe(self._hang_up(), self._loop).result(2.0 * _CLOSING_S)
            asyncio.run_coroutine_threadsafe(let_go(), self._loop)
            self._thread.join(_CLOSING_S)
        if self._thread is None or not self._thread.is_alive():
            self._loop.close()
        self._socket.close()

    async def _listen(self) -> Any:
        silent = logging.getLogger(f"{__name__}.connections")  # a client that leaves is no news
        silent.addHandler(logging.NullHandler())
        silent.propagate = False
        self._uploads = asyncio.Lock()
        return await serve(
            self._attend, sock=self._socket, process_request=self._answer, compression=None,
            max_size=MOST_MESSAGE, max_queue=16, open_timeout=10, close_timeout=_CLOSING_S,
            server_header=None, logger=silent,
        )  # fmt: skip

    async def _hang_up(self) -> None:
        self._server.close()
        await asyncio.wait([asyncio.ensure_future(self._server.wait_closed())], timeout=_CLOSING_S)

    def _answer(self, connection: Any, request: Any) -> Response | None:
        """Answer a request; None lets a WebSocket begin."""
        host = request.headers.get("Host") if len(request.headers.get_all("Host")) == 1 else None
        refusal = self._guard.refusal(host, request.headers.get("Origin"))
        if refusal:
            return _response(403, "Forbidden", refusal)
        if getattr(request, "method", "GET") != "GET":
            return _response(405, "Method Not Allowed", "only GET")
        path = request.path.partition("?")[0]
        if path in _WORK:
            if self._sessions >= SESSIONS:
                return _response(503, "Service Unavailable", f"{SESSIONS} sessions are open already")
            return None
        file = self._files.get(path)
        if file is None:
            return _response(404, "Not Found", "there is nothing here")
        policy = (
            f"default-src 'none'; script-src 'self' {self._scripts}; style-src 'self'; worker-src 'self'; "
            f"connect-src 'self' ws://{host} blob:; img-src 'self' blob: data:; media-src blob:; "
            f"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        return _response(200, "OK", file.content, file.kind, policy)

    async def _attend(self, connection: Any) -> None:
        self._sessions += 1
        try:
            await _WORK[connection.request.path.partition("?")[0]](self, connection)
            await connection.close()
        except ConnectionClosed:
            pass
        except (InputError, MemoryError, TimeoutError) as error:
            text = {
                MemoryError: "there is not enough memory for this",
                TimeoutError: "nothing came for too long",
            }
            await _tell(
                connection, type="error", text=self._speaker.public(text.get(type(error), str(error)))
            )
        except Exception:
            _log.exception("the page asked for something that broke")
            await _tell(connection, type="error", text="something broke here; the terminal says what")
        finally:
            self._sessions -= 1

    async def _talk(self, connection: Any) -> None:
        said = await _first(connection)
        settings, size = Settings.of(said), said.get("size")
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise InputError("the recording is empty")
        if size > MOST_BYTES:
            raise InputError(
                f"the recording has {size / 2**20:.0f} MiB, at most {MOST_BYTES // 2**20} are taken"
            )
        place = self._speaker.place(str(said.get("name", "")))
        # One recording at a time, so that what is sent fills neither memory nor disk.
        async with self._uploads:
            try:
                async with asyncio.timeout(_UPLOAD_S):
                    await _receive(connection, place, size)
                talk = await _in_thread(lambda: self._speaker.talk(place, settings))
            finally:
                place.unlink(missing_ok=True)
        await _tell(connection, type="done", frames=talk.frames, steps=talk.steps, guidance=talk.guidance,
                    notes=talk.notes)  # fmt: skip
        await connection.send(talk.sound)
        await connection.send(talk.glb)

    async def _microphone(self, connection: Any) -> None:
        said = await _first(connection)
        settings = Settings.of(said)
        rate, look_ahead = (real_number(name, said.get(name, default)) for name, default in
                            (("rate", None), ("look_ahead", 0.2)))  # fmt: skip
        stream = await _in_thread(lambda: self._speaker.listen(rate, look_ahead, settings))
        await _tell(connection, type="ready", latency=stream.latency)
        heard = given = 0
        with stream:
            while True:
                async with asyncio.timeout(_SILENT_S):
                    message = await connection.recv()
                if isinstance(message, str):
                    break
                if len(message) % 2:
                    raise InputError(
                        "samples have 16 bits: a message of an odd number of bytes has half a one"
                    )
                samples = np.frombuffer(message, "<i2")
                heard += len(samples)
                if heard > MOST_LIVE_SECONDS * rate:
                    raise InputError(
                        f"{MOST_LIVE_SECONDS / 60:g} minutes are over; start the microphone again"
                    )
                given += await self._send(connection, await _in_thread(lambda: stream.push(samples)), given)  # noqa: B023  # awaited
            await self._send(connection, await _in_thread(stream.finish), given)
        await _tell(connection, type="done")

    async def _send(self, connection: Any, motion: Motion, first: int) -> int:
        """Send the frames of a piece of motion and return how many there are.

        Where the head is comes before them: a quaternion x, y, z, w and a translation in metres for each.
        """
        if len(motion):
            if motion.pose is not None:
                rows = np.hstack([quaternions(motion.pose), translations(motion.pose)])
                await _tell(connection, type="pose", first=first, rows=rows.round(6).tolist())
            head = struct.pack("<II", first, len(motion))
            await connection.send(head + self._speaker.curves(motion).astype("<f4").tobytes())
        return len(motion)


_WORK: dict[str, Callable[[ViewServer, Any], Awaitable[None]]] = {
    "/talk": ViewServer._talk,
    "/listen": ViewServer._microphone,
}


async def _first(connection: Any) -> dict[str, Any]:
    """The message that a client begins with."""
    async with asyncio.timeout(_SILENT_S):
        message = await connection.recv()
    if not isinstance(message, str) or len(message) > 4096:
        raise InputError("the first message must be a JSON object")
    return dict(parse_json(message, "the first message"))


async def _receive(connection: Any, place: Path, size: int) -> None:
    """Write what a client sends to a file, to its end."""
    with place.open("wb") as file:
        while size > 0:
            async with asyncio.timeout(_SILENT_S):
                piece = await connection.recv()
            size -= len(piece)
            if isinstance(piece, str) or size < 0:
                raise InputError("the recording is not what its size said")
            file.write(piece)


async def _tell(connection: Any, **message: Any) -> None:
    with contextlib.suppress(ConnectionClosed):
        await connection.send(json.dumps(message))


async def _in_thread(work: Callable[[], T]) -> T:
    """Do work in a thread that does not keep the process from ending, as those of asyncio's pool do."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, failed = None, None
        try:
            result = work()
        except BaseException as error:
            failed = error
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, result, failed)

    threading.Thread(target=run, name="speaker", daemon=True).start()
    return await done


def _response(
    status: int, reason: str, body: bytes | str, kind: str = "text/plain", policy: str = ""
) -> Response:
    content = f"{body}\n".encode() if isinstance(body, str) else body
    headers = Headers({
        "Content-Type": kind,
        "Content-Length": str(len(content)),
        "Connection": "close",
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Content-Security-Policy": policy or "default-src 'none'",
    })  # fmt: skip
    return Response(status, reason, headers, content)
