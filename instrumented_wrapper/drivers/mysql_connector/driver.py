"""`Driver` for mysql-connector-python: as for any driver that blocks, and what its pool connects anew."""

from __future__ import annotations

from typing import Any

from instrumented_wrapper.drivers.engine.adapted_record import record_of
from instrumented_wrapper.drivers.engine.driver import Blocking
from instrumented_wrapper.drivers.mysql_connector import keeping
from instrumented_wrapper.server_settings import Assignment

__all__ = ["BlockingMySQLConnector"]


class BlockingMySQLConnector(Blocking):
    """`Driver` for mysql-connector-python."""

    def end(self, connection: Any) -> None:
        """End the physical connection: the pool has the same object connect anew, with pristine values."""
        super().end(connection)
        if (record := record_of(connection)) is not None:
            shown = record.on_server.shown.items()
            keeping.give(connection, [Assignment(name, pristine) for name, (_, pristine) in shown])
