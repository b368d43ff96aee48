"""Tests in forks of one process that has imported what does not change: torch, transformers, pytest.

A fork imports the package's own modules itself, one of them with a change, runs the tests it is told, and
says what failed. So a mutant costs what its tests cost, and not the ten seconds of the imports.
"""

from __future__ import annotations

import ast
import contextlib
import gc
import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import io
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import pytest

Change = Callable[[str], "str | ast.Module"]
"""From a module's source to another source or tree."""
SETUP = "setup"
"""Place of a test's name for what its fixtures run: other tests of the file stand on it too."""
MEMORY = 8 << 30
_PLUGINS = ("-p", "_hypothesis_pytestplugin")


def preload() -> None:
    """Import what no mutant touches; :func:`change_module` says when one came with it."""
    for name in (
        "torch", "torch.nn.functional", "torch.utils.flop_counter", "numpy", "scipy.signal", "scipy.spatial",
        "scipy.linalg", "scipy.ndimage", "scipy.sparse.csgraph", "scipy.sparse.linalg", "scipy.stats",
        "transformers.models.wav2vec2.modeling_wav2vec2", "accelerate", "soundfile", "soxr", "av",
        "PIL.Image",
        "hypothesis.strategies", "hypothesis.extra.numpy", "safetensors.torch", "safetensors.numpy", "tqdm",
        "torchmetrics.image.fid", "torchmetrics.image.kid", "matplotlib.backends.backend_agg", "pyfqmr",
        "diffusers.schedulers.scheduling_ddim", "diffusers.schedulers.scheduling_dpmsolver_multistep",
        "torch._dynamo", "threadpoolctl", "platformdirs", "pocketsphinx", "facetalk.ops", "facetalk.nphm",
        "facetalk.files", "facetalk.arguments", "facetalk.reading", "facetalk.interrupts", "facetalk.ambient",
    ):  # fmt: skip
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(name)
    for name in ("Wav2Vec2Model", "Wav2Vec2Config", "Wav2Vec2FeatureExtractor"):
        getattr(importlib.import_module("transformers"), name)  # imported when first asked for
    # Pytest's own modules; of the plugins that happen to be installed, tests need one.
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    sys.dont_write_bytecode = False
    with contextlib.redirect_stdout(io.StringIO()):
        pytest.main(["--version", *_PLUGINS])
    _try_no_constants()
    gc.collect()
    gc.freeze()  # what is never looked at again is never copied


def _try_no_constants() -> None:
    """Hypothesis would parse every module of the package for constants to try, in each fork anew."""
    with contextlib.suppress(ImportError):
        from hypothesis.internal.conjecture import providers
        from hypothesis.internal.constants_ast import Constants

        providers._get_local_constants = Constants


