"""Where rows agree: with the paper's table, and one judge with another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from experiments.common.report import LIPS, SYNC, Column, Rows

_SYNC = SYNC[0]
_DIVERSITY = Column("diversity_mouth_mm", "diversity mouth mm", ".3f")
_GOOD = {"closed": 1, "opening_r": 1, "lve_mm": -1, "opening_mm": -1, "mtm_ms": -1}
"""Which way a figure is better."""
COLLAPSED = 0.1
"""Below this part of the whole model's diversity a row is said to have lost it."""


def with_paper(rows: Rows) -> str:
    """Markdown: for each row of the paper's table which way it and ours went from the whole model.

    In step: worse or better where ours leaves the 95 % interval over clips of the whole model's figure,
    "even" inside it. Diversity: of the mouth, relative to the whole model's.
    """
    paper: Mapping[str, Any] = rows.results["paper"]
    whole = paper["full"]
    limits, base = rows.interval("full", _SYNC), rows.values("full", _DIVERSITY)
    lines = [
        "| without | paper: LSE-D | ours: sync D | agree | paper: diversity | ours: diversity | agree |",
        "|---|--:|--:|---|--:|--:|---|",
    ]
    for name, told in paper.items():
        if name == "full" or name not in rows.trials or limits is None:
            continue
        far = float(np.mean(rows.values(name, _SYNC)))
        ours = "worse" if far > limits[1] else "better" if far < limits[0] else "even"
        theirs = "worse" if told[0] > whole[0] else "better"
        spread = float(np.mean(rows.values(name, _DIVERSITY))) / float(np.mean(base))
        lost, lost_there = spread < COLLAPSED, told[1] < COLLAPSED * whole[1]
        change = far - float(np.mean(rows.values("full", _SYNC)))
        agrees = "open" if ours == "even" else "yes" if ours == theirs else "no"
        lines.append(
            f"| {rows.results['titles'][name]} | {told[0] - whole[0]:+.2f} ({theirs}) "
            f"| {change:+.3f} ({ours}) | {agrees} | "
            f"{told[1] / whole[1]:.0%} | {spread:.0%} | {'yes' if lost == lost_there else 'no'} |"
        )
    return "\n".join(lines)


def of_judges(rows: Rows, names: Sequence[str]) -> str:
    """A sentence: the rank correlation over rows of the sync distance with what the lips do.

    Positive = the sync expert calls good what the other figure calls good.
    """
    told = []
    for column in LIPS:
        pairs = [
            (np.mean(rows.values(name, _SYNC)), np.mean(rows.values(name, column)))
            for name in names
            if column.key in _GOOD and rows.values(name, _SYNC) and rows.values(name, column)
        ]
        if len(pairs) >= 4:
            distance, figure = zip(*pairs, strict=True)
            found = spearmanr(-np.array(distance), _GOOD[column.key] * np.array(figure)).statistic
            told.append(f"{column.head} {found:+.2f}")
    if not told:
        return "Too few rows for a rank correlation."
    return (
        f"Spearman's rank correlation of sync D with other figures over {len(names)} rows: {', '.join(told)}."
    )
