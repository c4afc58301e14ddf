"""One MySQL server: how it is set up, how it replicates, and which passwords it knows by heart.

It does not know what it has in common with a MariaDB server (replicating.py), nor where its programs are
(mysql_programs.py).
"""

import functools
from pathlib import Path
from typing import Final, Self

from servers import binaries
from servers.guard import Folder
from servers.mysql_programs import missing, programs
from servers.replicating import REPLICATION, ReplicatingServer
from servers.server import ServerError

__all__ = ["MySQLServer", "available", "missing"]

# Without TLS proxies read along; `Pair(...)` takes other options. mysqlx would need a port of its own. Offline until
# all accounts that log in without TLS can do so: a driver that looks for a server would be refused for good.
SETTINGS: Final = """
offline-mode=ON
tls-version=
mysqlx=OFF
secure-file-priv=NULL
gtid-mode=ON
enforce-gtid-consistency=ON
innodb-redo-log-capacity=8M
innodb-use-native-aio=OFF
replica-net-timeout=5
relay-log-recovery=ON
""".split()

SIDES: Final = ("source", "replica")  # of semi-synchronous replication
FOR_EVER: Final = 3600000  # milliseconds


def available() -> bool:
    """Return True if all that is needed is on this machine."""
    return programs() is not None


def _programs() -> tuple[str, str]:
    if found := programs():
        return found
    raise ServerError(missing())


class MySQLServer(ReplicatingServer):
    """One server in a folder of its own."""

    replica = "REPLICA"

    def __init__(self, folder: Path, name: str, number: int) -> None:
        """Start nothing: create() or copy() sets the server up."""
        super().__init__(folder, name, number)
        self._accounts: dict[str, str] = {}
        self._warm: set[tuple[str, str]] = set()

    @classmethod
    def require(cls) -> None:
        """Check that MySQL is on this machine."""
        _programs()

    def create(self) -> None:
        """Set up a new empty server."""
        self.take(_initialized())

    def take(self, data: Path) -> None:
        """Take the files of a server that does not run, but for what names that one."""
        super().take(data)
        (self.data / "auto.cnf").unlink(missing_ok=True)

    def _command(self) -> list[str]:
        own = [*SETTINGS, f"super-read-only={int(self.source is not None)}"]
        return [_programs()[0], "--no-defaults", *(f"--{setting}" for setting in own)]

    def _client(self) -> list[str]:
        return [_programs()[1], "--no-defaults"]

    def start(self) -> None:
        """Start the server in the role it had, and wait until the accounts that it has to remember can log in."""
        if self.alive:
            return
        super().start()
        self._warm.clear()
        for user, password in self._accounts.items():
            self._log_in(user, password)
        self.sql("SET GLOBAL offline_mode=0", "")

    def remember(self, user: str, password: str) -> None:
        """Let an account log in without TLS and without the server's public key, also after the next starts.

        `caching_sha2_password` needs a digest for it, which the server keeps after a login over the Unix socket.
        """
        self._accounts[user] = password
        if (user, password) not in self._warm:
            self._log_in(user, password)

    def forget(self, user: str, changed: bool = False) -> None:
        """Do no longer so; `changed`: the account is another one by now, and would have to be remembered anew."""
        password = self._accounts.pop(user, None)
        if changed and password is not None:
            self._warm.discard((user, password))

    def forget_passwords(self) -> None:
        """Be as cold as after a start: the next login of each account needs TLS or the public key."""
        self.sql("FLUSH PRIVILEGES", "")
        self._warm.clear()

    def _log_in(self, user: str, password: str) -> None:
        try:
            self.ask(f"--user={user}", f"--password={password}", f"--socket={self.socket}", "-e", "DO 0")
        except ServerError as error:
            if "ERROR 3032" not in str(error):  # offline: refused, but only after the password was found right
                raise
        self._warm.add((user, password))

    def follow(self, source: Self) -> None:
        """Be a replica of the source from now on, from where its own files are."""
        self.source = source
        user, password = REPLICATION
        where = f"SOURCE_HOST='{source.host}', SOURCE_PORT={source.port}, SOURCE_USER='{user}'"
        tls = int(any(setting.startswith("tls-version") for setting in source.settings))
        safe = f"SOURCE_SSL={tls}, GET_SOURCE_PUBLIC_KEY=1"
        quick = f"SOURCE_CONNECT_RETRY=1, SOURCE_RETRY_COUNT=1000000, SOURCE_AUTO_POSITION=1, {safe}"
        self.sql("STOP REPLICA; RESET REPLICA ALL; SET GLOBAL super_read_only=1", "")
        self.sql(f"CHANGE REPLICATION SOURCE TO {where}, SOURCE_PASSWORD='{password}', {quick}; START REPLICA", "")

    def promote(self) -> None:
        """Make this replica a primary, with all that the old one has sent."""
        if self.source is not None:
            self.apply_received()
        self.source = None
        self.sql("STOP REPLICA; RESET REPLICA ALL; SET GLOBAL super_read_only=0; SET GLOBAL read_only=0", "")

    def position(self) -> str | None:
        """Return what it has, by its GTIDs."""
        return self.sql(r"SELECT REPLACE(@@global.gtid_executed, '\n', '')", "")[0][0]

    def synchronise(self, on: bool) -> None:
        """Have commits wait for the replica from now on, or no longer: called on both, as primary and as replica."""
        if not self.sql("SHOW VARIABLES LIKE 'rpl_semi_sync_source_enabled'", ""):
            read_only = int(self.source is not None)  # which refuses to install anything
            install = (f"INSTALL PLUGIN rpl_semi_sync_{role} SONAME 'semisync_{role}.so'" for role in SIDES)
            self.sql(f"SET GLOBAL super_read_only=0; {'; '.join(install)}; SET GLOBAL super_read_only={read_only}", "")
        given = {"source_timeout": FOR_EVER, "source_enabled": int(on and self.source is None)}
        given["replica_enabled"] = int(on and self.source is not None)
        self.sql("; ".join(f"SET GLOBAL rpl_semi_sync_{name}={value}" for name, value in given.items()), "")
        if self.source is not None:
            self.sql("STOP REPLICA IO_THREAD; START REPLICA IO_THREAD", "")

    def has_follower(self) -> bool:
        """Return True if commits wait for a replica that confirms what it gets."""
        return self.sql("SHOW STATUS LIKE 'Rpl_semi_sync_source_clients'", "") == [
            ("Rpl_semi_sync_source_clients", "1")
        ]


@functools.cache
def _initialized() -> Path:
    """Return the files of an empty server: made once in a process, for it takes seconds."""
    folder = Folder("my-empty-").path
    binaries.own(folder)
    empty = MySQLServer(folder, "data", 0)
    empty.run([_programs()[0], "--no-defaults", "--initialize-insecure", f"--datadir={empty.data}"])
    return empty.data
