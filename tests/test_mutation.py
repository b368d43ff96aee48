"""Mutants are what they are said to be, and a run tells those that tests see from those that they do not."""

from __future__ import annotations

import ast
import os
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"

pytestmark = pytest.mark.skipif(not SCRIPTS.is_dir(), reason="needs the source tree")

SOURCE = '''"""Rules."""

LIMIT = 3


def least(values: list[int], *, default: int = 7) -> int:
    """The least of some values."""
    if not values and default > 0:
        return default
    if len(values) > LIMIT:
        raise ValueError(f"more than {LIMIT + 1}")
    print("least of", 5)
    return min(sorted(values, reverse=False)) - 0
'''
TESTS = """
from rules.least import least

def test_least():
    assert least([2, 1]) == 1

def test_default():
    assert least([]) == 7
"""


@pytest.fixture(scope="module", autouse=True)
def scripts() -> None:
    sys.path.insert(0, str(SCRIPTS))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "least.py").write_text(SOURCE)
    (tmp_path / "test_least.py").write_text(TESTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_every_mutant_is_one_change_of_something_that_counts(project: Path) -> None:
    from mutants import mutants, mutated

    found = mutants(project / "rules" / "least.py", project)
    told = {(m.before, m.after) for m in found}
    assert {
        ("3", "4"), ("7", "8"), ("not values", "values"), ("default > 0", "default >= 0"),
        ("not values and default > 0", "not values or default > 0"),
        ("len(values) > LIMIT", "len(values) >= LIMIT"),
        ("sorted(values, reverse=False)", "sorted(values)"), ("False", "True"), ("0", "1"),
    } <= told  # fmt: skip
    assert not any("'least of'" in m.before or "5" in m.before or m.before == "LIMIT + 1" for m in found)
    assert len({m.key for m in found}) == len(found) and len(told) >= 12
    plain = ast.unparse(ast.parse(SOURCE))
    changed = [ast.unparse(mutated(SOURCE, m.number)) for m in found]
    assert plain not in changed and len(set(changed)) == len(changed)
    for mutant, code in zip(found, changed, strict=True):
        differing = [a for a, b in zip(plain.splitlines(), code.splitlines(), strict=False) if a != b]
        assert len(differing) <= 2 or mutant.after == "pass"
    (limit,) = (m for m in found if m.before == "3")
    assert not limit.inside and (limit.line, limit.first, limit.last) == (3, 3, 3)
    with pytest.raises(ValueError):
        mutated(SOURCE, len(found))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="runs mutants in forks")
def test_what_tests_see_is_killed_and_what_they_do_not_see_survives(project: Path) -> None:
    from mutants import mutants, mutated
    from mutation_runs import first_failure, forked

    tests = [("test_least.py", ["test_least.py::test_least", "test_least.py::test_default"])]
    found = {m.after: m.number for m in mutants(project / "rules" / "least.py", project)}

    def end(after: str) -> tuple[str, str]:
        number = found[after]
        return first_failure(project, "rules/least.py", lambda s: mutated(s, number), tests, 20.0)

    assert end("8") == ("killed", "test_least.py::test_default")
    assert end("4") == ("survived", "")
    assert first_failure(project, "rules/least.py", lambda s: "1 +", tests, 20.0)[0] == "killed"
    assert forked(lambda folder: 5, cpu_s=60, wall_s=60) == ("done", 5)
    how, why = forked(lambda folder: 1 / 0, cpu_s=60, wall_s=60)
    assert how == "crash" and "ZeroDivisionError" in why
    assert forked(lambda folder: __import__("time").sleep(60), cpu_s=60, wall_s=0.3) == ("time", None)


def test_a_mutant_meets_the_tests_of_its_line_nearest_first(project: Path) -> None:
    from mutants import Mutant
    from mutate import tests_of

    where = "facetalk/audio/level.py"
    seen = {
        "tests/cli/test_a.py": {"tests": {"a1": 0.1}, "lines": {where: {"a1": [4, 5]}}},
        "tests/audio/test_load.py": {"tests": {"l1": 3.0, "l2": 1.0}, "lines": {where: {"setup": [5]}}},
        "tests/audio/test_level.py": {"tests": {"v1": 2.0, "v2": 1.0, "v3": 9.0}, "lines": {
            where: {"v1": [5], "v2": [5], "v3": [9], "import": [1, 2]}}},
        "tests/audio/test_other.py": {"tests": {"o": 1.0}, "lines": {}},
    }  # fmt: skip
    at = Mutant(where, 5, "k", 0, "a", "b", 5, 6, True)
    assert tests_of(at, seen, 99.0) == [
        ("tests/audio/test_level.py", ["v2", "v1"]), ("tests/audio/test_load.py", ["l2", "l1"]),
        ("tests/cli/test_a.py", ["a1"]),
    ]  # fmt: skip
    # The cheapest are asked where time is short.
    assert tests_of(at, seen, 3.5) == [
        ("tests/audio/test_level.py", ["v2"]),
        ("tests/audio/test_load.py", ["l2"]),
        ("tests/cli/test_a.py", ["a1"]),
    ]
    # What runs at import is everybody's who runs anything of the file.
    at = Mutant(where, 2, "k", 0, "a", "b", 2, 2, False)
    assert tests_of(at, seen, 99.0)[0] == ("tests/audio/test_level.py", ["v2", "v1", "v3"])


def test_planted_faults_are_of_code_that_is_there() -> None:
    from planted import PLANTED

    for what, file, code, fault in PLANTED:
        source = (SCRIPTS.parent / file).read_text(encoding="utf-8")
        assert code in source, f"{what}: {file} has no {code!r}"
        assert code != fault and len([name for name, *_ in PLANTED if name == what]) == 1
