"""More sound, more voices: ``python -m experiments.scaling`` with a corpus, an encoder and a head.

As ``experiments.ablations``, with which it shares the folder, the budget and the row of the whole corpus.
Writes ``scaling.json``, ``scaling.md`` and ``scaling.png``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.common import command, report
from experiments.scaling.variants import VARIANTS
from facetalk.files import atomic_path


def write(out: Path, results: dict[str, Any]) -> None:
    """Table and plot."""
    rows = report.Rows(results)
    names = [v.name for v in VARIANTS if v.name in rows.trials]
    tables = [report.table(rows, names, columns) for columns in (report.LIPS + report.SYNC, report.LIFE)]
    with atomic_path(out / "scaling.md") as temporary:
        temporary.write_text("\n\n".join(tables) + "\n", encoding="utf-8")
    columns = (*report.LIPS[:8], *report.LIFE[:4])
    report.bars(rows, names, columns, out / "scaling.png", f"scaling: {report.budget(results)}")


if __name__ == "__main__":
    args = command.parser("scaling", __doc__ or "").parse_args()
    raise SystemExit(command.run(args, "scaling", VARIANTS, write))
