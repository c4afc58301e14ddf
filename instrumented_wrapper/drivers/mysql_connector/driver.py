"""`Driver` for mysql-connector-python: as for any driver that blocks, and what its pool connects anew."""

from __future__ import annotations

from instrumented_wrapper.drivers.engine.adapted_record import record_of
from instrumented_wrapper.drivers.engine.sync_driver import SyncDriver
from instrumented_wrapper.drivers.mysql_connector import driver_defaults
from instrumented_wrapper.plans import Assignment


class MySQLConnectorDriver(SyncDriver):
    """`Driver` for mysql-connector-python."""

    def end(self, connection: object) -> None:
        """End the physical connection: the pool has the same object connect anew, with pristine values."""
        super().end(connection)
        if (record := record_of(connection)) is not None:
            shown = record.on_server.shown.items()
            driver_defaults.give(connection, [Assignment(name, pristine) for name, (_, pristine) in shown])
