"""What an evaluation found, as tables and as JSON."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

from facetalk.metrics.controls import DELAY_FRAMES, GAIN, SMOOTH_FRAMES
from facetalk.metrics.lips import CLOSED_MM, ELSEWHERE_S, TOUCH_MM
from facetalk.metrics.pooling import Interval


class Column(NamedTuple):
    """One figure of a table.

    Attributes:
        key: name of the figure in the report.
        head: what stands above it, with its unit where it has one.
        form: format of the value.
    """

    key: str
    head: str
    form: str = ".2f"


class Section(NamedTuple):
    """One table: title, columns, what the reader has to know."""

    title: str
    columns: tuple[Column, ...]
    note: str = ""


LIPS = Section(
    "lips against phones",
    (
        Column("closed", "pbm shut", ".1%"),
        Column("bilabial_gap_mm", "gap mm"),
        Column("shut_elsewhere", "else shut", ".1%"),
        Column("touching", "f v touch", ".1%"),
        Column("labiodental_gap_mm", "gap mm"),
        Column("open_gap_mm", "open mm", ".1f"),
        Column("silent_gap_mm", "silent mm"),
        Column("silent_deviation_mm", "off rest"),
        Column("agreement", "r"),
    ),
    f"shut: smallest gap within the phone +-40 ms under {CLOSED_MM:g} mm; else: frames further than "
    f"{1000 * ELSEWHERE_S:g} ms from p b m and silence; touch: lower lip within {TOUCH_MM:g} mm of its place "
    "in a reading of the phones; gaps: medians (smallest of p b m f v, largest of open vowels, all frames of "
    "silences); off rest: mouth in silence, mm; r: of the gap with that reading",
)
SECTIONS = (
    LIPS,
    Section(
        "frame by frame against one reading of the phones (lips follow from speech; blinks and style do not)",
        (
            Column("lve_mm2", "LVE mm2"),
            Column("lve_mm", "LVE mm"),
            Column("mve_mm", "MVE mm"),
            Column("opening_mm", "MOD mm"),
            Column("opening_r", "MOD r"),
            Column("dtw_mm", "DTW mm"),
            Column("mtm_ms", "MTM ms", ".1f"),
            Column("lag_ms", "lag ms", ".1f"),
            Column("fdd_mm2", "FDD mm2", "+.3f"),
        ),
        "FDD of CodeTalker, signed: above 0 = stiller than the reading; MOD by inner-lip pairs; lag above 0 ="
        " late",
    ),
    Section(
        "life",
        (
            Column("blinks_per_minute", "blinks/m", ".1f"),
            Column("blink_depth", "depth"),
            Column("blink_duration_ms", "half ms", ".0f"),
            Column("brow_sd", "brow sd", ".3f"),
            Column("gaze_sd", "gaze sd", ".3f"),
            Column("brows_spread_mm", "brow mm"),
            Column("lids_spread_mm", "lid mm"),
            Column("lids_fast_mm2", "lid >5Hz", ".3f"),
            Column("upper_speed", "mm/s"),
            Column("upper_acceleration", "mm/s2", ".0f"),
        ),
        "half: width of a blink at half its depth; sd: in weights; mm: spread over time; >5Hz: part of its "
        "square above 5 Hz; speed, acceleration: of lids and brows; truth is the aim, not more of it",
    ),
    Section(
        "liveliness of the mouth",
        (
            Column("mouth_spread_mm", "mm"),
            Column("mouth_fast_mm2", ">5Hz mm2", ".3f"),
            Column("mouth_speed", "mm/s", ".1f"),
            Column("mouth_acceleration", "mm/s2", ".0f"),
            Column("mouth_jerk", "mm/s3", ".0f"),
            Column("slcc", "SLCC"),
            Column("slcc_difference", "- truth", "+.2f"),
        ),
        "SLCC: over clips, r of loudness and lip motion, z-scored by speaker",
    ),
    Section(
        "differences between seeds, and distance of the distribution from that of the truth",
        (
            Column("diversity_mouth_mm", "mouth mm"),
            Column("diversity_opening_mm", "gap mm"),
            Column("diversity_brows_mm", "brow mm"),
            Column("diversity_lids_mm", "lid mm"),
            Column("frechet_mouth_mm2", "FD mouth", ".3f"),
            Column("frechet_upper_mm2", "FD upper", ".3f"),
            Column("kernel_mouth", "KD mouth", ".3f"),
            Column("kernel_upper", "KD upper", ".3f"),
        ),
        "seeds: mean distance of pairs; FD, KD: Fréchet (mm2) and kernel distance of windows of 1 s",
    ),
    Section(
        "sync expert",
        (
            Column("sync_distance", "D at 0"),
            Column("sync_best_distance", "D best"),
            Column("sync_offset_frames", "offset", ".1f"),
            Column("sync_confidence", "C"),
        ),
        "offset in frames of the motion after the sound",
    ),
)
ROW_NOTES = (
    "truth: other draws of the phones' curves; nearest: segments of other texts' draws with the nearest "
    f"phones; delayed by {DELAY_FRAMES} frames; frozen: upper face at rest; smoothed: Gaussian, sigma "
    f"{SMOOTH_FRAMES:g} frames; doubled: weights x {GAIN:g}; [ ]: 95 % of a bootstrap over clips, "
    "none of a single one"
)
_WITH_INTERVAL = ("model", "truth")
_NAME, _CELL = 14, 10


@dataclasses.dataclass
class Report:
    """What ``evaluate`` found.

    Attributes:
        settings: manifest (its name, where it has one), motions (the folder of given ones) and without (their
            expressions that are 0 for want of a curve), split and limit (None: all of it), clips, seconds of
            speech, seed, seeds, steps, guidance, pad.
        rows: row -> figure -> value; "model", "truth" and the controls. NaN where nothing was counted.
        intervals: row -> figure -> 95 % interval over clips; None where there is none.
        voices: the model's lips per voice, as a row.
        voice_intervals: theirs.
        example: curves of the first clip over its frames, for the plot: "model" and "truth" (gap of the lips,
            mm), "model lids" and "truth lids" (0 open, 1 shut).
        clip_by_clip: what the model's figures are pooled of (:meth:`.pooling.Pool.as_dict`), and the "names"
            of the clips, for :mod:`.paired`.
    """

    settings: dict[str, Any]
    rows: dict[str, dict[str, float]]
    intervals: dict[str, dict[str, Interval | None]]
    voices: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    voice_intervals: dict[str, dict[str, Interval | None]] = dataclasses.field(default_factory=dict)
    example: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    clip_by_clip: dict[str, Any] = dataclasses.field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values, without the example; null stands for what was not counted."""
        fields = {name: value for name, value in dataclasses.asdict(self).items() if name != "example"}
        out: dict[str, Any] = _plain(fields)
        return out

    def table(self) -> str:
        """The report as text."""
        blocks = [self._section(section) for section in SECTIONS if self._has(section)]
        if self.voices:
            lines = [
                _head("by voice", LIPS),
                *(_line(n, LIPS, row) for n, row in sorted(self.voices.items())),
            ]
            blocks.append("\n".join(lines))
        counts = ", ".join(
            f"{self.rows['model'][key]:g} {text}"
            for key, text in (
                ("bilabials", "p b m"),
                ("labiodentals", "f v"),
                ("open_vowels", "open vowels"),
                ("silent_frames", "frames of silence"),
            )
        )
        return "\n\n".join([*blocks, f"{ROW_NOTES}\n{counts}\n{self.told()}"])

    def told(self) -> str:
        """The settings in one line, without those that nobody chose."""
        return ", ".join(f"{key} {value}" for key, value in self.settings.items() if value is not None)

    def _has(self, section: Section) -> bool:
        return any(column.key in row for row in self.rows.values() for column in section.columns)

    def _section(self, section: Section) -> str:
        lines = [_head(section.title, section)]
        for name, row in self.rows.items():
            lines.append(_line(name, section, row))
            if name in _WITH_INTERVAL:
                limits = self.intervals.get(name, {})
                lines += [_limits(text, section, limits, side) for side, text in enumerate(("  [", "  ]"))]
        return "\n".join([*lines, *([section.note] if section.note else [])])


def _head(title: str, section: Section) -> str:
    return f"{title}\n{'':<{_NAME}}" + "".join(f"{column.head:>{_CELL}}" for column in section.columns)


def _line(name: str, section: Section, row: dict[str, float]) -> str:
    cells = (_cell(row.get(column.key, math.nan), column.form) for column in section.columns)
    return f"{name:<{_NAME}.{_NAME}}" + "".join(cells)


def _limits(text: str, section: Section, limits: dict[str, Interval | None], side: int) -> str:
    cells = []
    for column in section.columns:
        found = limits.get(column.key)
        cells.append(_cell(math.nan if found is None else found[side], column.form))
    return f"{text:<{_NAME}}" + "".join(cells)


def _cell(value: float, form: str) -> str:
    return f"{'-' if math.isnan(value) else format(value, form):>{_CELL}}"


def _plain(value: Any) -> Any:
    """Dictionaries, lists and numbers with None in place of NaN."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
