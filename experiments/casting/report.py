"""The figures of faces for voices as Markdown, from the JSON alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from facetalk.errors import InputError
from facetalk.files import atomic_path

__all__ = ["fill", "tables"]

_BEGIN, _END = "<!-- made by: python -m experiments.casting table -->", "<!-- end of figures -->"


def tables(report: Mapping[str, Any]) -> str:
    """What is known of separation, diversity and the published distances."""
    count = sum(report["voices"].values())
    lines = [
        f"{count} recordings of {len(report['voices'])} voices that nothing was fitted to "
        f"({', '.join(report['voices'])}), {report['seeds']} seeds. `{report['command']} CORPORA`",
        "",
        "| faces | same voice nearer (95 %) | on one side of 160 Hz | nearest is the same voice (chance) | "
        "same / other voice, mm | skin, of 255 |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, row in report["rows"].items():
        low, high = row["auc_interval"]
        lines.append(
            f"| {name} | {row['auc']:.3f} [{low:.3f}, {high:.3f}] | {row['auc_alike']:.3f} | "
            f"{row['first']:.0%} ({row['first_chance']:.0%}) | "
            f"{row['same_mm']:.1f} / {row['other_mm']:.1f} | "
            f"{row['same_skin']:.0f} / {row['other_skin']:.0f} |"
        )
    apart = report["diversity_mm"]
    lines += [
        "",
        f"Faces of two seeds for one recording are {apart['seeds of a voice']:.1f} mm apart (mean over the "
        f"68 landmarks), two `random:SEED` {apart['random identities']:.1f} mm.",
        "",
        "Lean from -1 (as women's voices) to 1 (as men's), mean over a voice's recordings: "
        + ", ".join(f"{name} {value:+.2f}" for name, value in report["lean"].items())
        + ".",
        "",
        "| distance | men less women, mm | in standard deviations | published |",
        "|---|--:|--:|--:|",
    ]
    for name, row in report["distances_mm"].items():
        lines.append(f"| {name} | {row['men less women']:.1f} | {row['d']:.2f} | {row['d published']:.2f} |")
    return "\n".join(lines)


def fill(page: Path, report: Mapping[str, Any]) -> None:
    """Put the tables between their marks in a page.

    Raises:
        InputError: the page has no marks.
    """
    text = page.read_text(encoding="utf-8")
    if _BEGIN not in text or _END not in text:
        raise InputError(f"{page}: no place for figures; it has to have {_BEGIN} and {_END}")
    before, rest = text.split(_BEGIN, 1)
    after = rest.split(_END, 1)[1]
    with atomic_path(page) as scratch:
        scratch.write_text(f"{before}{_BEGIN}\n\n{tables(report)}\n\n{_END}{after}", encoding="utf-8")
