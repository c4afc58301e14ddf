"""Galera and Group Replication, as their administrator sees them: one question goes to all servers."""

from typing import Any

from contract.sites import MariaDB, MySQL

# What a row is known by to the cluster, which asks for it, and which is not in the way of a row that is written twice.
KEY = "row_key varchar(36) DEFAULT (UUID()) INVISIBLE PRIMARY KEY"


class Clustered(MariaDB):
    """A cluster, as one test uses it."""

    def sql(self, text: str, server: Any = None) -> list[tuple[str | None, ...]]:
        if server is None and text.startswith("SELECT"):
            return self.cluster.rows(text)  # type: ignore[attr-defined, no-any-return]
        return super().sql(text, server)

    def make_table(self) -> str:
        name = f"rows_of_{self.name}"
        self.sql(f"CREATE TABLE {name} (id int, {KEY})")
        return name


class OnGalera(Clustered):
    """Three nodes of Galera."""


class OnGroup(Clustered, MySQL):
    """Three members of a group."""
