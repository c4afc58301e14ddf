"""MySQL and MariaDB: the effects of statements on a session, the queries about a session, and error codes.

Text in, data and text out; no driver and no server. `statements` reads the effects of a text, `settings` reads the SET
family, `state` names the state that is not a setting, `questions` builds the queries, `tracking` decodes the changes
that the server reports by itself, and `answers` classifies connection errors.
"""

from __future__ import annotations

import re
from typing import Any, Final

from instrumented_wrapper.databases import Capabilities
from instrumented_wrapper.databases.mysql.connect_errors import (
    CANNOT_LOG_IN,
    CLIENT_ERRORS,
    IN_DOUBT_ERRORS,
    INTERRUPTED,
    LOST_ERRORS,
    NOT_SERVING,
    READ_ONLY_ERRORS,
    SERVER_LOST,
    TLS_FAILED,
    XA_OUTSIDE,
    XA_UNKNOWN,
    answer_to,
)
from instrumented_wrapper.databases.mysql.settings import NO_ROLE, NOT_CARRIED
from instrumented_wrapper.databases.mysql.state import (
    OBSTACLES,
    UNNAMED,
    covers,
    is_listed,
    is_security_state,
    outlives_rollback,
)
from instrumented_wrapper.databases.mysql.statements import scan
from instrumented_wrapper.databases.mysql.summary import words_of
from instrumented_wrapper.databases.summary import cut

__all__ = [
    "CANNOT_LOG_IN",
    "CAPABILITIES",
    "CLIENT_ERRORS",
    "INTERRUPTED",
    "IN_DOUBT_ERRORS",
    "LOST_ERRORS",
    "NOT_CARRIED",
    "NOT_SERVING",
    "OBSTACLES",
    "READ_ONLY_ERRORS",
    "SERVER_LOST",
    "SYSTEM",
    "TLS_FAILED",
    "UNNAMED",
    "XA_OUTSIDE",
    "XA_UNKNOWN",
    "answer_to",
    "covers",
    "cut",
    "is_listed",
    "is_security_state",
    "outlives_rollback",
    "reads_last",
    "scan",
    "shown",
    "survives_reset_all",
    "system_of",
    "words_of",
]

SYSTEM: Final = "mysql"
CAPABILITIES: Final = Capabilities(
    rollback_undoes_set=False,
    aborts_transactions=False,
    set_begins_transaction=False,
    asking_disturbs_diagnostics=True,
    commits_implicitly=True,
    runs_text_atomically=False,
    has_defaults=False,  # DEFAULT is the server's, not what the connection began with
)
_READS_LAST: Final = re.compile(r"\b(show|diagnostics|(row|warning|error)_count|found_rows)\b", re.IGNORECASE)


def reads_last(text: str) -> bool:
    """Warnings, errors and counts are those of the last statement."""
    return _READS_LAST.search(text) is not None


def survives_reset_all(name: str) -> bool:
    """There is no RESET ALL."""
    return False


def shown(name: str, text: str | None) -> Any:
    """Return the value of a setting as the app is shown it: True or False where it is a switch of ours."""
    if name == "role" and text == NO_ROLE:
        return None
    if name in ("autocommit", "read_only") and text in ("0", "1"):
        return text == "1"
    return text if text is None else str(text)


def system_of(version: str) -> str:
    """Return the name that OpenTelemetry has for the server (``db.system.name``)."""
    return "mariadb" if "mariadb" in version.lower() else "mysql"
