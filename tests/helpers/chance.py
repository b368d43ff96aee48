"""A generator of random numbers whose coins are told."""

from __future__ import annotations

from typing import Any

import numpy as np


class Chance:
    """``random()`` gives the coins in order, ``uniform`` a set share of its range; the rest is drawn."""

    def __init__(self, coins: list[float], share: float = 0.5) -> None:
        self.coins, self.share = list(coins), share
        self.real = np.random.default_rng(0)

    def random(self) -> float:
        return self.coins.pop(0)

    def uniform(self, low: float, high: float) -> float:
        return low + self.share * (high - low)

    def normal(self, *args: Any, **more: Any) -> Any:
        return self.real.normal(*args, **more)

    def standard_normal(self, *args: Any) -> Any:
        return self.real.standard_normal(*args)

    def integers(self, *args: Any) -> Any:
        return self.real.integers(*args)

    def choice(self, options: Any) -> Any:
        return options[0]
