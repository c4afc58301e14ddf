"""Database URLs: what is read of them, and that no password comes out."""

from __future__ import annotations

import pytest

from instrumented_wrapper.doctor.urls import UsageError, masked, target


@pytest.mark.parametrize(
    ("url", "hosts", "path"),
    [
        ("postgresql://u:secret@a:1,b/shop", (("a", 1), ("b", None)), "shop"),
        ("postgres://u:secret@[::1]:5433/shop?sslmode=require", (("::1", 5433),), "shop"),
        ("postgresql+psycopg2://u:secret@/shop?host=a:1&host=b:2", (("a", 1), ("b", 2)), "shop"),
        ("postgresql://u:secret@/shop?host=a,b&port=1,2", (("a", 1), ("b", 2)), "shop"),
        ("postgresql:///shop?host=/run/postgresql&password=secret", (("/run/postgresql", None),), "shop"),
        ("postgresql:///shop?password=secret&options=-c%20a.b%3Dsecret", (), "shop"),
        ("mysql+pymysql://u:s%40cret@db/shop", (("db", None),), "shop"),
        ("mariadb://u:secret@db", (("db", None),), ""),
        ("mysql://u:se@cret@db/shop", (("db", None),), "shop"),
        ("sqlite:///file.db", (), "file.db"),
        ("sqlite:////tmp/file.db", (), "/tmp/file.db"),
    ],
)
def test_what_is_read(url: str, hosts: object, path: str) -> None:
    read = target(url)
    assert (read.hosts, read.path) == (hosts, path)
    for text in (read.shown, repr(read)):
        assert "cret" not in text


@pytest.mark.parametrize(
    ("url", "drivers"),
    [
        ("postgresql://h/d", ("psycopg", "psycopg2")),
        ("postgresql+psycopg2://h/d", ("psycopg2",)),
        ("postgresql+asyncpg://h/d", ("psycopg", "psycopg2")),
        ("mysql+mysqlconnector://h/d", ("mysql.connector",)),
        ("mysql+mysqldb://h/d", ("MySQLdb",)),
        ("mysql+aiomysql://h/d", ("MySQLdb", "pymysql", "mysql.connector")),
        ("sqlite+aiosqlite:///d", ("sqlite3",)),
    ],
)
def test_driver_of_a_scheme(url: str, drivers: tuple[str, ...]) -> None:
    assert target(url).drivers == drivers


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("oracle://u:secret@h/d", "unknown scheme oracle://"),
        ("postgresql+nonsuch://u:secret@h/d", r"unknown driver \+nonsuch"),
        ("host=h password=secret", "takes a URL"),
        ("postgresql://u:secret@h:port/d", r"host\[:port\]"),
        ("postgresql://u:sec/ret@h/d", "%2F"),
        ("postgresql://u:12/secret@h/d", "%2F"),
        ("postgresql://u:12?secret@h/d", "%3F"),
    ],
)
def test_what_cannot_be_used(url: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as error:
        target(url)
    assert "secret" not in str(error.value)


def test_what_a_driver_says_is_hidden() -> None:
    read = target("postgresql://u:se%20cret@h/d?sslpassword=other")
    assert read.hide("se cret, se%20cret and other") == "***, *** and ***"
    assert read.hide("not in mysql://u:another@h") == "not in mysql://***@h"


@pytest.mark.parametrize(
    "text",
    [
        "x postgresql://u:secret@h/d",
        "password=secret host=h",
        "--url=mysql://u:secret@h",
        "postgresql://u:p@secret@h/d",
        "password='my secret' host=h",
    ],
)
def test_no_password_is_left_in_a_masked_text(text: str) -> None:
    assert "secret" not in masked(text)
