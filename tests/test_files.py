import errno

import pytest

from facetalk.errors import InputError
from facetalk.files import atomic_path


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
