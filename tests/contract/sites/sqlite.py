"""SQLite: a file. There is no server: a test that asks one for something has no meaning here, and is skipped."""

import _sqlite3  # past what is patched
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NoReturn

import pytest


class SQLite:
    """A file of the test's own, looked at by a connection that nobody watches."""

    servers = "tmp_path_factory"  # the fixture
    system = "sqlite"
    address: Mapping[str, Any] = MappingProxyType({})
    sets_in_many_ways = (
        "PRAGMA foreign_keys = ON",
        "PRAGMA Cache_Size(-4000)",
        "PRAGMA main.synchronous = extra",
        "PRAGMA secure_delete = FAST",
        "PRAGMA temp_store = 'memory'",
        "PRAGMA query_only = yes",
        "PRAGMA query_only = 0",
    )
    # a setting, what the app sets, what happens behind the wrapper's back, and what comes of it
    unseen_changes = (
        ("foreign_keys", "PRAGMA foreign_keys = ON", "PRAGMA foreign_keys = OFF", "0"),
        ("read_only", "PRAGMA query_only = ON", "PRAGMA query_only = OFF", False),
    )
    in_effect = "PRAGMA query_only"
    changed_in_effect, default_in_effect = (1,), (0,)

    def __init__(self, folders: Any, name: str) -> None:
        self.name, self.file = name, folders.mktemp(name) / "app.db"

    def __getattr__(self, name: str) -> NoReturn:
        pytest.skip(f"SQLite has no server: no {name}")

    @classmethod
    def prepare(cls, folders: Any) -> None:
        """Nothing is needed."""

    @staticmethod
    def repair(folders: Any) -> None:
        """Nothing is broken."""

    def dsn(self, *hosts: Any, **extra: Any) -> str:
        if hosts or extra:
            pytest.skip("SQLite has no server: no hosts")
        return str(self.file)

    @property
    def namespace(self) -> str:
        """The file, as the app named it."""
        return str(self.file)

    def sql(self, text: str) -> list[tuple[Any, ...]]:
        connection = _sqlite3.connect(self.file)
        try:
            return list(connection.execute(text))
        finally:
            connection.close()

    def make_table(self) -> str:
        self.sql(f"CREATE TABLE rows_of_{self.name} (id int)")
        return f"rows_of_{self.name}"

    def ids(self, table: str) -> list[int]:
        return [number for (number,) in self.sql(f"SELECT id FROM {table} ORDER BY id")]

    def sessions(self) -> list[int]:
        """A file has none."""
        return []

    def settle(self) -> None:
        """Nothing is left."""
