"""What the suite asks the servers themselves, past the driver under test: one file per database."""

from .mariadb import MariaDB
from .mysql import MySQL
from .postgresql import PostgreSQL
from .sqlite import SQLite

__all__ = ["MariaDB", "MySQL", "PostgreSQL", "SQLite"]
