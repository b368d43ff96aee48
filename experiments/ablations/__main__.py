"""The paper's ablation and ours: ``python -m experiments.ablations`` with a corpus, an encoder and a head.

Trains every row with the same number of steps on the same encoded corpus, samples held-out voices with the
same noise, and writes ``ablations.json``, ``ablations.md`` and ``ablations.png`` after each row. It may be
broken off and repeated; ``--docs .`` puts the figures where the project's pages take them from.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.ablations.variants import VARIANTS
from experiments.common import command, report
from facetalk.files import atomic_path


def write(out: Path, results: dict[str, Any]) -> None:
    """Table and plot."""
    rows = report.Rows(results)
    names = [v.name for v in VARIANTS if v.name in rows.trials]
    tables = [
        report.table(rows, names, report.LIPS + report.SYNC, paper=True),
        report.table(rows, names, report.LIFE),
    ]
    with atomic_path(out / "ablations.md") as temporary:
        temporary.write_text("\n\n".join(tables) + "\n", encoding="utf-8")
    columns = (*report.LIPS, *report.SYNC[:1], *report.LIFE)
    report.bars(rows, names, columns, out / "ablations.png", f"ablations: {report.budget(results)}")


if __name__ == "__main__":
    args = command.parser("ablations", __doc__ or "").parse_args()
    raise SystemExit(command.run(args, "ablations", VARIANTS, write))
