"""What the suite asks the servers themselves, past the driver under test: one file per database."""

from .mariadb import MariaDB
from .postgresql import PostgreSQL

__all__ = ["MariaDB", "PostgreSQL"]
