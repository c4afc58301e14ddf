"""`Driver` for psycopg2: as for any driver that blocks, and the detection of poolers."""

from __future__ import annotations

from instrumented_wrapper.drivers import Driver, Flow
from instrumented_wrapper.drivers.engine.sync_driver import SyncDriver
from instrumented_wrapper.drivers.server_session import pooler


class Psycopg2(SyncDriver):
    """`Driver` for psycopg2."""

    def detect_pooler(self, connection: object, like: object, deadline: float) -> Flow[bool]:
        """Find out whether `connection` keeps its server session behind a pooler."""
        driver: Driver = self
        return pooler.detect_pooler(driver, connection, like, deadline)
