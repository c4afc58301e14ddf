"""PostgreSQL: the effects of statements on a session, the queries about a session, and error codes.

Text in, data and text out; no driver and no server. `statements` reads the effects of a text, `settings` reads the SET
family, `functions` reads function calls, `state` names the state that is not a setting, `questions` builds the queries.
"""

from typing import Final

from instrumented_wrapper.databases import Capabilities
from instrumented_wrapper.databases.postgresql.questions import survives_reset_all
from instrumented_wrapper.databases.postgresql.settings import first_schema, namespace
from instrumented_wrapper.databases.postgresql.state import (
    CUSTOM,
    OBSTACLES,
    covers,
    is_listed,
    is_security_state,
    listening,
    outlives_rollback,
)
from instrumented_wrapper.databases.postgresql.statements import scan
from instrumented_wrapper.databases.postgresql.summary import words_of
from instrumented_wrapper.databases.summary import cut

__all__ = [
    "ABORTED_TRANSACTION",
    "CAPABILITIES",
    "NOT_CARRIED",
    "OBSTACLES",
    "READ_ONLY_SQL_TRANSACTION",
    "SYSTEM",
    "UNNAMED",
    "covers",
    "cut",
    "first_schema",
    "is_listed",
    "is_security_state",
    "listening",
    "namespace",
    "needs_primary",
    "outlives_rollback",
    "reads_last",
    "scan",
    "shown",
    "survives_reset_all",
    "words_of",
]

SYSTEM: Final = "postgresql"
CAPABILITIES: Final = Capabilities(
    rollback_undoes_set=True,
    aborts_transactions=True,
    set_begins_transaction=True,
    asking_disturbs_diagnostics=False,
    commits_implicitly=False,
    runs_text_atomically=True,
    has_defaults=True,  # RESET goes back to what the connection began with
    keeps_outcomes=True,
)
UNNAMED: Final = CUSTOM
NOT_CARRIED: Final = frozenset[str]()  # a setting means the same in each session
READ_ONLY_SQL_TRANSACTION: Final = "25006"
_FEATURE_NOT_SUPPORTED: Final = "0A000"
# Functions of the server that refuse a serializable transaction on a standby: at its BEGIN, or at its snapshot.
_NO_SERIALIZABLE: Final = ("call_enum_check_hook", "GetSerializableTransactionSnapshot", "GetSafeSnapshot")
# Leaves a session in a transaction that the server itself refuses to go on with, in one round trip.
ABORTED_TRANSACTION: Final = "BEGIN; ROLLBACK TO SAVEPOINT lost_with_the_previous_session"


def needs_primary(state: str | None, where: str | None, read_only: bool) -> bool:
    """Return True if a standby refused what only a primary can do: a write, or a serializable transaction.

    Args:
        state: the SQLSTATE.
        where: the function of the server that raised the error.
        read_only: the app requested read-only, so every server refuses the write.
    """
    if state == READ_ONLY_SQL_TRANSACTION:
        return not read_only
    return state == _FEATURE_NOT_SUPPORTED and where in _NO_SERIALIZABLE


def reads_last(text: str) -> bool:
    """A question leaves no trace."""
    return False


def shown(name: str, text: str | None) -> str | None:
    """Return the value of a setting as the app is shown it: its text."""
    return text
