"""What is told of statements of MySQL: no literal, whatever the text is, and whatever the server makes of it."""

import pytest

from instrumented_wrapper.databases.mysql import words_of


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("SELECT 'x', \"y\", N'z', _utf8mb4'a', x'41', 0x41, b'01', 1.5e3", "SELECT ?, ?, ?, ?, ?, ?, ?, ?"),
        ("SELECT 1 # it's\n, 2 -- 'x\n, /* \" */ 3", "SELECT ?\n, ?\n, ?"),
        ("SELECT /*! 'x' */ /*M!100100 'y' */ 1", "SELECT ? ? ?"),
        ("SET @x := 'secret', @y = 1", "SET @x := ?"),
        ("SELECT 'it''s', `a``b`", "SELECT ?, `a``b`"),
        ("SELECT 'open", "SELECT ?"),
    ],
)
def test_no_literal_is_told(text: str, told: str) -> None:
    assert words_of(text).text == told


@pytest.mark.parametrize(
    "text",
    [
        r"SELECT 'a\' , secret",  # NO_BACKSLASH_ESCAPES
        r"SELECT @'a\', 'secret'",
        "/*!999999 it's */ SELECT 'secret'",  # for a server that is not this one: it skips the comment
        '/*!999999 " */ SELECT "secret"',
        "/*!999999 ` */ SELECT `, 'secret'",
        "/*!999999 -- */ SELECT 'x\n secret'",
        "/*!999999 # */ SELECT 'x\n secret'",
    ],
)
def test_where_a_string_ends_is_not_certain(text: str) -> None:
    words = words_of(text)
    assert words.text is None
    assert "secret" not in words.summary
