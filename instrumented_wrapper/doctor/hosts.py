"""Check each host of a database: whether it answers, its role, its round-trip time, and a pooler before it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from instrumented_wrapper import runners
from instrumented_wrapper.doctor.connecting import ask, connect, session_number
from instrumented_wrapper.doctor.findings import Finding
from instrumented_wrapper.doctor.questions import QUESTIONS
from instrumented_wrapper.doctor.urls import Target
from instrumented_wrapper.drivers.registry import tracked
from instrumented_wrapper.errors import Address

_LONGEST: Final = 2.0  # seconds that the doctor looks for what a pooler does


@dataclass(slots=True)
class Host:
    """One host and its answer.

    Attributes:
        role: ``writer``, ``standby`` or ``read-only``; empty if it did not answer.
        round_trip: in milliseconds.
        pooler: ``none``, ``session``, ``transaction`` (or what lends sessions more often), ``unknown``.
        error: why it did not answer, without a password.
    """

    host: str
    port: int | None
    role: str = ""
    version: str = ""
    round_trip: float | None = None
    pooler: str = "none"
    error: str = ""

    @property
    def name(self) -> str:
        """Return the host as a URL has it."""
        return f"{self.host or '(default)'}{f':{self.port}' if self.port else ''}"


def look_at(target: Target, module: str, address: Address | None, patched: bool) -> Host:
    """Connect to one host, without failover, and ask it; `address` is None where the driver finds one by itself."""
    found = Host(*(address or ("", None)))
    given: dict[str, Any] = {"instrumented_wrapper": {"failover": "off"}} if patched else {}
    if target.database == "postgresql":
        given["target_session_attrs"] = "any"
    try:
        connection = connect(target, module, [address] if address else [], given)
        try:
            _ask(found, target, connection)
        finally:
            connection.close()
    except Exception as error:  # noqa: BLE001 - whatever the driver raises is the answer
        found.error = first_line(target, error)
    return found


def first_line(target: Target, error: BaseException) -> str:
    """Return the first line of a driver's error, without a password."""
    first = next(iter(str(error).strip().splitlines()), "")
    return target.hide(f"{type(error).__name__}: {first}")


def _ask(found: Host, target: Target, connection: Any) -> None:
    cursor = connection.cursor()
    times = []
    for _ in range(4):  # the first one opens a transaction
        begun = time.perf_counter()
        cursor.execute("SELECT 1")
        cursor.fetchall()
        times.append(time.perf_counter() - begun)
    found.round_trip = round(median(times[1:]) * 1000, 3)
    cursor.close()
    connection.commit()
    [[(role, version, number)]] = ask(connection, QUESTIONS[target.database].role)
    if (own := session_number(connection)) is not None and own != int(number):
        found.pooler = _pooler(connection) if target.database == "postgresql" else "unknown"
    found.role, found.version = str(role), str(version)


def _pooler(connection: object) -> str:
    """Return the mode of a pooler, detected as the wrapper does it."""
    if (known := tracked(connection)) is None:
        return "unknown"
    driver, record = known
    record.shared = True
    keeps = runners.run(driver.detect_pooler(connection, connection, time.monotonic() + _LONGEST))
    return "session" if keeps else "transaction"


def judged(target: Target, hosts: Sequence[Host], wanted: str) -> Iterator[Finding]:
    """Judge the hosts of one database; `wanted` is its ``target_session_attrs``."""
    answering = [host for host in hosts if not host.error]
    for host in hosts:
        if host.error:
            yield Finding("warning" if answering else "broken", "host", host.name, host.error)
        else:
            text = f"{host.role}, version {host.version}, round trip {host.round_trip} ms"
            yield Finding("ok", "host", host.name, text)
        yield from _poolers(host)
    writers = [host.name for host in answering if host.role == "writer"]
    if answering and not writers and wanted not in ("any", "read-only", "standby", "prefer-standby"):
        yield Finding("broken", "writer", target.shown, "no host accepts writes")
    elif len(writers) > 1:
        text = f"several hosts accept writes: {', '.join(writers)}. Right only in a cluster of several writers"
        yield Finding("warning", "writer", target.shown, text)
    elif writers:
        yield Finding("ok", "writer", target.shown, f"{writers[0]} accepts writes")


def _poolers(host: Host) -> Iterator[Finding]:
    if host.pooler == "transaction":
        text = "is a pooler that lends server sessions (transaction mode): SQL settings are neither reset nor carried"
        yield Finding("warning", "pooler", host.name, f"{text} over. Use SET LOCAL, or a port in session mode")
    elif host.pooler == "session":
        yield Finding("ok", "pooler", host.name, "is a pooler that keeps a server session for each client")
    elif host.pooler == "unknown":
        text = "is a proxy: another session answers than the one that the login named"
        yield Finding("warning", "pooler", host.name, f"{text}. Settings may land on another client's session")
