"""What became of a COMMIT whose answer was lost: what is read before it, what a server is asked later, and the proof.

Pure: texts out, rows in, an `Outcome` out. PostgreSQL keeps the outcome of each transaction id (``pg_xact_status``).
But an id is only a number: another transaction may have been given the same one. These rules decide whose it is.

A server writes the COMMIT of a transaction to its WAL beyond the position that was read before the COMMIT was sent.

- *Not committed there*: where the server has the COMMIT in its history, ``pg_xact_status`` returns ``committed``. Any
  other answer is final (``aborted``, or an id that another transaction has or nobody yet), with one exception: on the
  running server of the lost session the transaction may still be in progress.
- *The same running server* (identifier, timeline, start, end of its last recovery are equal): it gives out no id twice.
  ``committed`` is then our COMMIT. A transaction that waits for a synchronous standby is still in progress.
- *A standby that was promoted*, one timeline later: its history has the old timeline up to the position at which its
  replay ended (``pg_last_wal_replay_lsn``). If that is not beyond ours, our COMMIT is not in it, and ``committed`` is
  of another transaction with the same id. If it is beyond ours, the server has also replayed a record with our id, and
  gives out higher ones only. ``pg_last_wal_receive_lsn`` is set by streaming since the server process has started: the
  end of replay is then the promotion's, not that of a crash later. The last transaction replayed must have ended after
  our position was read, by the clock of the old primary: otherwise the history is of another timeline.
- *The same server, restarted* (identifier, timeline, address and port are equal, and it never streamed): after a crash
  the end of its recovery is compared in the same way. WAL that was not written before the crash is lost, and its ids
  are given out again. After a clean stop there was no recovery, and nothing is lost.
- *Two timelines later*, another identifier, a server in recovery, an id whose outcome is not kept any more: unknown.

A record with our id comes before our position where a higher id has ended before. Otherwise the transaction itself has
written one, unless it has only written to temporary or unlogged tables, which no WAL describes: where there are such
tables, the outcome is unknown.

Not found out: two restarts of the same server while the app waits, between which the id was given out again.

A transaction without an id has written nothing, but it may send notifications, or fail to serialize: its outcome stays
unknown. So does that of PREPARE TRANSACTION and COMMIT PREPARED: the server lists in ``pg_prepared_xacts`` what is left
of them, by the name that the app has given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from instrumented_wrapper.databases.postgresql.questions import literal

OLDEST: Final = 13  # the first version with pg_current_xact_id_if_assigned
_EQUALS: Final = "OPERATOR(pg_catalog.=)"
_ROW: Final = "FROM (VALUES ('k')) AS q (k)"
_XID: Final = "pg_catalog.pg_current_xact_id_if_assigned()"


def _bytes(position: str) -> str:
    """Return the SQL of a WAL position as a number."""
    return f"pg_catalog.pg_wal_lsn_diff({position}, '0/0')"


def _microseconds(moment: str) -> str:
    """Return the SQL of a moment in microseconds since 1970."""
    return f"(pg_catalog.date_part('epoch', {moment}) OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8"


_SERVER: Final = (
    "(SELECT system_identifier FROM pg_catalog.pg_control_system()), {timeline}, "
    f"{_microseconds('pg_catalog.pg_postmaster_start_time()')}, {_bytes('pg_catalog.pg_last_wal_replay_lsn()')}, "
    "pg_catalog.inet_server_addr(), pg_catalog.inet_server_port()"
)
_TIMELINE: Final = "pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8)"
# Nothing in it fails: an error would abort the app's transaction.
READ_POSITION: Final = (
    f"SELECT k, {_XID}, CASE WHEN {_XID} IS NOT NULL THEN {_bytes('pg_catalog.pg_current_wal_insert_lsn()')} END,"
    f" pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot()), {_microseconds('pg_catalog.clock_timestamp()')},"
    " pg_catalog.pg_my_temp_schema(), pg_catalog.pg_backend_pid(),"
    f" pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'execute') {_ROW}"
)
_CHARACTERISTICS: Final = "".join(
    f", pg_catalog.current_setting('transaction_{name}')" for name in ("isolation", "read_only", "deferrable")
)
READ_CHAINED: Final = READ_POSITION.replace(f" {_ROW}", f"{_CHARACTERISTICS} {_ROW}")  # before COMMIT AND CHAIN
READ_SERVER: Final = f"SELECT k, {_SERVER.format(timeline=_TIMELINE)} {_ROW}"  # where a position shows that it may


class Outcome(Enum):
    """What became of a transaction."""

    COMMITTED = "committed"
    ROLLED_BACK = "rolled_back"
    UNKNOWN = "unknown"
    IN_PROGRESS = "in progress"


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """A running server, as far as any user may know it.

    Attributes:
        identifier: of the database system: the same on a primary and its standbys.
        timeline: the timeline that it writes.
        started: when its server process started (microseconds).
        recovered: the WAL position at which its last recovery ended; None: it was started without one.
        address: on which it was reached, and the port; None for a Unix socket.
    """

    identifier: str | None
    timeline: int
    started: int
    recovered: int | None
    address: tuple[str | None, str | None] = field(compare=False)  # a server may be reached on several


@dataclass(frozen=True, slots=True)
class Position:
    """Where a transaction was just before its COMMIT was sent.

    Attributes:
        xid: its id, with the epoch.
        wal: the WAL position: the COMMIT comes after it.
        seen: one more than the highest id that had ended.
        moment: when this was read, by the server's clock (microseconds).
        temporary: the session has temporary tables.
        process: of the session.
        begins: the statement that begins the next transaction, where the COMMIT does so too.
        server: on which it ran.
    """

    xid: int
    wal: int
    seen: int
    moment: int
    temporary: bool
    process: int
    begins: str = ""
    server: ServerFacts | None = None


def position(row: Sequence[str | None]) -> tuple[Position | None, bool, int]:
    """Return the position, whether `READ_SERVER` may be asked, and the process: the answer to what reads a position.

    The position is None where the transaction has no id: it has written nothing.
    """
    _, xid, wal, seen, moment, temporary, process, may_read, *characteristics = row
    may, own = _true(may_read), int(process or 0)
    if xid is None or wal is None:
        return None, may, own
    ended = (int(xid), int(wal), int(seen or 0), int(moment or 0))
    return Position(*ended, temporary != "0", own, _begins(characteristics)), may, own


def _begins(characteristics: Sequence[str | None]) -> str:
    """Return the BEGIN that a COMMIT AND CHAIN implies; nothing for another COMMIT."""
    if not characteristics:
        return ""
    isolation, read_only, deferrable = (str(each) for each in characteristics)
    access = "READ ONLY" if read_only == "on" else "READ WRITE"
    return f"BEGIN ISOLATION LEVEL {isolation}, {access}, {'' if deferrable == 'on' else 'NOT '}DEFERRABLE"


def server_facts(cells: Sequence[str | None]) -> ServerFacts:
    """Read the answer to `READ_SERVER`, without its first column."""
    identifier, timeline, started, recovered, address, port = cells
    end = None if recovered is None else int(recovered)
    return ServerFacts(identifier, int(timeline or "0", 16), int(started or 0), end, (address, port))


def ask_outcome(xid: int) -> str:
    """Return the question to the server that took over, outside a transaction."""
    primary = "NOT pg_catalog.pg_is_in_recovery()"
    timeline = f"CASE WHEN {primary} THEN {_TIMELINE} END"
    given = f"{literal(str(xid))}::pg_catalog.xid8"
    below = f"{given} OPERATOR(pg_catalog.<) pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())"
    status = f"CASE WHEN {below} THEN pg_catalog.pg_xact_status({given}) ELSE 'in progress' END"
    streamed = "pg_catalog.pg_last_wal_receive_lsn() IS NOT NULL"
    follows = f"pg_catalog.current_setting('recovery_target_timeline') {_EQUALS} 'latest'"
    unlogged = f"EXISTS (SELECT FROM pg_catalog.pg_class WHERE relpersistence {_EQUALS} 'u')"
    return (
        f"SELECT k, {primary}, {status}, {streamed} AND {follows}, {streamed},"
        f" {_microseconds('pg_catalog.pg_last_xact_replay_timestamp()')}, {unlogged},"
        f" {_SERVER.format(timeline=timeline)} {_ROW}"
    )


def end_idle(lost: Position) -> str:
    """Return what ends the lost session while it waits for its client: the COMMIT has not come to it.

    One that carries out its COMMIT is left alone: it may wait for a synchronous standby.
    """
    short = str(lost.xid % 2**32)
    return (
        f"SELECT k, pg_catalog.pg_terminate_backend(pid) {_ROW}, pg_catalog.pg_stat_activity"
        f" WHERE pid {_EQUALS} {lost.process} AND backend_xid::pg_catalog.text {_EQUALS} {literal(short)}"
        f" AND state {_EQUALS} 'idle in transaction'"
    )


def outcome(lost: Position, answer: Sequence[str | None]) -> Outcome:
    """Return what the answer to `ask_outcome` proves of the transaction whose position was read."""
    _, primary, status, promoted, streamed, replayed, unlogged, *cells = answer
    now, before = server_facts(cells), lost.server
    if before is None or not _true(primary) or now.identifier != before.identifier or status is None:
        return Outcome.UNKNOWN
    same = now == before
    if status == "in progress" and same:
        return Outcome.IN_PROGRESS
    if status != "committed":
        return Outcome.ROLLED_BACK
    if same:
        return Outcome.COMMITTED
    logged = lost.seen > lost.xid or not (lost.temporary or _true(unlogged))
    if _true(promoted) and now.timeline == before.timeline + 1:
        in_time = replayed is not None and int(replayed) >= lost.moment
        return _by_position(lost, now, logged and in_time)
    if not _true(streamed) and (now.timeline, now.address) == (before.timeline, before.address):
        return Outcome.COMMITTED if now.recovered is None else _by_position(lost, now, logged)
    return Outcome.UNKNOWN


def _by_position(lost: Position, now: ServerFacts, ours: bool) -> Outcome:
    """Return whose the committed id is, by how far the history of the server has come before it gave out ids itself."""
    if now.recovered is None:
        return Outcome.UNKNOWN
    if now.recovered <= lost.wal:
        return Outcome.ROLLED_BACK
    return Outcome.COMMITTED if ours else Outcome.UNKNOWN


def _true(cell: str | None) -> bool:
    return cell in ("t", "true")
