"""What the contract suite asks of a driver under test. Knows no driver and no database.

All calls are plain ones: an async driver runs its coroutines on a loop of its own (`loop.py`), so that each test is
written once.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

import pytest

from instrumented_wrapper import session_state


@dataclass
class Callback:
    """What a callback of the app does with the connection it is given: the last argument."""

    changes: Mapping[str, Any] = field(default_factory=dict)
    statement: str = ""
    closes: bool = False
    returns: Any = None
    raises: BaseException | None = None
    calls: list[tuple[Any, ...]] = field(default_factory=list)


class Needs:
    """What drivers have no such thing for, by names that the tests use."""

    name: str
    operational_error: Any
    lacks: frozenset[str] = frozenset()
    no_primary = "read-only"
    names: Mapping[str, str] = MappingProxyType({})  # of settings, where the server's own stands for ours

    @property
    def refused_error(self) -> Any:
        """Return what a connect raises where nobody listens."""
        return self.operational_error

    @property
    def no_primary_error(self) -> Any:
        """Return what a connect raises where all hosts answer, and none is of the kind that is asked for."""
        return self.refused_error

    def named(self, setting: str) -> str:
        """Return the name that a setting has in `session_state` and in telemetry."""
        return self.names.get(setting, setting)

    def told(self, setting: str, value: Any) -> Any:
        """Return a value as `session_state` has it."""
        return value

    def known(self, connection: Any) -> dict[str, tuple[Any, Any]]:
        """Return the pristine value and the value of each setting that is known, by our names."""
        return {name: (state.pristine_value, state.value) for name, state in session_state(connection).items()}

    def has(self, what: str) -> bool:
        """Tell whether the driver, or its database, knows such a thing."""
        return what not in self.lacks

    def needs(self, what: str) -> None:
        """Skip the test where the driver does not have it."""
        if not self.has(what):
            pytest.skip(f"{self.name} has no {what}")

    def sent_last(self, text: bytes) -> bytes:
        """Return what is sent last to have a text run that the driver itself makes."""
        return text

    def given(self, connection: Any) -> Any:
        """Return what a handler is given for a connection of the app's."""
        return connection

    def call(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        return function(*arguments, **keywords)


class DriverUnderTest(Protocol):
    """One driver, sync or async."""

    name: str  # what telemetry calls it
    lacks: frozenset[str]  # what `needs` skips a test for
    is_async: bool
    sites: Sequence[type[Any]]  # the databases that it is tested with: see ``sites/``
    site: type[Any]  # the one of them that the test is about
    operational_error: type[Exception]
    refused_error: Any  # of a connect where nobody listens
    no_primary_error: Any  # of a connect that asks for a primary, where all hosts are standbys
    no_primary: str  # what the error of a connect says where no host takes writes
    ended_error: type[Exception]  # what it raises itself where the server ends a session or a statement
    programming_error: type[Exception]
    aborted_error: type[Exception]  # a statement in an aborted transaction
    read_only_error: type[Exception]  # a write that is not allowed
    closed_error: type[Exception]  # the use of a connection that is closed
    unsent: Mapping[str, Any]  # of `changed`, what can be set together without a round trip
    unknown_keyword_error: type[Exception]  # a keyword of ``connect`` that it does not know
    own_keywords: frozenset[str]  # those that it knows, and we have an option of that name
    for_several: Mapping[str, Any]  # keywords with which several statements may be sent in one text
    sources: Mapping[str, str]  # tracked setting -> where its pristine value is read
    commit_sent: bytes  # what its commit() sends
    rollback_sent: bytes
    round_trips: int  # of a reset or a transfer of all of `changed`
    another: tuple[str, Any]  # a setting that is neither autocommit nor read_only, and a value
    refused: Mapping[str, Any]  # values that cannot be set once something was executed
    default: Mapping[str, Any]  # tracked setting -> what it is if nobody sets it
    changed: Mapping[str, Any]  # ... -> another value
    shown: Mapping[str, str]  # ... -> how telemetry spells that value
    shown_default: Mapping[str, str]
    pool_check: Any  # the pool's own health check
    pool_timeout: type[Exception]

    def has(self, what: str) -> bool: ...
    def needs(self, what: str) -> None: ...
    def given(self, connection: Any) -> Any: ...
    def sent_last(self, text: bytes) -> bytes: ...
    def named(self, setting: str) -> str: ...
    def told(self, setting: str, value: Any) -> Any: ...
    def known(self, connection: Any) -> dict[str, tuple[Any, Any]]: ...
    def call(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        """Call a function; an async driver awaits what it returns, on a loop of its own."""

    def connect(self, dsn: Any, **keywords: Any) -> Any: ...
    def connect_subclass(self, dsn: Any, **settings: Any) -> Any:
        """Connect with a class of the app's whose own ``connect`` changes settings."""

    def close(self, connection: Any) -> None: ...
    def is_closed(self, connection: Any) -> bool: ...
    def was_reset(self, connection: Any, sent: bytes) -> bool:
        """Tell whether all settings went back when it was closed, by itself or by what was sent meanwhile."""

    def execute(self, connection: Any, sql: str) -> Sequence[tuple[Any, ...]]: ...
    def cursor(self, connection: Any) -> Any: ...
    def execute_on(self, cursor: Any, sql: str) -> Sequence[tuple[Any, ...]]: ...
    def execute_with(self, cursor: Any, sql: str, parameters: Any) -> Sequence[tuple[Any, ...]]:
        """Call ``execute`` with parameters; `sql` has ``%s`` for each."""

    def execute_many(self, cursor: Any, sql: str, sets: Any) -> None:
        """Call ``executemany``; `sql` has ``%s`` for parameters."""

    def in_transaction(self, connection: Any) -> bool | None:
        """Return True if the driver takes a transaction to be open; None where it does not tell."""

    def commit(self, connection: Any) -> None: ...
    def rollback(self, connection: Any) -> None: ...
    def block(self, connection: Any) -> AbstractContextManager[None]:
        """Return a transaction block."""

    def prepare(self, connection: Any, name: str, *statements: str) -> None:
        """Run statements in a two-phase transaction and prepare it."""

    def commit_prepared(self, connection: Any, name: str) -> None: ...
    def rollback_two_phase(self, connection: Any, name: str) -> None: ...
    def set(self, connection: Any, setting: str, value: Any) -> None: ...
    def get(self, connection: Any, setting: str) -> Any: ...
    def use_getters(self, connection: Any) -> None:
        """Use all that tells something of a connection and asks nobody, after `read_only` was set."""

    def state_of(self, error: BaseException) -> str | None:
        """Return the server's code that an error of the driver's, or of ours, has."""

    def code_of(self, error: BaseException) -> str | None:
        """Return the code by which the database's users know an error."""

    def callback(self, what: Callback) -> Callable[..., Any]:
        """Return what the app would register: a coroutine function for an async driver."""

    def verb(self, name: str, *, wrong: bool = False) -> Callable[..., Any]:
        """Return a verb of the package for this kind of connection; `wrong`: for the other kind."""

    def wish_for(self, attrs: str) -> dict[str, str]:
        """Return what a connection string needs for a ``target_session_attrs``."""

    def pool(self, dsn: Any, **keywords: Any) -> Any:
        """Open a pool of one connection; callbacks are `Callback`."""

    def take(self, pool: Any, timeout: float | None = None) -> Any: ...
    def give_back(self, pool: Any, connection: Any) -> None: ...
    def close_pool(self, pool: Any) -> None: ...
