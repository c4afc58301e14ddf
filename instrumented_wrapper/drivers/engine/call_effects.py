"""What a call of the app does to the session: by its text, read once per text, and by its parameters. Sends nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from instrumented_wrapper.drivers.engine.adapted_record import Record
from instrumented_wrapper.drivers.engine.adapter import DriverAdapter
from instrumented_wrapper.drivers.engine.statement_cache import StatementCache
from instrumented_wrapper.statement import DOUBT, Effects, Placeholder, Step


class CallEffects:
    """Reads the calls of one driver."""

    def __init__(self, adapter: DriverAdapter) -> None:
        self._adapter = adapter
        self.effects: StatementCache[str, Effects | None] = StatementCache(adapter.room.scan)

    def effects_of(self, text: str) -> Effects | None:
        """Return what a text may do to the session, read once per text; None for nothing."""
        return self.effects.value_of(text)

    def exact_effects(
        self, cursor: object, record: Record, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Effects | None:
        """Return what a statement does with its parameters in it, and with what the functions do that it calls."""
        given = [*args, *kwargs.values()]
        text = self._adapter.text_of(cursor, given[0]) if given else ""
        effects = self.effects_of(text)
        if effects is not None and len(given) > 1 and (effects.sets or effects.concerns_state):
            whole = self._adapter.exact(cursor, given[0], given[1])
            effects = _doubtful(effects) if whole is None else self._adapter.room.scan(whole)
        return None if effects is None else record.settings_client.with_functions(effects)

    def reads_last(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Return True if a statement reads diagnostics of the last one."""
        return self._adapter.room.reads_last(str([*args, *kwargs.values()][:1]))


def _doubtful(effects: Effects) -> Effects:
    """Return effects whose parameters cannot be seen: what they name is in doubt."""
    steps = tuple(
        Step(DOUBT, step.name if isinstance(step.name, str) else "", "parameters")
        if any(isinstance(part, Placeholder) for part in step)
        else step
        for step in effects.steps
    )
    return replace(effects, steps=steps)
