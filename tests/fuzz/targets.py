"""Everything that the fuzzer can attack, by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import field_targets
import gltf_targets
import numpy as np
import ops_targets
import reader_targets

from facetalk.errors import InputError

Run = Callable[[np.random.Generator], None]
Make = Callable[[Path], Run]


@dataclasses.dataclass(frozen=True)
class Target:
    """What is attacked.

    Attributes:
        make: takes a folder of its own and gives the function that does one iteration.
        allowed: errors that are answers.
        one_line: whether those must have short messages of one line.
    """

    make: Make
    allowed: tuple[type[BaseException], ...]
    one_line: bool


def _reader(make: Make) -> Target:
    return Target(make, (InputError,), True)


def _operation(make: Make) -> Target:
    # Sizes of arguments are the caller's own, so running out of memory is an answer.
    return Target(make, (TypeError, ValueError, MemoryError), False)


TARGETS: dict[str, Target] = {
    **{name: _reader(make) for name, make in gltf_targets.TARGETS.items()},
    **{name: _operation(make) for name, make in ops_targets.TARGETS.items()},
    **{name: _operation(make) for name, make in field_targets.TARGETS.items()},
    **{name: _reader(make) for name, make in reader_targets.TARGETS.items()},
}
