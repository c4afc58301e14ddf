"""What servers and libpq say to who connects: what came of it, and whether asking again is of any use.

libpq tells no SQLSTATE of a refused login, so that its English text is read: a server that speaks another language is
asked again until the time is up, with back-off. The texts themselves may hold names that are not ours to tell, and
words that pools take for a loss.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["QUESTION", "answer_to"]

QUESTION: Final = "SELECT 1"  # answered by whoever serves statements, not only logins

_PERMANENT: Final = re.compile(
    r"FATAL: .*(authentication failed|does not exist|not permitted to log in|no pg_hba\.conf entry"
    r"|permission denied for database)|no password supplied|fe_sendauth"
)
_ANSWERS: Final = (
    (_PERMANENT, "login_refused", "refused the login"),
    (re.compile(r"refused|No such file"), "refused", "refused"),
    (re.compile(r"hot standby|read-only"), "wrong_role", "is not the kind of server that is wanted ({})"),
    (re.compile(r"starting up|shutting down|recovery|not yet accepting"), "not_ready", "is starting or stopping"),
    (re.compile(r"too many|slots"), "no_free_slot", "has no free slot"),
    (re.compile(r"^$"), "no_answer", "did not answer"),
    (re.compile(r""), "failed", "failed"),
)


def answer_to(said: str, wanted: str) -> tuple[str, str, bool]:
    """Return what came of an attempt, for telemetry and in words of ours, and whether it will not change."""
    outcome, answer = next((short, words) for pattern, short, words in _ANSWERS if pattern.search(said))
    return outcome, answer.format(wanted), bool(_PERMANENT.search(said))
