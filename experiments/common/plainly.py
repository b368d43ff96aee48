"""How an experiment's command ends: 0 or a status of its own, or 2 and one line of what was wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from facetalk.errors import InputError


def plainly(work: Callable[..., int | None], *arguments: Any) -> int:
    """Do the work; the status of the process: what the work gives, or 2 and one line on stderr where input
    cannot be used."""
    try:
        return work(*arguments) or 0
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
