"""Names and values of what telemetry reports: one line per attribute. Values never hold a secret."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.semconv.attributes.db_attributes import DB_NAMESPACE, DB_SYSTEM_NAME
from opentelemetry.semconv.attributes.server_attributes import SERVER_ADDRESS, SERVER_PORT
from opentelemetry.semconv.schemas import Schemas

from instrumented_wrapper.events import (
    Event,
    Failover,
    Leak,
    PristineFetch,
    Reset,
    ServerAddress,
    SettingChange,
    Transfer,
)

if TYPE_CHECKING:
    from instrumented_wrapper.failover import Attempts

SCOPE: Final = "instrumented_wrapper"
SCHEMA: Final = Schemas.V1_34_0.value
OURS: Final = "instrumented_wrapper."
POOL_NAME: Final = "db.client.connection.pool.name"
HIDDEN: Final = "<hidden>"
# Their values are words of the SQL standard, never the app's data.
_ALWAYS_SHOWN: Final = frozenset({"autocommit", "read_only", "isolation_level", "deferrable"})

_SPELLED: Final = {"1": "true", "0": "false"}  # where they live on the server

_START: Final[Mapping[type[Event], Callable[[Any], dict[str, Any]]]] = {
    PristineFetch: lambda e: {"setting": e.setting, "source": e.source},
    Reset: lambda e: {"trigger": e.trigger, "settings": e.settings},
    Leak: lambda e: {"settings": e.settings},
    Transfer: lambda e: {"settings": e.settings},
    Failover: lambda e: {
        "trigger": e.trigger,
        "transaction": e.transaction,
        "may_have_run": e.may_have_run,
        "previous.address": e.peer.address,
        "previous.port": e.peer.port,
    },
}


def of_start(event: Event) -> dict[str, Any]:
    """Return the attributes that are known when `event` begins."""
    ours = {"driver": event.driver, **_START[type(event)](event)}
    values = {DB_SYSTEM_NAME: event.peer.system, DB_NAMESPACE: event.peer.namespace}
    values |= {} if isinstance(event, Failover) else of_peer(event.peer)
    values |= {POOL_NAME: event.pool} if isinstance(event, Leak) else {}
    return without_missing({**values, **{OURS + name: value for name, value in ours.items()}})


def of_peer(peer: ServerAddress) -> dict[str, Any]:
    """Return the attributes of a server."""
    return without_missing({SERVER_ADDRESS: peer.address, SERVER_PORT: peer.port})


def of_change(change: SettingChange, values: bool) -> dict[str, str]:
    """Return the attributes of one setting in a reset or a transfer."""
    before, after = shown(change.name, change.before, values), shown(change.name, change.after, values)
    return {"name": change.name, "before": before, "after": after, "outcome": change.outcome}


def of_attempts(attempts: Attempts, began: float) -> dict[str, Any]:
    """Return the attributes of the connections that a failover started to one server with one outcome.

    `first` and `last` are when the first and the last one started, in seconds since the failover `began`.
    """
    host, port = attempts.address
    return without_missing(
        {
            SERVER_ADDRESS: host,
            SERVER_PORT: port,
            "outcome": attempts.outcome,
            "count": attempts.count,
            "first": _offset(attempts.first, began),
            "last": _offset(attempts.last, began),
            "seconds": round(attempts.seconds, 6),
        }
    )


def _offset(moment: float, began: float) -> float:
    return round(max(0.0, moment - began), 6)


def shown(setting: str, value: object, values: bool) -> str:
    """Return a value as a string: ``true``, ``SERIALIZABLE``, ``default`` for None, ``<hidden>`` if not captured."""
    if setting not in _ALWAYS_SHOWN and not values:
        return HIDDEN
    if value is None:
        return "default"
    if setting in _ALWAYS_SHOWN and isinstance(value, str):
        return _SPELLED.get(value, value.replace("-", "_").replace(" ", "_"))
    if isinstance(value, bool):
        return str(value).lower()
    return value.name if isinstance(value, Enum) else str(value)


def without_missing(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Remove attributes without a value."""
    return {name: value for name, value in attributes.items() if value not in (None, "")}
