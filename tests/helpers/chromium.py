"""A headless Chromium for tests, driven by the DevTools protocol."""

from __future__ import annotations

import base64
import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import websocket

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

_FLAGS = [
    "--headless=new", "--remote-debugging-port=0", "--remote-allow-origins=*", "--no-first-run",
    "--no-sandbox",  # tests may run as root, as in a container
    "--disable-gpu", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server",
    "--autoplay-policy=no-user-gesture-required", "--mute-audio", "--hide-scrollbars",
    "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
]  # fmt: skip


class Chromium:
    """One page of a browser of its own.

    Args:
        folder: for its profile.
        microphone: WAV that its microphone hears, again and again.
        size: of the window, CSS pixels.
        scale: pixels of the screen along each side of one of them.
    """

    def __init__(
        self,
        folder: Path,
        *,
        microphone: Path | None = None,
        size: tuple[int, int] = (640, 480),
        scale: int = 1,
    ) -> None:
        assert PROGRAM is not None
        flags = [*_FLAGS, f"--user-data-dir={folder}", f"--window-size={size[0]},{size[1]}",
                 f"--force-device-scale-factor={scale}"]  # fmt: skip
        if microphone is not None:
            flags.append(f"--use-file-for-fake-audio-capture={microphone}")
        self._process = subprocess.Popen([PROGRAM, *flags, "about:blank"], stderr=subprocess.DEVNULL,
                                         stdout=subprocess.DEVNULL, start_new_session=True)  # fmt: skip
        place = folder / "DevToolsActivePort"
        wait_for(lambda: place.exists() and place.read_text().count("\n"), 60.0, "the browser's port")
        self._port = int(place.read_text().splitlines()[0])
        self._socket, self._count = self._connect(), 0
        self.said: list[str] = []
        for domain in ("Page", "Runtime", "Log", "DOM"):
            self.call(f"{domain}.enable")

    def _connect(self) -> Any:
        import urllib.request

        listed = json.loads(urllib.request.urlopen(f"http://127.0.0.1:{self._port}/json", timeout=10).read())
        address = next(entry["webSocketDebuggerUrl"] for entry in listed if entry["type"] == "page")
        return websocket.create_connection(address, timeout=120)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol; what the page says meanwhile goes to :attr:`said`."""
        self._count += 1
        self._socket.send(json.dumps({"id": self._count, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == self._count:
                assert "error" not in message, message["error"]
                return message["result"]
            if message.get("method") in (
                "Runtime.exceptionThrown",
                "Log.entryAdded",
                "Runtime.consoleAPICalled",
            ):
                self.said.append(json.dumps(message["params"])[:600])

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        done = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def open(self, url: str) -> None:
        """Load a page."""
        self.call("Page.navigate", url=url)

    def until(self, script: str, seconds: float = 120.0) -> None:
        """Wait for an expression to be true."""
        wait_for(lambda: self.run(script), seconds, f"{script} (the page said {self.said[-3:]})")

    def give_files(self, selector: str, *files: Path) -> None:
        """Choose files in a field, as a person does."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def picture(self) -> bytes:
        """What the window shows, PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def __enter__(self) -> Chromium:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
        self._socket.shutdown()  # close() leaves it open where the browser went first
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def wait_for(what: Callable[[], Any], seconds: float, name: str) -> Any:
    """Ask until the answer is true."""
    end = time.monotonic() + seconds
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < end, f"waited {seconds:g} s for {name}"
        time.sleep(0.05)
