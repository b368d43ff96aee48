"""Tables of the benchmark page: made from JSON, checked against it, and what cannot be made."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "benchmark_tables.py"
pytestmark = pytest.mark.skipif(not SCRIPT.is_file(), reason="the scripts are not part of an installation")


sys.path.insert(0, str(SCRIPT.parent))  # gpu_tables.py


@pytest.fixture(scope="module")
def tables():
    spec = importlib.util.spec_from_file_location("benchmark_tables", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(group: str, how: str, seconds: float, **extra) -> dict:
    params = {"case": "10k", "how": how}
    return {
        "group": group, "name": f"test[{how}]", "params": params, "extra_info": extra,
        "stats": {"min": seconds, "mean": 9 * seconds},
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    content = {
        "machine_info": {
            "cpu": {"brand_raw": "CPU X", "count": 2},
            "packages": {"torch": "2.0"},
            "threads": 2,
        },
        "commit_info": {"id": "0123456789abcdef", "dirty": False},
        "datetime": "2026-01-02T03:04:05",
        "benchmarks": [
            row("speed 64", "ours", 0.002, faces=1234),
            row("speed 64", "peer", 0.05, faces=1230, note="one thread"),
            row("track", "ours", 8.0, ms_per_frame=20.0),
            row("track", "torch", 1.0, ms_per_frame=500.0),
        ],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    return tmp_path


def page(folder: Path, marker: str = "a.json") -> Path:
    path = folder / "page.md"
    path.write_text(f"# Words\n\nbefore\n<!-- benchmark: {marker} -->\n<!-- /benchmark -->\nafter\n")
    return path


def run(tables, folder: Path, path: Path, *words: str) -> int:
    return tables.main(["--page", str(path), "--results", str(folder), *words])


def test_a_page_is_filled_and_then_holds(tables, folder, capsys) -> None:
    path = page(folder)
    assert run(tables, folder, path, "--check") == 1
    assert "differs" in capsys.readouterr().err and "ours" not in path.read_text()
    assert run(tables, folder, path) == 0
    text = path.read_text()
    assert text.startswith("# Words\n\nbefore\n") and text.endswith("<!-- /benchmark -->\nafter\n")
    assert "| | ms | faster than peer | faces | note |" in text
    assert "| ours | 2 | 25× | 1 234 |  |" in text and "| peer | 50 | 1 | 1 230 | one thread |" in text
    assert "| ours | 20 | 25× |" in text and "| torch | 500 | 1 |" in text  # per frame, not per call
    assert "CPU X, 2 threads; torch 2.0; commit 0123456789, 2026-01-02" in text
    assert run(tables, folder, path, "--check") == 0 and run(tables, folder, path) == 0
    assert path.read_text() == text
    path.write_text(text.replace("25×", "26×"))
    assert run(tables, folder, path, "--check") == 1


def test_groups_and_peers_can_be_chosen(tables, folder) -> None:
    path = page(folder, 'a.json group="speed" peer="ours; peer"')
    assert run(tables, folder, path) == 0
    text = path.read_text()
    assert "faster than ours | faster than peer" in text and "**track**" not in text
    assert "| peer | 50 | 0.040× | 1 |" in text


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("missing.json", "missing.json"),
        ("broken.json", "not JSON"),
        ("other.json", "no benchmarks"),
        ('a.json group="nothing"', "no group starts with"),
        ('a.json peer="nobody"', "no row 'nobody'"),
        ('a.json colour="red"', "unknown option"),
        ("a.json group=speed", "cannot read"),
    ],
)
def test_what_cannot_be_made_is_said_in_one_line(tables, folder, capsys, marker, message) -> None:
    (folder / "broken.json").write_text("{")
    (folder / "other.json").write_text('{"rows": []}')
    path = page(folder, marker)
    before = path.read_text()
    assert run(tables, folder, path) == 2 and path.read_text() == before
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and error.startswith("error: ")


def test_a_block_without_an_end_is_refused(tables, folder, capsys) -> None:
    path = page(folder)
    path.write_text(path.read_text().replace("<!-- /benchmark -->", ""))
    assert run(tables, folder, path) == 2 and "/benchmark" in capsys.readouterr().err
    assert run(tables, folder, folder / "nowhere.md") == 2


def test_numbers(tables) -> None:
    given = [0.00012345, 0.5, 1.234, 12.345, 123.4, 12345.6, 7, 2.0, "text", True]
    assert [tables.number(g) for g in given] == [
        "0.00012", "0.500", "1.23", "12.3", "123", "12 346", "7", "2", "text", "True",
    ]  # fmt: skip


def test_sentences_take_their_figures_from_benchmarks_and_any_other_json(tables, tmp_path, folder) -> None:
    results, figures = tmp_path / "results", tmp_path / "figures"
    results.mkdir(), figures.mkdir()
    (results / "a.json").write_text((folder / "a.json").read_text())
    (results / "b.json").write_text(json.dumps({"rows": {"model": [{"closed": 0.8391}]}}))
    template = figures / "words.md"
    template.write_text(
        "ours {a.json | speed 64 | ours | time}, {a.json | speed 64 | ours | faces} faces, peer "
        "{a.json | track | torch | time}; closed {b.json | rows.model.0.closed | .1%}\n"
    )
    path = tmp_path / "page.md"
    path.write_text("x\n<!-- figures: words.md -->\nstale\n<!-- /figures -->\ny\n")
    assert run(tables, results, path, "--check") == 1
    assert run(tables, results, path) == 0
    text = path.read_text()
    assert "-->\nours 2 ms, 1 234 faces, peer 500 ms; closed 83.9%\n<!--" in text
    path.write_text(text.replace("83.9", "93.9"))
    assert run(tables, results, path, "--check") == 1


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("a.json | nothing | ours | time", "no group 'nothing'"),
        ("a.json | speed 64 | nobody | time", "no row 'nobody'"),
        ("a.json | speed 64 | ours | colour", "no 'colour'"),
        ("a.json | machine_info.nowhere", "nothing at"),
        ("a.json | machine_info.cpu.brand_raw | .1%", "does not format"),
        ("missing.json | x", "missing.json"),
        ("a.json", "cannot read"),
    ],
)
def test_a_figure_that_is_not_there_is_said_in_one_line(
    tables, tmp_path, folder, capsys, reference: str, message: str
) -> None:
    results, figures = tmp_path / "results", tmp_path / "figures"
    results.mkdir(), figures.mkdir()
    (results / "a.json").write_text((folder / "a.json").read_text())
    (figures / "words.md").write_text("{" + reference + "}\n")
    path = tmp_path / "page.md"
    path.write_text("<!-- figures: words.md -->\n<!-- /figures -->\n")
    assert run(tables, results, path) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and error.startswith("error: ")


def test_the_committed_pages_say_what_the_json_says(tables) -> None:
    assert ROOT / "README.md" in tables.pages() and ROOT / "docs" / "benchmarks.md" in tables.pages()
    assert tables.main(["--check"]) == 0


def gpu_row(operation: str, peer: str, ms: float, case: dict, **extra) -> dict:
    return {"operation": operation, "case": case, "peer": peer, "median_ms": ms, **extra}


@pytest.fixture
def gpu_results(tmp_path: Path) -> Path:
    rows = [
        gpu_row("attention", "ours", 0.0123, {"frames": 48, "dtype": "float16"}, of_copy=0.5),
        gpu_row("attention", "SDPA", 0.0456, {"frames": 48, "dtype": "float16"}, **{"times ours": 3.7}),
        gpu_row("attention", "ours", 1234.5, {"frames": 96, "dtype": "float16"}, frames_per_s=2.5e6),
    ]
    traced = [
        gpu_row("kernels", "ours", ms, {"frames": 1, "kernel": name}, calls=84, of_device=0.5)
        for name, ms in (("mlp<2>", 1.5), ("rest", 1.5))
    ]
    launch = {
        "kernel": "mc<0>", "grid": "(2, 32, 1)",
        "dram__throughput.avg.pct_of_peak_sustained_elapsed [%]": 25.0,
        "sm__throughput.avg.pct_of_peak_sustained_elapsed [%]": 5.0,
        "sm__warps_active.avg.pct_of_peak_sustained_active [%]": 12.5,
        "launch__registers_per_thread [register/thread]": 42.0,
    }  # fmt: skip
    profiled = [launch | {"gpu__time_duration.sum [ns]": ns} for ns in (900.0, 300.0, 500.0)]
    machine = {"device": {"name": "GPU", "driver_version": "1.2"}, "packages": {"torch": "2.11"}}
    profiled.append({"kernel": "mc<0>", "grid": "(2, 32, 1)"})  # cut off
    found = {"attention": rows, "trace": traced, "ncu-mc": [*profiled, rows[0]]}
    steps = {"machine": {"machine": machine}, "tests": {}, **{name: {"rows": found[name]} for name in found}}
    (tmp_path / "gpu.json").write_text(json.dumps({"fast": {"commit": "abcdef123456", "steps": steps}}))
    return tmp_path


def test_a_gpu_table_has_its_rows_and_says_where_they_come_from(tables, gpu_results: Path):
    made = tables.fill('a\n<!-- gpu: gpu.json step="attention" -->\n<!-- /gpu -->\n', gpu_results)
    assert "**attention, dtype float16**" in made
    assert "| 48 | ours | 0.0123 |  | 50% |  |" in made
    assert "| 48 | SDPA | 0.0456 |  |  | 3.7 |" in made
    assert "| 96 | ours | 1 234 | 2.5 M |  |  |" in made
    assert "GPU, driver 1.2, torch 2.11" in made and "abcdef1234;" in made
    assert tables.fill(made, gpu_results) == made
    only = tables.fill(
        '<!-- gpu: gpu.json step="attention" only="frames=96" -->\n<!-- /gpu -->\n', gpu_results
    )
    assert "SDPA" not in only and "1 234" in only
    traces = tables.fill('<!-- gpu: gpu.json step="trace" -->\n<!-- /gpu -->\n', gpu_results)
    assert (
        "**kernels, frames 1, kernel mlp<2>**" not in traces
        and "| `mlp<2>` | ours | 1.5 | 84 | 50% |" in traces
    )


def test_a_profile_has_the_median_of_each_kernels_launches(tables, gpu_results: Path):
    made = tables.fill('<!-- gpu: gpu.json step="ncu-mc" -->\n<!-- /gpu -->\n', gpu_results)
    assert "| `mc<0>` | 64 | 4 | 500 | 25 | 5 | 12.5 | 42 |" in made
    assert "attention" not in made and "GPU, driver 1.2" in made


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ('step="field"', "step 'field' has no rows; those that do: attention, trace, ncu-mc"),
        ('step="attention" case="other"', "no row of 'attention' is such a case"),
        ('case="attention"', "step is needed"),
    ],
)
def test_what_a_gpu_table_cannot_say(tables, gpu_results: Path, options: str, message: str):
    with pytest.raises(tables.TableError, match=message):
        tables.fill(f"<!-- gpu: gpu.json {options} -->\n<!-- /gpu -->\n", gpu_results)
