"""What the commands of this folder share: their options, and figures that are printed and kept."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from facetalk.files import atomic_path


def parser_of(name: str, text: str | None, frames: int) -> argparse.ArgumentParser:
    """``--frames`` and ``--json`` of the command ``python -m name``."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {name}", description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=frames, help=f"of the capture (default {frames})")
    parser.add_argument("--json", type=Path, default=None, help="write the figures here")
    return parser


def tell(found: dict[str, Any], file: Path | None) -> None:
    """Print figures, and write them where a file is named."""
    text = json.dumps(found, indent=1) + "\n"
    print(text)
    if file is not None:
        with atomic_path(file) as temporary:
            temporary.write_text(text)
