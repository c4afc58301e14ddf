"""Check a database of SQLite: whether its file can be opened and written, and which PRAGMAs are changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from instrumented_wrapper.doctor.connecting import ask, connect
from instrumented_wrapper.doctor.findings import Finding
from instrumented_wrapper.doctor.hosts import Host, first_line
from instrumented_wrapper.doctor.questions import PRAGMAS, Setting
from instrumented_wrapper.doctor.urls import Target, target

_MEMORY: Final = ":memory:"


def look_at(at: Target, module: str) -> tuple[Host, list[Setting]]:
    """Open one file without creating it; return the result and the PRAGMAs that are not at their default."""
    found = Host(at.path or _MEMORY, None)
    try:
        version, values = _asked(at, module)
    except Exception as error:  # noqa: BLE001 - whatever the driver raises is the answer
        found.error = first_line(at, error)
        return found, []
    _, defaults = _asked(target("sqlite://"), module)
    if found.host != _MEMORY:
        defaults["journal_mode"] = "delete"  # which a database in memory cannot have
    found.version, found.role = version, "writer" if values.pop("writable") else "read-only"
    changed = [
        Setting(name, value, defaults[name], "connect") for name, value in values.items() if value != defaults[name]
    ]
    return found, changed


def _asked(at: Target, module: str) -> tuple[str, dict[str, Any]]:
    connection = connect(at, module, (), {})
    try:
        [[(version,)]] = ask(connection, "SELECT sqlite_version()")
        values = {name: str(rows[0][0]) for name in PRAGMAS if (rows := ask(connection, f"PRAGMA {name}")[0])}
        return version, {**values, "writable": _is_writable(connection)}
    finally:
        connection.close()


def _is_writable(connection: object) -> bool:
    """Return True if the file accepts writes. The write is rolled back; a lock is not waited for."""
    [[(number,)]] = ask(connection, "PRAGMA user_version")
    try:
        ask(connection, "PRAGMA busy_timeout = 0", "BEGIN", f"PRAGMA user_version = {number}", "ROLLBACK")
    except Exception as error:  # noqa: BLE001 - SQLite's words decide
        return "readonly" not in str(error)
    return True


def judged(at: Target, found: Host) -> Iterator[Finding]:
    """Judge one file."""
    if found.error:
        yield Finding("broken", "host", at.shown, found.error)
    else:
        text = f"opens, {found.role}, version {found.version}; a file has no failover"
        yield Finding("ok", "host", at.shown, text)
