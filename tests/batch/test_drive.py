"""Books, workers that die, drivers that die, and places, with a task that needs no model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import batch_tasks
import fsspec
import psutil
import pytest
from batch_tasks import run, task

from facetalk.batch import workers as batch_workers
from facetalk.batch.ledger import LEDGER
from facetalk.batch.listing import Recording
from facetalk.batch.work import Result
from facetalk.batch.workers import RayCluster, results
from facetalk.errors import InputError

NAMES = [f"talk{i}" for i in range(6)]


class Here:
    """A worker that is this very process: quick, and the same to the driver."""

    share_fate = False

    def __init__(self, folder: Path) -> None:
        self.folder, self.seen = folder, []

    def width(self) -> int:
        return 1

    def submit(self, recording: Recording):
        from concurrent.futures import Future

        self.seen.append(recording.name)
        future: Future[Result] = Future()
        try:
            future.set_result(task(0, recording, self.folder))
        except BaseException as error:
            future.set_exception(error)
        return future

    def is_death(self, error: BaseException | None) -> bool:
        return False

    def answer(self, future):
        return future.result()

    def renew(self) -> None: ...

    def close(self, *, now: bool) -> None: ...


def files(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def is_complete(folder: Path, names: list[str]) -> bool:
    return files(folder).keys() == {LEDGER, *(f"{name}.txt" for name in names)} and all(
        (folder / f"{name}.txt").read_text() == name * 1000 for name in names
    )


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = run(out, [*NAMES[:2], "a/bad", "a/b"], hire=Here)
    assert [row["status"] for row in first.rows] == ["done", "done", "failed", "done"]
    assert first.failed[0]["error"] == "a/bad: no sound" and first.kept == 0
    hired: list[Here] = []
    again = run(out, [*NAMES, "a/bad", "a/b"], hire=lambda folder: hired.append(Here(folder)) or hired[-1])
    assert again.kept == 4 and hired[0].seen == NAMES[2:]
    assert run(out, NAMES, hire=None).kept == len(NAMES)  # nothing left: nobody is hired
    # What was damaged or lost is done again, and nothing else.
    (out / "talk1.txt").write_text("changed".ljust(len("talk1") * 1000))
    (out / "talk3.txt").unlink()
    with open(out / LEDGER, "a") as file:
        file.write('{"id": "talk5", "stat')  # a kill within a line
    done: list[str] = []
    run(out, NAMES, hire=Here, on_row=lambda row: done.append(row["id"]))
    assert done == ["talk1", "talk3"]
    assert (out / "talk1.txt").read_text() == "talk1" * 1000
    for line in (out / LEDGER).read_text().splitlines():
        json.loads(line)


def test_others_files_and_other_settings_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "talk0.txt").write_text("mine")
    with pytest.raises(InputError, match=r"no batch wrote it; choose another -o, or write .* --force"):
        run(tmp_path, NAMES, hire=Here)
    assert files(tmp_path) == {"talk0.txt": b"mine"}
    run(tmp_path, NAMES[:2], hire=Here, force=True)
    before = files(tmp_path)
    with pytest.raises(InputError, match=r"other settings .to 'text', now 'glb'.; choose another -o"):
        run(tmp_path, NAMES, hire=Here, settings={"to": "glb"})
    assert files(tmp_path) == before
    assert run(tmp_path, NAMES[:2], hire=Here, settings={"to": "glb"}, force=True).kept == 0


def test_options_that_fit_no_recording_end_the_run_and_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="these options fit no model"):
        run(tmp_path / "out", ["unfit", *NAMES], hire=Here)
    assert not (tmp_path / "out").exists()


def test_a_full_disk_ends_the_run_and_keeps_what_is_done(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no space left"):
        run(tmp_path, ["talk0", "full", "talk1"], hire=Here)
    assert is_complete(tmp_path, ["talk0"])
    assert run(tmp_path, ["talk0", "talk1"], hire=Here).kept == 1


def test_two_batches_do_not_write_to_one_place(tmp_path: Path) -> None:
    def meddle(row: dict[str, object]) -> None:
        with pytest.raises(InputError, match="another batch is writing"):
            run(tmp_path, NAMES, hire=Here)

    run(tmp_path, NAMES[:1], hire=Here, on_row=meddle)


def test_addresses(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for address in ("memory://talks/all", f"file://{tmp_path}/there/all"):
        assert run(address, [*NAMES, "a/b", "bad"], hire=Here).kept == 0
        there = fsspec.filesystem(address.split(":")[0])
        root = address.split("://")[1]
        assert there.cat_file(f"{root}/a/b.txt") == b"a/b" * 1000
        assert len(there.cat_file(f"{root}/{LEDGER}").splitlines()) == 9
        assert run(address, [*NAMES, "a/b", "bad"], hire=None).kept == 8
    for address, told in (
        ("nonsense://x", "Protocol not known"),
        (f"file://{tmp_path}/no/such", "create it"),
    ):
        with pytest.raises(InputError, match=told):
            run(address, NAMES, hire=Here)
    with pytest.raises(InputError, match="no batch wrote it"):
        fsspec.filesystem("memory").pipe_file("/foreign/x", b"1")
        run("memory://foreign", NAMES, hire=Here)


def test_a_killed_worker_costs_nothing_and_a_deadly_recording_a_row(tmp_path: Path) -> None:
    killed: list[int] = []

    def kill(row: dict[str, object]) -> None:
        if not killed:
            killed.append(int(str(row["pid"])))
            os.kill(killed[0], signal.SIGKILL)

    names = [*NAMES[:3], "deadly", *NAMES[3:]]
    report = run(tmp_path, names, pause=0.02, on_row=kill)
    assert killed
    assert [row["status"] for row in report.rows] == ["done"] * 3 + ["failed"] + ["done"] * 3
    assert "the worker died" in report.failed[0]["error"]
    assert is_complete(tmp_path, NAMES)
    # The recording may not have been to blame: it is tried again, alone of all.
    assert run(tmp_path, NAMES, hire=None).kept == 6
    hired: list[Here] = []
    run(tmp_path, [*NAMES, "bad"], hire=lambda folder: hired.append(Here(folder)) or hired[-1])
    assert hired[0].seen == ["bad"]


def test_workers_that_can_do_nothing_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_workers, "_HOPELESS", 1)
    with pytest.raises(InputError, match="workers die before they finish anything"):
        run(tmp_path, ["deadly1", "deadly2"], workers=1)


def test_a_killed_driver_loses_nothing(tmp_path: Path) -> None:
    out, names = tmp_path / "out", [f"talk{i}" for i in range(40)]
    command = [sys.executable, batch_tasks.__file__, str(out), "0.1", *names]
    driver = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    try:
        while not (out / LEDGER).exists() or (out / LEDGER).read_text().count("\n") < 4:
            assert driver.poll() is None
            time.sleep(0.02)
        workers = psutil.Process(driver.pid).children(recursive=True)
    finally:
        driver.kill()
        driver.wait()
    gone, alive = psutil.wait_procs(workers, timeout=20)
    for process in alive:
        process.kill()
    assert gone and not alive
    for path in out.glob("*.txt"):
        assert path.read_text() == path.stem * 1000
    written = (out / LEDGER).read_text().count("\n") - 1
    hired: list[Here] = []
    report = run(out, names, hire=lambda folder: hired.append(Here(folder)) or hired[-1])
    assert report.kept >= 3 and report.kept >= written - 1 and not report.failed
    assert len(hired[0].seen) == len(names) - report.kept
    assert is_complete(out, names)


def test_ctrl_c_sends_workers_home(tmp_path: Path) -> None:
    workers: list[psutil.Process] = []

    def interrupt(row: dict[str, object]) -> None:
        workers.extend(psutil.Process().children(recursive=True))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, [*NAMES[:1], *(f"slow{i}" for i in range(4))], pause=0.1, on_row=interrupt)
    still = [p for p in workers if p.is_running() and "resource_tracker" not in " ".join(p.cmdline())]
    assert workers and not still
    assert len(list(tmp_path.glob("*.txt"))) == 1 and run(tmp_path, NAMES[:1], hire=Here).kept <= 1


def test_a_worker_that_ends_in_the_middle_leaves_no_locks(tmp_path: Path) -> None:
    """Bars of progress, which tasks draw as well, lock between processes unless they are told not to."""
    out, names = tmp_path / "out", [f"barred{i}" for i in range(40)]
    command = [sys.executable, batch_tasks.__file__, str(out), "0.2", *names]
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    driver = subprocess.Popen(command, env=paths, stderr=subprocess.PIPE, text=True)
    try:
        while not (out / LEDGER).exists() or (out / LEDGER).read_text().count("\n") < 4:
            assert driver.poll() is None
            time.sleep(0.02)
        driver.send_signal(signal.SIGINT)
        _, err = driver.communicate(timeout=60)
    finally:
        driver.kill()
        driver.wait()
    assert "KeyboardInterrupt" in err and "leaked" not in err, err


@pytest.mark.slow  # Ray takes its time to start
def test_ray_does_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="pip install 'facetalk[ray]'")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # workers have to find the task
    monkeypatch.setattr(batch_workers, "_RETRIES", 1)
    names = [*NAMES[:3], "bad", "deadly"]
    ends = signal.getsignal(signal.SIGTERM)
    run(tmp_path / "here", names[:4], hire=Here)
    killed: list[int] = []

    def kill(row: dict[str, object]) -> None:
        if not killed and "pid" in row:
            killed.append(int(str(row["pid"])))
            os.kill(killed[0], signal.SIGKILL)

    report = run(tmp_path / "ray", names, hire=lambda folder: RayCluster(task, 0.2, "local", 2), on_row=kill)
    assert killed and [row["status"] for row in report.rows] == ["done"] * 3 + ["failed"] * 2
    assert report.rows[4]["again"] and signal.getsignal(signal.SIGTERM) is ends
    for name in NAMES[:3]:
        assert (tmp_path / f"ray/{name}.txt").read_bytes() == (tmp_path / f"here/{name}.txt").read_bytes()


def test_a_cluster_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'facetalk\[ray\]'"):
        RayCluster(task, 0.0, "auto", None)


def test_results_come_in_whatever_order_and_none_is_missing(tmp_path: Path) -> None:
    worker = Here(tmp_path)
    told = dict(results(worker, batch_tasks.recordings(NAMES)))
    assert [r.name for r in told] == NAMES and all(r.data is not None for r in told.values())
