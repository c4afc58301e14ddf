"""Galera and Group Replication, as their administrator sees them: one question goes to all servers."""

from typing import Any

from contract.sites import MariaDB, MySQL


class Clustered(MariaDB):
    """A cluster, as one test uses it."""

    in_doubt = ("1180", "3100")  # passes as it is where the server serves again when the wrapper asks
    key: str  # what the cluster knows a row by: it needs one, which does not refuse a row that is written twice

    def sql(self, text: str, server: Any = None) -> list[tuple[str | None, ...]]:
        if server is None and text.startswith("SELECT"):
            return self.cluster.rows(text)  # type: ignore[attr-defined, no-any-return]
        return super().sql(text, server)

    def make_table(self) -> str:
        name = f"rows_of_{self.name}"
        self.sql(f"CREATE TABLE {name} (id int, row_key {self.key} PRIMARY KEY)")
        return name


class OnGalera(Clustered):
    """Three nodes of Galera, on which numbers of their own would meet when one leaves or comes back."""

    key = "varchar(36) DEFAULT (UUID()) INVISIBLE"


class OnGroup(Clustered, MySQL):
    """Three members of a group, which has one primary."""

    key = "bigint INVISIBLE AUTO_INCREMENT"
