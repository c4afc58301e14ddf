"""What the suite asks the servers themselves, past the driver under test: one file per database."""

from .mariadb import MariaDB
from .postgresql import PostgreSQL
from .sqlite import SQLite

__all__ = ["MariaDB", "PostgreSQL", "SQLite"]
