import errno
import gc
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from facetalk import files, scratch
from facetalk.errors import InputError
from facetalk.files import atomic_path, check_not_input, recover
from facetalk.interrupts import Terminable, Terminated


def test_success_replaces_and_leaves_nothing_else(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with atomic_path(target) as temporary:
        assert temporary.suffix == ".txt"
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_failure_keeps_the_old_file(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_full_device_is_one_line(tmp_path):
    with pytest.raises(InputError, match="no space left") as caught, atomic_path(tmp_path / "a.txt"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_folders_are_replaced_whole(tmp_path):
    target = tmp_path / "frames"
    for name in ("one", "two"):
        with atomic_path(target, directory=True) as temporary:
            (temporary / name).touch()
    assert [path.name for path in target.iterdir()] == ["two"]
    assert list(tmp_path.iterdir()) == [target]


def test_obstacles_are_named(tmp_path):
    with pytest.raises(InputError, match="does not exist"), atomic_path(tmp_path / "no" / "a.txt"):
        pass
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="a folder of that name"), atomic_path(tmp_path / "folder"):
        pass
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match="a file of that name"),
        atomic_path(tmp_path / "file", directory=True),
    ):
        pass
    with pytest.raises(InputError, match="not a folder"), atomic_path(tmp_path / "file" / "a.txt"):
        pass


def only_notes(folder):
    """Stands for a format: a folder of files called note."""
    return all(path.name == "note" for path in folder.iterdir())


def write(target, text, **options):
    with atomic_path(target, directory=True, **options) as temporary:
        (temporary / "note").write_text(text)


def test_a_folder_of_others_stays(tmp_path):
    target = tmp_path / "frames"
    target.mkdir()
    write(target, "one", ours=only_notes)  # empty: nothing is lost
    write(target, "two", ours=only_notes)
    (target / "precious.txt").write_text("mine")
    with pytest.raises(InputError, match="--force"):
        write(target, "three", ours=only_notes)
    assert (target / "precious.txt").read_text() == "mine" and (target / "note").read_text() == "two"
    write(target, "four")
    assert [path.name for path in target.iterdir()] == ["note"]


def test_what_comes_while_the_new_folder_is_written_stays(tmp_path):
    target = tmp_path / "frames"
    with (
        pytest.raises(InputError, match="did not write"),
        atomic_path(target, directory=True, ours=only_notes) as temporary,
    ):
        (temporary / "note").touch()
        target.mkdir()
        (target / "precious.txt").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["frames"]
    assert [path.name for path in target.iterdir()] == ["precious.txt"]


