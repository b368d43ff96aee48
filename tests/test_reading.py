"""Errors of libraries, put into one line."""

import json
from pathlib import Path

import pytest

from facetalk.errors import InputError
from facetalk.reading import one_line, read_settings


def test_errors_become_one_short_line():
    assert one_line(ValueError("  a\n b\r\n\tc ")) == "a b c"
    assert one_line(KeyError()) == "KeyError"
    assert len(one_line(ValueError("word " * 1000))) == 200
    assert one_line(ValueError("abc"), 2) == "ab"


def test_settings_say_what_a_folder_is(tmp_path: Path):
    path = tmp_path / "config.json"
    told = {"format": "facetalk-thing", "version": 2, "more": 1}
    path.write_text(json.dumps(told))
    assert read_settings(path, "facetalk-thing", 2) == told
    for form, version in (("facetalk-other", 2), ("facetalk-thing", 1)):
        with pytest.raises(InputError) as error:
            read_settings(path, form, version)
        assert str(error.value) == f"{tmp_path} is not a {form} of version {version}; see its config.json"
    with pytest.raises(InputError, match="missing"):
        read_settings(tmp_path / "none.json", "facetalk-thing", 2)
