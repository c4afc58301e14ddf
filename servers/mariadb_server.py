"""One MariaDB server: where its programs are, how it is set up, and how it replicates.

It does not know what it has in common with a MySQL server (replicating.py). Debian packages: mariadb-server-core,
mariadb-client-core.
"""

import os
import shutil
from typing import Final, Self

from servers.replicating import REPLICATION, ReplicatingServer
from servers.server import ServerError

__all__ = ["MISSING", "MariaDBServer", "available"]

FOR_EVER: Final = 3600000  # milliseconds
MISSING: Final = "MariaDB is not installed: apt-get install mariadb-server-core mariadb-client-core"
FOLDER: Final = "MARIADB_BINDIR"  # names a folder with the programs, before all others
_PLACES: Final = "/usr/sbin:/usr/local/sbin:/usr/libexec:/usr/local/bin"

SETTINGS: Final = """
innodb-log-file-size=8M
aria-pagecache-buffer-size=1M
binlog-format=ROW
gtid-strict-mode=1
log-slave-updates=1
slave-net-timeout=5
skip-log-warnings
""".split()


def program(name: str) -> str | None:
    """Return where one of MariaDB's programs is."""
    places = os.pathsep.join(filter(None, (os.environ.get(FOLDER), os.environ.get("PATH"), _PLACES)))
    return shutil.which(name, path=places)


def available() -> bool:
    """Return True if all that is needed is on this machine."""
    return all(map(program, ("mariadbd", "mariadb-install-db", "mariadb")))


def _found(name: str) -> str:
    if found := program(name):
        return found
    raise ServerError(MISSING)


class MariaDBServer(ReplicatingServer):
    """One server in a folder of its own."""

    replica = "SLAVE"

    @classmethod
    def require(cls) -> None:
        """Check that MariaDB is on this machine."""
        if not available():
            raise ServerError(MISSING)

    def create(self) -> None:
        """Set up a new empty server."""
        plain = ("--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve")
        self.make_folders()
        install = [_found("mariadb-install-db"), "--no-defaults", *plain]
        self.run([*install, f"--datadir={self.data}", f"--tmpdir={self.tmp}"])

    def _command(self) -> list[str]:
        # Proxies read along where there is no TLS, which 11.4 and newer have by themselves.
        tls = () if any(setting.startswith("ssl-cert") for setting in self.settings) else ("skip-ssl",)
        return [_found("mariadbd"), "--no-defaults", *(f"--{setting}" for setting in (*SETTINGS, *tls))]

    def _client(self) -> list[str]:
        return [_found("mariadb"), "--no-defaults", "--skip-ssl"]

    def follow(self, source: Self) -> None:
        """Be a replica of the source from now on, from where its own files are."""
        self.source = source
        user, password = REPLICATION
        where = f"MASTER_HOST='{source.host}', MASTER_PORT={source.port}, MASTER_USER='{user}'"
        quick = "MASTER_CONNECT_RETRY=1, MASTER_SSL=0, MASTER_USE_GTID=slave_pos"
        self.sql("STOP SLAVE; RESET SLAVE ALL; SET GLOBAL read_only=1", "")
        self.sql("SET GLOBAL gtid_slave_pos=@@gtid_binlog_pos", "")
        self.sql(f"CHANGE MASTER TO {where}, MASTER_PASSWORD='{password}', {quick}; START SLAVE", "")

    def promote(self) -> None:
        """Make this replica a primary, with all that the old one has sent."""
        if self.source is not None:
            self.apply_received()
        self.source = None
        self.sql("STOP SLAVE; RESET SLAVE ALL; SET GLOBAL read_only=0", "")

    def position(self) -> str | None:
        """Return what it has, by its GTIDs."""
        return self.sql("SELECT @@gtid_current_pos", "")[0][0]

    def synchronise(self, on: bool) -> None:
        """Have commits wait for the replica from now on, or no longer: called on both, as primary and as replica."""
        given = {"master_timeout": FOR_EVER, "master_enabled": int(on and self.source is None)}
        given["slave_enabled"] = int(on and self.source is not None)
        after = "SET GLOBAL rpl_semi_sync_master_wait_point=AFTER_SYNC"
        self.sql("; ".join([after, *(f"SET GLOBAL rpl_semi_sync_{name}={value}" for name, value in given.items())]), "")
        if self.source is not None:
            self.sql("STOP SLAVE IO_THREAD; START SLAVE IO_THREAD", "")

    def has_follower(self) -> bool:
        """Return True if commits wait for a replica that confirms what it gets."""
        return self.sql("SHOW STATUS LIKE 'Rpl_semi_sync_master_clients'", "") == [
            ("Rpl_semi_sync_master_clients", "1")
        ]
