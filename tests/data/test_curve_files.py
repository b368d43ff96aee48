"""Curves of other systems: what our own writers write is read back, and what is none is one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from facetalk.data.curve_files import read_curve_file
from facetalk.data.expressions import EXPRESSION_NAMES, INDEX
from facetalk.errors import InputError
from facetalk.live.curves import write_curves
from facetalk.motion import Motion


def moving(frames: int = 75) -> Motion:
    """Every expression goes its own way, both halves of ARKit's whole shapes the same one."""
    rng = np.random.default_rng(0)
    codes = rng.uniform(0.0, 1.0, (frames, len(EXPRESSION_NAMES)))
    for name in ("browInnerUp", "cheekPuff"):
        codes[:, INDEX[f"{name}_R"]] = codes[:, INDEX[f"{name}_L"]]
    return Motion(codes, 25.0)


@pytest.mark.parametrize("suffix", [".csv", ".json"])
@pytest.mark.parametrize("rate", [2.5, 12.5, 25.0, 30.0, 33.4, 50.0, 60.0])
def test_what_is_written_is_read(tmp_path: Path, suffix: str, rate: float) -> None:
    motion = moving()
    path, _ = write_curves(tmp_path / f"take{suffix}", motion, EXPRESSION_NAMES, fps=rate)
    found = read_curve_file(path)
    codes, missing = found.codes()
    assert found.fps == rate and missing == () and len(codes) == round(3 * rate)
    expected = motion.at(np.arange(len(codes)) / rate, fps=rate)
    np.testing.assert_allclose(codes, expected, atol=2e-6)  # left and right where they belong, too


def take(path: Path, times: list[str], head: str = "Timecode,JawOpen") -> Path:
    path.write_text("\n".join([head, *(f"{time},{i / 100}" for i, time in enumerate(times))]) + "\n")
    return path


def test_the_time_code_says_the_rate(tmp_path: Path) -> None:
    app = [f"11:14:{8 + i // 60:02d}:{i % 60:02d}.{i:03d}" for i in range(17, 200)]
    # A clock that runs a little apart from its time code, as fractions of its frames tell.
    found = read_curve_file(take(tmp_path / "a.csv", app))
    assert found.fps == pytest.approx(59.94, abs=0.001) and found.values.shape == (183, 1)
    assert found.names == ("jawOpen",)
    every_other = [f"00:00:{i // 60:02d}:{i % 60:02d}" for i in range(0, 180, 2)]
    assert read_curve_file(take(tmp_path / "b.csv", every_other)).fps == 30.0
    short = [f"00:00:00:{i:02d}" for i in range(20)]
    assert read_curve_file(take(tmp_path / "c.csv", short)).fps == 60.0
    # As Audio2Face-3D writes them: seconds, and names behind a prefix.
    seconds = [f"{i / 30:.6f}" for i in range(40)]
    nvidia = read_curve_file(take(tmp_path / "d.csv", seconds, "timeCode,blendShapes.JawOpen"))
    assert nvidia.fps == 30.0 and nvidia.names == ("jawOpen",)


def test_dropped_rows_are_filled_in(tmp_path: Path) -> None:
    kept = [i for i in range(120) if i not in (30, 31, 77)]
    path = tmp_path / "a.csv"
    lines = [f"00:00:{i // 60:02d}:{i % 60:02d},{i / 120}" for i in kept]
    path.write_text("\n".join(["Timecode,JawOpen", *lines]))
    found = read_curve_file(path)
    assert found.fps == 60.0
    np.testing.assert_allclose(found.values[:, 0], np.arange(120) / 120, atol=1e-6)


def test_a_curve_that_is_not_there_is_zero_and_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    names = ["jawOpen", "browInnerUp", "eyeBlink_L", "tongueOut", "nonsense"]
    path.write_text(
        json.dumps({"exportFps": 30, "facsNames": names, "weightMat": [[0.1, 0.2, 0.3, 0.4, 9e9]]})
    )
    codes, missing = read_curve_file(path).codes()
    told = {name: float(value) for name, value in zip(EXPRESSION_NAMES, codes[0], strict=True) if value}
    assert told == pytest.approx(
        {"jawOpen": 0.1, "browInnerUp_L": 0.2, "browInnerUp_R": 0.2, "eyeBlink_L": 0.3}
    )
    assert len(missing) == 53 - 4 and "eyeBlink_R" in missing and "jawOpen" not in missing


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "no rows"),
        ("a.csv", "Timecode,JawOpen\n", "no rows"),
        ("a.csv", "JawOpen\n0.1\n", "no column Timecode"),
        ("a.csv", "Timecode,JawOpen\n00:00:00:00,0.1,0.2\n", "row 1 has 3 values under 2 names"),
        ("a.csv", "Timecode,JawOpen\n00:00:00:00,much\n", "could not convert"),
        ("a.csv", "Timecode,JawOpen\n00:00:00:00,nan\n", "weights up to nan"),
        ("a.csv", "Timecode,JawOpen\n00:00:00:00,55\n", "weights up to 55"),
        ("a.csv", "Timecode,JawOpen\n00:00,0.1\n", "no time code"),
        ("a.csv", "Timecode,JawOpen\n00:00:01:00,0\n00:00:00:00,0\n", "do not go on"),
        ("a.csv", "Timecode,JawOpen\n0,0\nnan,0\n", "do not go on"),
        ("a.csv", "Timecode,JawOpen\n0,0\n0.1,0\n0.2,0\n9000,0\n", "leap"),
        ("a.csv", "Timecode,JawOpen\n0,0\n1e-9,0\n", "frames a second"),
        ("a.csv", "Timecode,Grin\n0,0\n", "none of its curves"),
        ("a.csv", "Timecode,JawOpen,jawOpen\n0,0,0\n", "jawOpen is there twice"),
        ("a.csv", "\xff\xfe\0", "damaged"),
        ("a.json", "[]", "no JSON object"),
        ("a.json", "{}", "facsNames"),
        ("a.json", '{"exportFps": true, "facsNames": ["jawOpen"], "weightMat": [[0]]}', "exportFps"),
        ("a.json", '{"exportFps": 0, "facsNames": ["jawOpen"], "weightMat": [[0]]}', "0 frames a second"),
        ("a.json", '{"exportFps": 30, "facsNames": "jawOpen", "weightMat": [[0]]}', "facsNames"),
        ("a.json", '{"exportFps": 30, "facsNames": ["jawOpen"], "weightMat": []}', "no rows"),
        ("a.json", '{"exportFps": 30, "facsNames": ["jawOpen"], "weightMat": [[0], 1]}', "row 2"),
        ("a.json", '{"exportFps": 30, "facsNames": ["jawOpen"], "weightMat": [[null]]}', "weights up to nan"),
        ("a.json", '{"exportFps": 30, "facsNames": ["jawOpen"], "weightMat": [[[0]]]}', "is no number"),
    ],
)
def test_what_is_no_file_of_curves_is_one_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=message) as caught:
        read_curve_file(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
