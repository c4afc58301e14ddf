"""Classify the errors of a new connection to MySQL or MariaDB, by number, and the errors that mean a session has ended.

The numbers come from the error lists of MySQL 9.7 and MariaDB 10.11 (mysqld_error.h, errmsg.h, perror). The texts of
these errors may contain names and values, so the wrapper never shows them.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

# --read-only and --super-read-only; the storage engine is read-only.
READ_ONLY_ERRORS: Final = (1290, 1836)
# The session has ended: CR_SERVER_GONE_ERROR, CR_SERVER_LOST, CR_SERVER_LOST_EXTENDED; ER_SERVER_SHUTDOWN,
# ER_NET_READ_ERROR and its like, ER_CONNECTION_KILLED (MariaDB), ER_SERVER_OFFLINE_MODE, ER_SESSION_WAS_KILLED,
# ER_CLIENT_INTERACTION_TIMEOUT, ER_DA_GLOBAL_CONN_LIMIT, ER_DA_CONN_LIMIT, ER_SERVER_OFFLINE_MODE_REASON;
# CR_SSL_CONNECTION_ERROR: an end over TLS.
LOST_ERRORS: Final = (2006, 2013, 2026, 2055, 1053, 1158, 1159, 1160, 1161, 1927, 3032, 3169, 4031, 4081, 4082, 6400)
CLIENT_ERRORS: Final = (2006, 2013, 2055)  # of those, what the client library itself says
SERVER_LOST: Final = 2013  # CR_SERVER_LOST
# ER_QUERY_INTERRUPTED: by KILL QUERY, after which the session goes on; on MySQL also by KILL, which ends the session.
INTERRUPTED: Final = 1317
XA_UNKNOWN, XA_OUTSIDE = 1397, 1400  # XAER_NOTA; XAER_OUTSIDE: not within a transaction, nor outside of autocommit
TLS_FAILED: Final = "tls_failed"  # an outcome
# The session goes on, and the server does nothing for it: a node of Galera that is not ready (ER_UNKNOWN_COM_ERROR).
NOT_SERVING: Final = (1047,)
# The server failed within a commit: a node that left its cluster meanwhile cannot tell whether the others have the
# transaction (ER_ERROR_DURING_COMMIT of Galera, ER_RUN_HOOK_ERROR of Group Replication).
IN_DOUBT_ERRORS: Final = (1180, 3100)
CANNOT_LOG_IN: Final = 2061  # CR_AUTH_PLUGIN_ERR, for drivers that raise something without a number


class _Answer(NamedTuple):
    outcome: str  # for telemetry
    words: str  # for people
    for_good: bool
    numbers: frozenset[int]


def _answer(outcome: str, words: str, for_good: bool, *numbers: int) -> _Answer:
    return _Answer(outcome, words, for_good, frozenset(numbers))


# Wrong password, user, host or database; an account that is locked, blocked or expired, or is a role; a plugin that one
# side does not have (2059, 2061: ..._CANNOT_LOAD, CR_AUTH_PLUGIN_ERR).
_LOGIN: Final = _answer(
    "login_refused",
    "refused the login",
    True,
    *(1044, 1045, 1049, 1102, 1129, 1130, 1131, 1132, 1133, 1251, 1275, 1396, 1449, 1524, 1698, 1820, 1862, 1873),
    *(1959, 2049, 2054, 2059, 2061, 2068, 3118, 3162, 3523, 3530, 3879, 3955, 4055, 4058, 4150, 4151, 5010, 5012),
)
_TRANSPORT: Final = _answer("transport_refused", "does not agree on a secure transport", True, 3159, 2067)
# Other servers may have the right one, and this one may get it.
_CERTIFICATE: Final = _answer(TLS_FAILED, "has a certificate that is not trusted", False)
# What connecting gives each session: character set, collation, sql_mode, time zone, the app's own init_command.
_SETTINGS: Final = _answer(
    "session_refused",
    "refused the settings of the connection",
    True,
    *(1064, 1115, 1142, 1143, 1193, 1227, 1228, 1229, 1231, 1232, 1238, 1253, 1273, 1298, 1305, 1370, 2019, 2060),
)
_UNAVAILABLE: Final = (*range(1077, 1080), 1053, 3032, *range(3100, 3102), 3168, *range(3781, 3784), *range(3796, 3800))
_NOT_READY: Final = _answer(
    "not_ready", "is starting or stopping, or is not ready", False, *_UNAVAILABLE, *NOT_SERVING, 4094, 6400
)
_FULL: Final = _answer("no_free_slot", "has no free slot", False, 1037, 1040, 1041, 1135, 1203, 1226, 4081, 4082)
_REFUSED: Final = _answer("refused", "refused", False, 2001, 2002, 2003, 2004, 2005)
_NO_ANSWER: Final = _answer("no_answer", "did not answer", False, 2012, 2027, *LOST_ERRORS)
_FAILED: Final = _answer("failed", "failed", False)
_ANSWERS: Final = (_LOGIN, _TRANSPORT, _SETTINGS, _NOT_READY, _FULL, _REFUSED, _NO_ANSWER)

# Of errors that have no number, or one number for many reasons, the text decides.
_VAGUE: Final = frozenset({-1, 0, 2000, 2003, 2012, 2026, 2055})
_TEXTS: Final = (
    (_CERTIFICATE, r"certificate|hostname mismatch"),
    (_TRANSPORT, r"ssl is (required|disabled)|(doesn't|does not) support (it|ssl|tls)"),
    (_LOGIN, r"authentication (plugin|method|requires)|requires (an? )?(ssl|secure)|secure connection|public key"),
    (_LOGIN, r"'?cryptography'? package"),
)


def answer_to(number: int, said: str) -> tuple[str, str, bool]:
    """Return the meaning of an error, as text for telemetry, and whether another attempt is useless.

    Args:
        number: the error number; 0 if there is none.
        said: the error text, which matters only where the number is ambiguous.
    """
    found = next((answer for answer in _ANSWERS if number in answer.numbers), _FAILED)
    if number in _VAGUE:
        found = next((answer for answer, text in _TEXTS if re.search(text, said, re.IGNORECASE)), found)
    return found.outcome, found.words, found.for_good
