"""Errors of libraries, put into one line."""

from facetalk.reading import one_line


def test_errors_become_one_short_line():
    assert one_line(ValueError("  a\n b\r\n\tc ")) == "a b c"
    assert one_line(KeyError()) == "KeyError"
    assert len(one_line(ValueError("word " * 1000))) == 200
    assert one_line(ValueError("abc"), 2) == "ab"
