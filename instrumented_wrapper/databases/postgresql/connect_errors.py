"""Classify the errors that servers, poolers and libpq return for a new connection, and whether another attempt can
help.

libpq does not expose the SQLSTATE of a refused login, so the English text is matched. A server that uses another
language is retried, with back-off, until the time limit. The SQLSTATE is used where it is known: for a session that is
refused after the login. The texts may contain names and values, so the wrapper never shows them.

An answer of `_ANSWERS` that is final concerns the account, the database, the transport or the connection string. The
sources are PostgreSQL's errcodes.txt, postinit.c, auth.c, libpq's fe-connect.c, and the messages of PgBouncer, pgpool
and Odyssey.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

QUESTION: Final = "SELECT 1"  # answered by whoever serves statements, not only logins


class _Answer(NamedTuple):
    outcome: str  # for telemetry
    words: str  # for people; {} is the kind of server that is wanted
    for_good: bool
    states: frozenset[str]
    text: re.Pattern[str]


def _answer(outcome: str, words: str, for_good: bool, states: str, *texts: str) -> _Answer:
    return _Answer(outcome, words, for_good, frozenset(states.split()), re.compile("|".join(texts)))


_NOT_READY: Final = _answer(
    "not_ready",
    "is starting or stopping",
    False,
    "57P01 57P02 57P03 57P05 58000",
    r"(FATAL|ERROR): +the database system is ",
    r"FATAL: +terminating ",
    r"FATAL: +(pool(er)?|bouncer|pgbouncer|odyssey).*(shutting down|not accepting|cannot connect)",
    r"server_login_retry|server login has been failing|query_wait_timeout|client_login_timeout|server conn crashed",
    r"all (of the )?backend nodes are down",
)
_FULL: Final = _answer(
    "no_free_slot",
    "has no free slot",
    False,
    "53000 53100 53200 53300",
    r"(FATAL|ERROR): +(sorry, )?too many ",
    r"FATAL: +(remaining connection slots|no more connections allowed|out of memory)",
    r"number of .* exceeds",
)
_LOGIN: Final = _answer(
    "login_refused",
    "refused the login",
    True,
    "28000 28P01 3D000 42501 0P000 55000",
    r"FATAL: .*authentication failed",
    r"FATAL: .*(role|user|database|schema) .*(does not exist|not found)",
    r"FATAL: +(no such (user|database)|login rejected|auth failed|Tenant or user not found|route for .* is not found)",
    r"FATAL: .*(not permitted to log in|permission denied for database|rejects connection|no pg_hba\.conf entry)",
    r"FATAL: .*(not currently accepting connections|cannot connect to invalid database|has disappeared)",
    r"FATAL: +(must be superuser|empty password|no PostgreSQL user name|password .* is wrong|database .* is disabled)",
    r"no password supplied|fe_sendauth|authentication method requirement|SCRAM|SASL authentication",
)
# Other servers may have the right one, and this one may get it.
_CERTIFICATE: Final = _answer(
    "tls_failed",
    "has a certificate that is not trusted",
    False,
    "",
    r"certificate verify failed|server certificate .*does not match",
)
_TRANSPORT: Final = _answer(
    "transport_refused",
    "does not agree on a secure transport",
    True,
    "",
    r"certificate|does not support SSL|SSL (is |was )?required|TLS required|encryption (is )?required",
    r"private key|channel binding|could not (load|read) .*(key|crl)",
)
_SETTINGS: Final = _answer(
    "session_refused",
    "refused the settings of the connection string",
    True,
    "22023 42601 42704 55P02 0A000",
    r"FATAL: +(unrecognized configuration parameter|invalid value for parameter|invalid command-line argument)",
    r"FATAL: +(permission denied to set parameter|parameter .* cannot be|unsupported (startup|frontend) )",
    r"invalid connection option|invalid .* value: ",
)
_WRONG_ROLE: Final = _answer(
    "wrong_role",
    "is not the kind of server that is wanted ({})",
    False,
    "25006",
    r"hot standby mode|session is (not )?read-only",
)
_ANSWERS: Final = (
    _NOT_READY,
    _FULL,
    _LOGIN,
    _CERTIFICATE,
    _TRANSPORT,
    _SETTINGS,
    _WRONG_ROLE,
    _answer("refused", "refused", False, "", r"refused|No such file|unreachable|No route to host"),
    _answer("no_answer", "did not answer", False, "08003 08006", r"^\s*$|timeout|timed out|closed|reset by peer"),
    _answer("failed", "failed", False, "", r""),
)


def answer_to(said: str, wanted: str, state: str = "") -> tuple[str, str, bool]:
    """Return the meaning of an error, as text for telemetry, and whether another attempt is useless.

    Args:
        said: the error text of libpq or the server.
        wanted: the kind of server that is searched for.
        state: the SQLSTATE, if known.
    """
    by_state = (answer for answer in _ANSWERS if state and state in answer.states)
    found = next(by_state, None) or next(answer for answer in _ANSWERS if answer.text.search(said))
    return found.outcome, found.words.format(wanted), found.for_good
