"""A MySQL primary with a replica."""

from servers.mysql_server import MySQLServer, available, missing
from servers.pair import Pair

__all__ = ["MySQLCluster", "MySQLServer", "available", "missing"]


class MySQLCluster(Pair[MySQLServer]):
    """A primary and its replica; `primary` and `standby` name the roles of the moment."""

    server = MySQLServer