class _Loader(importlib.machinery.SourceFileLoader):
    """Compiles what a change makes of the file."""

    def __init__(self, name: str, path: str, change: Change) -> None:
        super().__init__(name, path)
        self.change = change

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.change(Path(self.path).read_text(encoding="utf-8")), self.path, "exec")


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the changed module."""

    def __init__(self, name: str, path: Path, change: Change) -> None:
        self.name, self.path, self.change = name, path, change

    def find_spec(
        self, fullname: str, path: Any, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.name:
            return None
        places = [str(self.path.parent)] if self.path.name == "__init__.py" else None
        loader = _Loader(fullname, str(self.path), self.change)
        return importlib.util.spec_from_file_location(
            fullname, self.path, loader=loader, submodule_search_locations=places
        )


def change_module(root: Path, file: str, change: Change) -> None:
    """Let the module of a file be imported with a change.

    Raises:
        RuntimeError: it has been imported already.
    """
    name = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    if name in sys.modules:
        raise RuntimeError(f"{name} was imported before its change")
    sys.meta_path.insert(0, _Finder(name, root / file, change))


class Plugin:
    """Runs the chosen tests of a file and notes what they did."""

    def __init__(self, chosen: Sequence[str] | None = None, switch: Callable[[str], object] | None = None):
        self.chosen = None if chosen is None else {name: place for place, name in enumerate(chosen)}
        self.switch = switch
        self.seconds: dict[str, float] = {}
        self.passed: list[str] = []
        self.failed: list[str] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave the chosen tests, in their order."""
        if self.chosen is not None:
            items[:] = [item for item in items if item.nodeid in self.chosen]
            items.sort(key=lambda item: self.chosen[item.nodeid])  # type: ignore[index]

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot be imported has noticed something."""
        if report.failed:
            self.failed.append(f"{report.nodeid}: cannot be imported")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """What fixtures run is the file's."""
        if self.switch:
            self.switch(SETUP)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> None:
        """What the test itself runs is its own."""
        if self.switch:
            self.switch(item.nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note how it ended and how long it took."""
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration
        if report.failed:
            self.failed.append(report.nodeid)
        elif report.when == "call" and report.passed:
            self.passed.append(report.nodeid)


def pytest_here(file: str, plugin: Plugin, scratch: Path, *more: str) -> int:
    """Run tests of a file in this process."""
    words = [file, "-q", "--no-header", "--tb=line", "-p", "no:cacheprovider", *_PLUGINS, *more]
    return int(pytest.main([*words, f"--basetemp={scratch / 'pytest'}"], plugins=[plugin]))


def forked(job: Callable[[Path], Any], *, cpu_s: float, wall_s: float) -> tuple[str, Any]:
    """Run a job in a fork.

    Returns:
        "done" and what the job returned; "time" when it took too long; "crash" and a signal or a traceback.
    """
    scratch = Path(tempfile.mkdtemp(prefix="mutant-"))
    answer = scratch / "answer.json"
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        _in_the_fork(job, scratch, answer, cpu_s)
    try:
        begun = time.monotonic()
        while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
            if time.monotonic() - begun > wall_s:
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return "time", None
            time.sleep(0.02)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # what it started and left
        if answer.is_file():
            found = json.loads(answer.read_text())
            return ("done", found["value"]) if "value" in found else ("crash", found["error"])
        number = os.waitstatus_to_exitcode(ended[1])
        if number == -signal.SIGXCPU:
            return "time", None
        return "crash", signal.Signals(-number).name if number < 0 else f"exit status {number}"
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _in_the_fork(job: Callable[[Path], Any], scratch: Path, answer: Path, cpu_s: float) -> None:
    try:
        os.setpgid(0, 0)
        log = os.open(scratch / "log", os.O_WRONLY | os.O_CREAT)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(scratch / "hypothesis")
        os.environ["TMPDIR"] = tempfile.tempdir = str(scratch)
        resource.setrlimit(resource.RLIMIT_CPU, (int(cpu_s), int(cpu_s) + 5))
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        _try_no_constants()
        value = {"value": job(scratch)}
    except BaseException:
        value = {"error": traceback.format_exc()[-2000:]}
    answer.write_text(json.dumps(value))
    os._exit(0)


def digest(paths: Sequence[Path]) -> str:
    """Of the content of files."""
    content = hashlib.sha256()
    for path in sorted(paths):
        content.update(path.read_bytes() if path.is_file() else b"gone")
    return content.hexdigest()[:16]


def covered(root: Path, test_file: str, sources: Sequence[str]) -> dict[str, Any]:
    """Which lines of the sources each test of a file runs.

    Returns:
        "tests": seconds of each test that passed; "lines": file -> context -> lines, where a context is a
        test or ``"setup"``; "failed": tests that do not pass.
    """
    import coverage  # not needed to run a mutant

    def job(scratch: Path) -> dict[str, Any]:
        watch = coverage.Coverage(
            data_file=str(scratch / "coverage"), include=[str(root / s) for s in sources], config_file=False
        )
        watch.start()
        watch.switch_context("import")
        plugin = Plugin(switch=watch.switch_context)
        pytest_here(test_file, plugin, scratch)
        watch.stop()
        data = watch.get_data()
        lines: dict[str, dict[str, list[int]]] = {}
        for path in data.measured_files():
            by_context: dict[str, list[int]] = {}
            for line, contexts in data.contexts_by_lineno(path).items():
                for context in contexts:
                    if context:
                        by_context.setdefault(context, []).append(line)
            lines[Path(path).relative_to(root).as_posix()] = by_context
        tests = {name: round(plugin.seconds[name], 2) for name in plugin.passed if name not in plugin.failed}
        return {"tests": tests, "lines": lines, "failed": plugin.failed}

    how, found = forked(job, cpu_s=900, wall_s=1800)
    if how != "done":
        return {"tests": {}, "lines": {}, "failed": [f"{test_file}: {how} {found}"]}
    assert isinstance(found, dict)
    return found


def first_failure(
    root: Path, file: str, change: Change, chosen: Sequence[tuple[str, Sequence[str]]], budget_s: float
) -> tuple[str, str]:
    """Run tests of some files, in order, until one fails under a change.

    Returns:
        "killed", "time" or "survived", and what saw it.
    """

    def job(scratch: Path) -> str | None:
        change_module(root, file, change)
        for test_file, names in chosen:
            plugin = Plugin(names)
            status = pytest_here(test_file, plugin, scratch, "-x")
            if plugin.failed or status not in (0, 5):
                return plugin.failed[0] if plugin.failed else f"{test_file}: pytest ended with {status}"
        return None

    how, found = forked(job, cpu_s=budget_s + 15.0, wall_s=20.0 * budget_s + 200.0)
    if how == "time":
        return "time", "no end"
    if how == "crash":
        return "killed", f"crash: {str(found).strip().splitlines()[-1][:150] if found else 'signal'}"
    return ("killed", str(found)) if found else ("survived", "")


def files_of(folder: Path, root: Path) -> Iterator[str]:
    """Python files below a folder, or the file itself."""
    for path in [folder] if folder.is_file() else sorted(folder.rglob("*.py")):
        yield path.relative_to(root).as_posix()
