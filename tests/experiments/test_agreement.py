"""Where rows agree with the paper's table, and one judge with another."""

from __future__ import annotations

from typing import Any

import pytest

from experiments.common import agreement
from experiments.common.report import Rows


def results(trials: dict[str, tuple[float, float, float]]) -> Rows:
    """Rows of a sync distance, a diversity and the part of closed lips; the interval is 0.1 either way."""

    def row(name: str, sync: float, diversity: float, closed: float) -> dict[str, Any]:
        figures = {"sync_distance": sync, "diversity_mouth_mm": diversity, "closed": closed}
        limits = {"sync_distance": [sync - 0.1, sync + 0.1]}
        return {"variant": name, "spoken": {"figures": figures, "intervals": limits}}

    paper = {"full": (11.0, 0.5), "a": (12.0, 0.4), "b": (12.0, 1e-8), "c": (10.0, 0.5)}
    return Rows(
        {
            "rows": [row(name, *values) for name, values in trials.items()],
            "controls": {},
            "titles": {name: f"no {name}" for name in trials},
            "paper": paper,
        }
    )


def test_rows_go_the_papers_way_the_other_way_or_stay_open() -> None:
    rows = results(
        {"full": (1.0, 2.0, 0.9), "a": (1.2, 1.9, 0.5), "b": (0.8, 0.1, 0.5), "c": (1.05, 2.0, 0.9)}
    )
    table = agreement.with_paper(rows).splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in table[2:]] == ["no a", "no b", "no c"]
    assert table[2].endswith("| +1.00 (worse) | +0.200 (worse) | yes | 80% | 95% | yes |")
    assert table[3].endswith("| +1.00 (worse) | -0.200 (better) | no | 0% | 5% | yes |")
    assert table[4].endswith("| -1.00 (better) | +0.050 (even) | open | 100% | 100% | yes |")


@pytest.mark.parametrize(
    ("closed", "said"), [((0.9, 0.8, 0.7, 0.6), "+1.00"), ((0.6, 0.7, 0.8, 0.9), "-1.00")]
)
def test_judges_that_rank_alike_correlate(closed: tuple[float, ...], said: str) -> None:
    names = ("full", "a", "b", "c")
    rows = results({n: (1.0 + 0.1 * i, 1.0, closed[i]) for i, n in enumerate(names)})
    assert f"p b m shut {said}" in agreement.of_judges(rows, names)
    assert agreement.of_judges(rows, names[:3]) == "Too few rows for a rank correlation."
