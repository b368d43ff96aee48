"""The README's picture of ``facetalk view``: the page in headless Chromium, in the middle of a recording.

python scripts/view_picture.py examples/demo.flac docs/images/view.jpg
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests/helpers"))
from chromium import Chromium

_SCALE = 2
"""Chromium without a GPU leaves out a sample of a pixel here and there where faces meet, and what is behind
shows as a dark speck, elsewhere from every place. Drawn larger and reduced, there is none to be seen."""


def main() -> None:
    """Draw it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recording", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--at", type=float, default=3.6, help="seconds")
    args = parser.parse_args()
    command = [sys.executable, "-m", "facetalk", "view", "--no-browser", "--port", "0", str(args.recording)]
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server,
    ):
        try:
            assert server.stdout is not None
            url = server.stdout.readline().split()[0]
            with Chromium(Path(folder), size=(1180, 943), scale=_SCALE) as browser:
                browser.open(url)
                browser.until("globalThis.facetalk && !facetalk.state.busy && facetalk.state.playing", 120.0)
                browser.run(f"facetalk.seek({args.at})")
                time.sleep(1.0)
                browser.run("document.querySelector('#play').click()")
                browser.run(f"facetalk.seek({args.at})")
                time.sleep(1.0)
                picture = Image.open(io.BytesIO(browser.picture())).convert("RGB").reduce(_SCALE)
        finally:
            server.terminate()
    picture.save(args.output, quality=88, optimize=True)


if __name__ == "__main__":
    main()
