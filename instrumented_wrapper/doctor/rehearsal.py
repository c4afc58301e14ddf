"""Rehearse a failover on a connection of the doctor's own: set something, switch, and verify the new session."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from instrumented_wrapper.doctor.connecting import ask, connect
from instrumented_wrapper.doctor.findings import Finding
from instrumented_wrapper.doctor.hosts import Host, first_line
from instrumented_wrapper.doctor.overview import shown
from instrumented_wrapper.doctor.questions import QUESTIONS, Setting
from instrumented_wrapper.doctor.urls import Target
from instrumented_wrapper.drivers.registry import tracked
from instrumented_wrapper.errors import Address, FailoverError
from instrumented_wrapper.instrument import session_state, switch
from instrumented_wrapper.options import CONNECT
from instrumented_wrapper.verification import verify_session

_SECONDS: Final = 10


@dataclass(slots=True)
class Rehearsal:
    """The effect of a switch on a session.

    Attributes:
        tracked: True if the wrapper tracks such a connection.
        failover: True if a loss of such a connection starts a switch.
        switched_off: True if the option `failover` is off.
        tried: True if the doctor tried a switch.
        settings: settings of the session that were not at their default before the switch.
        transfer: the option `transfer_session_state_on_switch`.
        changed: names of the settings that had another value after the switch.
        carried: True if the new session had the setting of the doctor.
        error: why the switch failed, without a password.
        options: options of the connection that the environment sets, as texts.
    """

    tracked: bool = False
    failover: bool = False
    switched_off: bool = False
    tried: bool = False
    settings: list[Setting] = field(default_factory=list)
    transfer: bool = True
    changed: list[str] = field(default_factory=list)
    carried: bool = False
    error: str = ""
    options: dict[str, str] = field(default_factory=dict)


def rehearse(target: Target, module: str, hosts: Sequence[Host], patched: bool) -> Rehearsal:
    """Connect as the app would, to a host that answers, and switch. Through a pooler, set nothing."""
    found = Rehearsal()
    answering = sorted((host for host in hosts if not host.error), key=lambda host: host.role != "writer")
    try:
        connection = connect(target, module, _addresses(answering, hosts), _ours(target, hosts) if patched else {})
        try:
            _try(found, target, connection, any(host.pooler not in ("none", "session") for host in answering))
        finally:
            connection.close()
    except Exception as error:  # noqa: BLE001 - whatever the driver raises is the answer
        found.error = first_line(target, error)
    return found


def _addresses(answering: Sequence[Host], hosts: Sequence[Host]) -> list[Address]:
    """Return all hosts; those that answer come first."""
    ordered = [*answering, *(host for host in hosts if host.error)]
    return [(host.host, host.port) for host in ordered if host.host]


def _ours(target: Target, hosts: Sequence[Host]) -> dict[str, Any]:
    options: dict[str, Any] = {"failover_timeout": _SECONDS}
    if len(target.hosts) > 1 and target.database != "postgresql":  # whose connect takes one host
        options["failover_hosts"] = target.hosts
    return {"instrumented_wrapper": options}


def _try(found: Rehearsal, target: Target, connection: object, shared: bool) -> None:
    questions = QUESTIONS[target.database]
    found.settings = questions.settings(ask(connection, *questions.changed))
    if (known := tracked(connection)) is None:
        return
    options = known[1].options
    found.tracked, found.transfer = True, options.transfer_session_state_on_switch
    found.failover, found.switched_off = known[1].failover, options.failover == "off"
    given = [name for name, source in options.sources.items() if source != CONNECT]
    found.options = {name: shown(getattr(options, name)) for name in given}
    if shared:
        return
    ask(connection, *questions.trial)
    found.tried = True
    try:
        switch(connection)
    except FailoverError as error:
        found.error = f"{type(error).__name__}: {target.hide(str(error))}"
        return
    found.carried = bool(session_state(connection)) and not verify_session(connection)
    after = {setting.name: setting.value for setting in questions.settings(ask(connection, *questions.changed))}
    found.changed = [setting.name for setting in found.settings if after.get(setting.name) != setting.value]


def judged(target: Target, module: str, found: Rehearsal, hosts: Sequence[Host]) -> Iterator[Finding]:
    """Return the findings: whether a failover happens on such a connection, and carries its state."""
    if not found.tracked and not found.error:
        yield Finding("warning", "failover", target.shown, f"there is none: {module} is not patched")
        return
    at, others = target.shown, sum(not host.error for host in hosts) - 1
    if found.options:
        yield Finding("ok", "options", at, ", ".join(f"{name}={value}" for name, value in found.options.items()))
    if found.switched_off:
        yield Finding("ok", "failover", at, "is off, as configured: a loss is the driver's own error")
    elif not found.failover:
        text = "is off for this URL: give it several hosts, or set INSTRUMENTED_WRAPPER_FAILOVER_HOSTS"
        yield Finding("warning", "failover", at, text)
    elif others < 1:
        text = f"is on, and no second host answers ({len(hosts)} known): nothing could take over"
        yield Finding("warning", "failover", at, text)
    else:
        yield Finding("ok", "failover", at, f"is on; hosts that answer besides: {others}")
    if not found.transfer:
        text = "is off, as configured: a new session has nothing of what the app set, and no error says so"
        yield Finding("warning", "transfer", at, text)
    elif found.error:
        yield Finding("broken", "transfer", at, f"the rehearsal failed: {found.error}")
    elif found.tried and found.carried and not found.changed:
        text = f"a new session got all settings back; it would lack {', '.join(QUESTIONS[target.database].lost)}"
        yield Finding("ok", "transfer", at, text)
    elif found.tried:
        names = ", ".join(found.changed) or "what was set by SQL"
        yield Finding("broken", "transfer", at, f"a new session has another value of: {names}")
    else:
        yield Finding("warning", "transfer", at, "was not rehearsed through the pooler")
