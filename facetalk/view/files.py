"""The files of the page. They are listed, read once and answered from memory: no request leads to a path."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
from pathlib import Path

from facetalk.errors import NotInstalledError
from facetalk.reading import read_json

PAGE = Path(__file__).with_name("page")
"""Our own files; ``npm/package.json`` among them says which of three.js are fetched when a wheel is built."""

_TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8",
          ".js": "text/javascript; charset=utf-8"}  # fmt: skip
_OURS = ("index.html", "view.css", "main.js", "stage.js", "server.js", "microphone.js", "worklet.js")


@dataclasses.dataclass(frozen=True)
class File:
    """What is answered to a path.

    Attributes:
        content: its bytes.
        kind: media type.
    """

    content: bytes
    kind: str


def page_files(page: Path = PAGE) -> dict[str, File]:
    """The page by paths of URLs: ``/``, ``/main.js``, ``/three/build/three.module.js``.

    Raises:
        NotInstalledError: this installation has no three.js.
    """
    listed = read_json(page / "npm/package.json")["facetalk"]["three"]
    missing = [name for name in listed if not (page / "npm/three" / name).is_file()]
    if missing:
        raise NotInstalledError(
            "facetalk view draws with three.js, which this installation was built without: build the wheel "
            "where npm is (apt install npm), or run `make page` in a checkout"
        )
    files = {f"/{name}": page / name for name in _OURS}
    files |= {f"/three/{name}": page / "npm/three" / name for name in listed if name.endswith(".js")}
    found = {url: File(path.read_bytes(), _TYPES[path.suffix]) for url, path in files.items()}
    found["/"] = found.pop("/index.html")
    return found


def inline_scripts(html: bytes) -> list[str]:
    """Sources of a content security policy for the scripts that stand in a page: ``'sha256-...'``."""
    scripts = re.findall(rb"<script(?![^>]* src=)[^>]*>(.*?)</script>", html, re.S)
    digests = [base64.b64encode(hashlib.sha256(script).digest()).decode() for script in scripts]
    return [f"'sha256-{digest}'" for digest in digests]
