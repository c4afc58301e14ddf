"""MySQL, as its administrator sees it: what it calls or does otherwise than MariaDB."""

from collections.abc import Mapping
from types import MappingProxyType

import pytest

from .mariadb import MariaDB


class MySQL(MariaDB):
    """A MySQL cluster, as one test uses it."""

    servers, system = "running_mysql", "mysql"
    # A SLEEP that is ended gives 1, and no error; one below another select gives the error.
    refuses_when_cold = True
    limited = "SELECT COUNT(*) FROM (SELECT SLEEP(0.02) FROM information_schema.columns LIMIT 5000) AS slow"
    asked: Mapping[str, str] = MappingProxyType(
        {
            "autocommit": "SELECT @@session.autocommit",
            "read_only": "SELECT @@session.transaction_read_only",
            "isolation_level": "SELECT @@session.transaction_isolation",
        }
    )
    in_effect = "SELECT @@session.transaction_read_only, @@session.transaction_isolation"
    ends_statements: Mapping[str, str] = MappingProxyType({"init_command": "SET max_execution_time=50"})

    @property
    def ends_idle_transactions(self) -> Mapping[str, str]:  # type: ignore[override]
        """MySQL ends idle sessions only."""
        pytest.skip("MySQL has no limit of idle transactions")
