"""How an experiment's command ends: 0, or 2 and one line of what was wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from facetalk.errors import InputError


def plainly(work: Callable[..., Any], *arguments: Any) -> int:
    """Do the work; the status of the process: 2 and one line on stderr where input cannot be used."""
    try:
        work(*arguments)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
