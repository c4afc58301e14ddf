"""Texts of apps that put data into SQL themselves, rightly and wrongly, with a secret in the data."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

__all__ = ["DIGITS", "MADE_UP", "WORD", "filled", "statements"]

WORD, DIGITS = "zqhunter", "7391846205"  # in strings, and as a number
MADE_UP = "8264917350"  # in names that are made up each time: a text has them, a summary does not

# What people type, and what apps keep in one column.
DATA = (
    "{}",
    "O'{}",
    "{}'s",
    "don't tell: from {}",
    "it' {}",
    "{} '",
    "rock ' {} ' roll",
    "'{}'",
    "''{}",
    "\\'{}",
    "{}\\",
    "{}''",
    "5 o'clock {}",
    "a'b'{}",
    "{}\n--",
    "/*{}*/",
    "*/ {}",
    "-- {}",
    "# {}",
    "a, {}, (b)",
    "{}); --",
    "x FROM {}",
    "' OR '{}'='{}",
    "$${}$$",
    "$a$ {}",
    "`{}`",
    '"{}"',
    '"{}',
    'it\'s "{}"',
    "100%% {}",
    "é{}",
    "{}é'",
    "[{}]",
    '{{"k": "{}", "it\'s": 1}}',
    "{{{}}}",
    "{}@x.org",
    "'{}",
    "' {}",
    "{} of 'x",
    "\\",
    "E'{}'",
    "{};",
    "; {}'",
    "? {} ?",
)
QUOTED: Sequence[Callable[[str], str]] = (
    lambda data: f"'{data}'",  # with no thought of what is in it
    lambda data: "'" + data.replace("'", "''") + "'",
    lambda data: "'" + data.replace("\\", "\\\\").replace("'", "\\'") + "'",
)
# {s} is data in quotes, {n} a number
EVERYWHERE = (
    "SELECT {s}",
    "SELECT {n}, {s} AS a",
    "SELECT * FROM pg WHERE a = {s} AND b = {n}",
    "SELECT a FROM pg WHERE a IN ({s}, {s}, {n})",
    "SELECT a FROM pg WHERE a LIKE {s} OR b > {n} LIMIT {n}",
    "INSERT INTO pg (a, b) VALUES ({s}, {n})",
    "INSERT INTO pg (a, b) VALUES ({s}, NULL), ({s}, {n}), (NULL, {n})",
    "INSERT INTO pg (a) SELECT {s} FROM pg WHERE b = -{n}",
    "UPDATE pg SET a = {s}, b = {n} WHERE a = {s}",
    "DELETE FROM pg WHERE a = {s}",
    "DELETE FROM pg WHERE b={n} OR a={s}",
    "SELECT coalesce({s}, {s}), abs(-{n}), CASE WHEN a = {s} THEN {n} ELSE {s} END FROM pg",
    "{s}",
    "SELECT a FROM {s}",
    "SELECT 1 /* {s} */ FROM pg -- {s}",
    "WITH x AS (SELECT {s} AS y) SELECT y FROM x",
    "SELECT a FROM pg; SELECT {s}",
    "CREATE TABLE {t} (a int)",
    "SELECT * FROM {t}",
    "DROP TABLE {t}",
    "SELECT a FROM pg WHERE a = {s} {s}",
    "VALUES ({s}, {n})",
    "CREATE VIEW v AS SELECT {s} AS a",
    "SELECT {n}.5, .{n}, 0x{n}, {n}e2 FROM pg",
    "SELECT a FROM pg WHERE a = {s}AND b = {s}",
    "EXPLAIN SELECT {s} FROM pg",
    "ALTER TABLE pg ADD c text DEFAULT {s}",
    "SAVEPOINT s{c}",
    "CALL p({s}, {n})",
)
OF: dict[str, Sequence[str]] = {
    "postgresql": (
        "SELECT $${d}$$",
        "SELECT E{s}, U&{s}, B'{n}'",
        "SET my.tenant = {s}",
        "SET my.tenant TO {w}",
        "SET LOCAL my.tenant = {w}, {n}",
        "ALTER ROLE nobody PASSWORD {s}",
        "ALTER ROLE nobody PASSWORD {w}",
        "CREATE ROLE nobody PASSWORD {s} VALID UNTIL {s}",
        "COMMENT ON TABLE pg IS {s}",
        "DO {s}",
        "DO $x${d}$x$",
        "NOTIFY news, {s}",
        "SELECT set_config('my.tenant', {s}, false)",
        "CREATE USER MAPPING FOR bob SERVER s OPTIONS (user {s}, password {s})",
        "CREATE SUBSCRIPTION s CONNECTION {s} PUBLICATION p",
        "PREPARE p{c} AS SELECT {s}",
        "EXECUTE p{c}({s})",
        "COPY (SELECT {s}) TO {s}",
        "COPY pg FROM PROGRAM {s}",
        "LISTEN c{c}",
        "SELECT {s}::text, date {s}, ARRAY[{s}, {s}] FROM pg",
        "ALTER SYSTEM SET my.tenant = {s}",
        "SECURITY LABEL ON TABLE pg IS {s}",
    ),
    "mysql": (
        "SET @a = {s}, @b = {n}",
        "SET @a := {w}",
        "SET PASSWORD = {s}",
        "SET PASSWORD FOR 'bob'@{s} = {s}",
        'SELECT "{d}"',
        "CREATE USER bob IDENTIFIED BY {s}",
        "CREATE USER 'bob'@{s} IDENTIFIED BY {w}",
        "ALTER USER bob IDENTIFIED BY {s} REPLACE {s}",
        "CHANGE REPLICATION SOURCE TO SOURCE_PASSWORD = {s}",
        "CHANGE MASTER TO MASTER_PASSWORD = {s}",
        "GRANT USAGE ON *.* TO b IDENTIFIED BY {s}",
        "CREATE FUNCTION f() RETURNS INT LANGUAGE JAVASCRIPT AS $${d}$$",
        "SELECT _utf8mb4{s}, N{s}, x'{n}', {s} {s} FROM pg",
        "INSERT IGNORE pg VALUES ({s}, @x), ({s}, {n}) ON DUPLICATE KEY UPDATE a = {s}",
        "REPLACE INTO pg VALUES ({s}, {n})",
        "SELECT a INTO @x FROM pg WHERE a = {s}",
        "SELECT /*! {s} */ {n} /*!99999 {s} */ FROM pg",
        "PREPARE p FROM {s}",
        "CREATE TABLE {t} (a int COMMENT {s}) COMMENT = {s}",
        "INSERT INTO pg SET a = {s}, b = {n}",
        "LOAD DATA INFILE {s} INTO TABLE pg",
        "EXECUTE IMMEDIATE {s}",
        "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = {s}",
        "KILL QUERY {n}",
        "XA START {s}",
        "SET GLOBAL x = {w}",
    ),
    "sqlite": (
        "PRAGMA key = {s}",
        "PRAGMA key = {w}",
        "PRAGMA cache_size({n})",
        'PRAGMA key("{d}")',
        "ATTACH {s} AS aux KEY {s}",
        "ATTACH {w} AS aux",
        "ATTACH DATABASE {s} || {w} AS aux KEY {w}",
        'SELECT "{d}"',
        'SELECT a FROM pg WHERE a = "{d}"',
        'SELECT a FROM pg WHERE a IS NOT DISTINCT FROM "{d}"',
        "SELECT a FROM pg WHERE a IS DISTINCT FROM {s}",
        "SELECT x'{n}'",
        "INSERT OR REPLACE INTO pg VALUES ({s}, {n})",
        'REPLACE INTO pg VALUES ("{d}", {n})',
        "VACUUM INTO {s}",
        "DETACH {s}",
        'SELECT [a], `a`, "a" FROM "pg", "pg" AS x WHERE x.a = {s}',
        'UPDATE OR IGNORE pg SET a = "{d}"',
    ),
}


def statements(database: str, seed: int) -> Iterator[str]:
    """Yield texts without end."""
    source = random.Random(seed)
    forms = (*EVERYWHERE, *OF[database])
    while True:
        yield filled(source, source.choice(forms))


def filled(source: random.Random, form: str) -> str:
    """Put data in place of each mark."""
    text = ""
    while (start := form.find("{")) >= 0:
        text += form[:start] + _part(source, form[start + 1])
        form = form[start + 3 :]
    return text + form


def _part(source: random.Random, kind: str) -> str:
    if kind in ("n", "c"):
        return DIGITS if kind == "n" else MADE_UP
    if kind == "w":
        return WORD + source.choice(("", "!", "@1", " x", "-y"))
    if kind == "t":
        return source.choice(("t{}", "tmp_{}", "load_{}_a")).format(MADE_UP)
    data = source.choice(DATA).format(WORD, WORD)
    return data if kind == "d" else source.choice(QUOTED)(data)
