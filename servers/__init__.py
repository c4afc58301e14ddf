"""Real PostgreSQL and MariaDB servers, a pooler and a breakable network before them, for tests, demos, benchmarks.

Knows nothing of the library that is tested with them.
"""

from servers.mariadb import MariaDBCluster, MariaDBServer
from servers.pgbouncer import PgBouncer
from servers.postgresql import Cluster
from servers.proxy import Proxy
from servers.server import Server

__all__ = ["Cluster", "MariaDBCluster", "MariaDBServer", "PgBouncer", "Proxy", "Server"]
