"""Tables inside a page of the documentation, made from the committed results and from nothing else.

A page says ``<!-- experiment: ablations lips -->`` and ``<!-- /experiment -->``; what lies between is made
anew from ``benchmarks/results/ablations.json``. ``python -m experiments.common.page`` fills
docs/ablations.md.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.common import agreement, report
from experiments.common.plainly import plainly
from facetalk.errors import InputError

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "ablations.md"
RESULTS = ROOT / "benchmarks" / "results"
_BLOCK = re.compile(
    r"(?P<begin><!-- experiment: (?P<name>\w+) (?P<part>\w+) -->\n).*?(?P<end><!-- /experiment -->)",
    re.DOTALL,
)

PARTS: dict[str, Callable[[report.Rows, list[str]], str]] = {
    "budget": lambda rows, names: budget(rows),
    "changes": lambda rows, names: changes(rows, names),
    "lips": lambda rows, names: report.table(
        rows, names, report.LIPS + report.SYNC, paper=bool(rows.results["paper"])
    ),
    "life": lambda rows, names: report.table(rows, names, report.LIFE),
    "paper": lambda rows, names: agreement.with_paper(rows),
    "judges": lambda rows, names: agreement.of_judges(rows, names),
    "other": lambda rows, names: report.table(rows, names, report.OTHER_VOICE, controls=False),
}


def fill(page: str, results: Path = RESULTS) -> str:
    """The page with everything between markers made anew; where there are no results, it says so.

    Raises:
        InputError: a marker without an end, an unknown part, or results that are damaged.
    """
    if page.count("<!-- experiment:") != len(_BLOCK.findall(page)):
        raise InputError("an <!-- experiment: name part --> of the page has no <!-- /experiment --> after it")

    def made(match: re.Match[str]) -> str:
        if match["part"] not in PARTS:
            raise InputError(f"the page asks for {match['part']!r}; there are {', '.join(PARTS)}")
        file = results / f"{match['name']}.json"
        if not file.exists():
            missing = f"*Not run yet: there is no `benchmarks/results/{file.name}`.*"
            return f"{match['begin']}{missing}\n{match['end']}"
        rows = report.Rows(_read(file))
        names = [name for name in rows.results["titles"] if name in rows.trials]
        return f"{match['begin']}{PARTS[match['part']](rows, names)}\n{match['end']}"

    return _BLOCK.sub(made, page)


def budget(rows: report.Rows) -> str:
    """What every row got, in a sentence."""
    told = rows.results
    minutes = sum(told["corpus_minutes"].values())
    sets = " and ".join(f"{count} {name}" for name, count in told["clips"].items())
    return (
        f"{report.budget(told)}; {minutes:.0f} minutes of sound of {len(told['corpus_minutes'])} voices to "
        f"train on; {sets} clips held out. `{told['command']}`"
    )


def changes(rows: report.Rows, names: list[str]) -> str:
    """A table of what each row is, its network's size and its seeds."""
    lines = [
        "| row | what differs | parameters | minutes of sound | steps | seeds |",
        "|---|---|--:|--:|--:|---|",
    ]
    for name in names:
        first, seeds = rows.trials[name][0], [str(trial["seed"]) for trial in rows.trials[name]]
        lines.append(
            f"| {rows.results['titles'][name]} | {rows.results['changes'][name]} | {first['parameters']:,} | "
            f"{first['minutes_of_sound']:.0f} | {first['steps']} | {', '.join(seeds)} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Fill the page, or check it."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.common.page", description="docs/ablations.md"
    )
    parser.add_argument("--check", action="store_true", help="change nothing; fail when the page differs")
    return plainly(_run, parser.parse_args())


def _run(args: argparse.Namespace) -> int:
    old = PAGE.read_text(encoding="utf-8")
    new = fill(old)
    if new != old and args.check:
        print(
            f"error: {PAGE} differs from the results; run python -m experiments.common.page", file=sys.stderr
        )
        return 1
    if new != old:
        PAGE.write_text(new, encoding="utf-8")
    return 0


def _read(file: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read ({error}); run the experiment with --docs .") from error
    return found


if __name__ == "__main__":
    raise SystemExit(main())