@pytest.mark.parametrize("kernel", ["exchanges", "renames"])
@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()])
def test_renaming_that_fails_loses_nothing(tmp_path, monkeypatch, kernel, error):
    """At every single rename, with the kernel's exchange and without it."""
    target = tmp_path / "frames"
    calls = [0]

    def failing(original, at):
        def call(*args, **kwargs):
            calls[0] += 1
            if calls[0] == at:
                raise error
            return original(*args, **kwargs)

        return call

    for at in range(1, 4):
        write(target, "old")
        with monkeypatch.context() as patch:
            if kernel == "renames":
                patch.setattr(scratch, "_renameat2", lambda: None)
            calls[0] = 0
            patch.setattr(scratch, "_exchange", failing(scratch._exchange, at))
            patch.setattr(Path, "rename", failing(Path.rename, at))
            try:
                write(target, "new")
            except (InputError, KeyboardInterrupt):
                assert (target / "note").read_text() == "old"
            else:
                assert (target / "note").read_text() == "new" and calls[0] < at
        assert [path.name for path in tmp_path.iterdir()] == ["frames"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_wait_for_the_renaming(tmp_path, monkeypatch, number):
    target = tmp_path / "frames"
    write(target, "old")
    original = scratch.put_folder

    def interrupted(*args):
        signal.raise_signal(number)
        return original(*args)

    monkeypatch.setattr(files, "put_folder", interrupted)
    with pytest.raises(KeyboardInterrupt), Terminable():
        write(target, "new")
    assert (target / "note").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["frames"]


def test_sigterm_cleans_up(tmp_path):
    with pytest.raises(Terminated), Terminable(), atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        signal.raise_signal(signal.SIGTERM)
    assert not list(tmp_path.iterdir())
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("directory", [False, True])
@pytest.mark.parametrize("moment", [1, 2, 3])
def test_a_signal_just_before_signals_are_held_back(tmp_path, monkeypatch, directory, moment):
    """Before there is a scratch folder, before the renaming, and before clearing up."""
    target = tmp_path / "x"
    if directory:
        write(target, "old")
    else:
        target.write_text("old")
    count = iter(range(1, 99))

    class Struck(files.Uninterrupted):
        def __enter__(self):
            if next(count) == moment:
                raise KeyboardInterrupt
            super().__enter__()

    monkeypatch.setattr(files, "Uninterrupted", Struck)
    with pytest.raises(KeyboardInterrupt):  # noqa: SIM117  # what is inside is what is interrupted
        with atomic_path(target, directory=directory) as temporary:
            (temporary / "note" if directory else temporary).write_text("new")
    text = (target / "note" if directory else target).read_text()
    assert text == ("new" if moment == 3 else "old")
    assert list(tmp_path.iterdir()) == [target]


def test_what_a_killed_writer_left_goes(tmp_path):
    target = tmp_path / "frames"
    script = (
        "import os, sys; from facetalk.files import atomic_path\n"
        "with atomic_path(sys.argv[1], directory=True) as t:\n"
        "    (t / 'note').touch(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, str(target)], check=False)
    assert [path.name.endswith(".part") for path in tmp_path.iterdir()] == [True]
    write(tmp_path / "other", "x")  # another output's leftovers are not its business
    assert len(list(tmp_path.iterdir())) == 2
    with atomic_path(target, directory=True) as alive:
        write(target, "second writer")
        assert alive.is_dir(), "the folder of a writer that lives was removed"
    assert {path.name for path in tmp_path.iterdir()} == {"frames", "other"}


def test_an_old_folder_that_only_a_killed_writer_holds_comes_back(tmp_path):
    target = tmp_path / "frames"
    left = Path(f"{tmp_path}/{scratch._prefix(target)}abc.part")
    (left / "replaced").mkdir(parents=True)
    (left / "replaced" / "note").write_text("old")
    recover(target)
    assert (target / "note").read_text() == "old" and list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("name", ["n" * 251 + ".txt", "ü" * 125 + ".txt", "a:b.txt", "\udcff.txt", "-x.txt"])
def test_any_name_that_the_file_system_takes(tmp_path, name):
    with atomic_path(tmp_path / name) as temporary:
        assert temporary.suffix == ".txt"
        temporary.with_name(temporary.name + ".bin").touch()  # writers lengthen names
        temporary.write_text("x")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_names_that_are_none(tmp_path):
    for name in ("n" * 256 + ".txt", "a\0b.txt"):
        with pytest.raises(InputError, match="cannot write"), atomic_path(tmp_path / name):
            pass
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(InputError, match="plain file"), atomic_path(tmp_path / "pipe.txt"):
        pass


def test_files_beside_go_together_or_not_at_all(tmp_path, monkeypatch):
    talk, sound = tmp_path / "talk.glb", tmp_path / "talk.wav"

    def both(text):
        with atomic_path(talk, beside=[sound]) as temporary:
            temporary.write_text(text)
            temporary.with_suffix(".wav").write_text(text)

    both("old")
    original = Path.replace

    def failing(self, target):
        if target == talk:
            raise OSError(errno.EIO, "Input/output error")
        return original(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", failing)
        with pytest.raises(InputError):
            both("new")
    assert talk.read_text() == sound.read_text() == "old"
    both("new")
    assert talk.read_text() == sound.read_text() == "new"
    assert {path.name for path in tmp_path.iterdir()} == {"talk.glb", "talk.wav"}


def test_an_output_is_no_input(tmp_path):
    source = tmp_path / "talk.mp4"
    source.touch()
    (tmp_path / "soft.mp4").symlink_to(source)
    (tmp_path / "hard.mp4").hardlink_to(source)
    for out in ("talk.mp4", "soft.mp4", "hard.mp4", "../" + tmp_path.name + "/talk.mp4"):
        with pytest.raises(InputError, match="is the input"):
            check_not_input(tmp_path / out, None, source)
    with pytest.raises(InputError, match="lies in it"):
        check_not_input(tmp_path, source)
    check_not_input(tmp_path / "new.mp4", source)


def test_readers_never_miss_the_folder(tmp_path):
    """While three processes write the same folder."""
    target, other = tmp_path / "frames", tmp_path / "other"
    other.mkdir()
    write(target, "0")
    if not scratch._exchange(target, other):
        pytest.skip("this file system cannot exchange two names")
    target.rmdir()
    other.rename(target)
    script = (
        "import sys; from facetalk.files import atomic_path\n"
        "for i in range(60):\n"
        "    with atomic_path(sys.argv[1], directory=True, ours=lambda f: True) as t: (t / 'note').touch()"
    )
    writers = [subprocess.Popen([sys.executable, "-c", script, str(target)]) for _ in range(3)]
    missed = 0
    while any(writer.poll() is None for writer in writers):
        missed += not target.is_dir()
    assert missed == 0
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert list(tmp_path.iterdir()) == [target]


def test_what_a_signal_comes_between_to_open_is_closed_with_it(tmp_path: Path) -> None:
    def begin() -> None:
        manager = atomic_path(tmp_path / "out")
        manager.__enter__()  # a signal that comes here finds no `with` that would leave it
        os.kill(os.getpid(), signal.SIGTERM)

    gc.disable()
    try:
        terminable = Terminable()
        with pytest.raises(Terminated) as found, terminable:
            begin()
        assert [entry.suffix for entry in tmp_path.iterdir()] == [".part"]
        del found
        assert not list(tmp_path.iterdir()), "the exception is kept by what caught it"
        del terminable
    finally:
        gc.enable()
