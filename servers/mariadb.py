"""A MariaDB primary with a replica."""

from servers.mariadb_server import MISSING, MariaDBServer, available
from servers.pair import Pair

__all__ = ["MISSING", "MariaDBCluster", "MariaDBServer", "available"]


class MariaDBCluster(Pair[MariaDBServer]):
    """A primary and its replica; `primary` and `standby` name the roles of the moment."""

    server = MariaDBServer
