"""Real PostgreSQL, MariaDB and MySQL servers, a pooler and a breakable network, for tests, demo and benchmarks.

Knows nothing of the library that is tested with them.
"""

from servers.galera import GaleraCluster, GaleraNode
from servers.mariadb import MariaDBCluster, MariaDBServer
from servers.mysql import MySQLCluster, MySQLServer
from servers.pgbouncer import PgBouncer
from servers.postgresql import Cluster
from servers.proxy import Proxy
from servers.server import Server

__all__ = [
    "Cluster",
    "GaleraCluster",
    "GaleraNode",
    "MariaDBCluster",
    "MariaDBServer",
    "MySQLCluster",
    "MySQLServer",
    "PgBouncer",
    "Proxy",
    "Server",
]
